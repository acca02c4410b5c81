"""Global response normalisation (Woo et al. 2023, section 3.2, algorithm 1), and GELU with it in one operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from convnextv2.ops.dispatch import implementation

EPS = 1e-6

# How many values are worked on at a time on a CPU: what one core's second-level cache holds with its temporaries.
_CHUNK = 1 << 18


def grn(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Let the channels of each picture compete: `gamma * (x * n) + beta + x`.

    With `g_c = ||x_c||_2` over all sites of one picture, `n_c = g_c / (mean over channels of g + 1e-6)`.

    x: (B, ..., C), one picture an entry of the first axis; sites that do not exist must hold zero.
    gamma, beta: C values each, in any shape, for instance (1, 1, 1, C).

    The statistics are taken in float32 or better. Where a channel of a picture is zero everywhere its norm
    has no derivative; the subgradient zero is taken, so gradients stay finite (GELU underflows to exact zeros
    in bf16, and the plain root of a zero sum would turn the run into NaN).
    """
    sites = x.flatten(1, -2)  # (B, S, C)
    norm = torch.linalg.vector_norm(sites, dim=1, keepdim=True, dtype=_exact(x))  # (B, 1, C); subgradient 0 at 0
    n = norm / (norm.mean(-1, keepdim=True) + EPS)
    gamma, beta = gamma.flatten(), beta.flatten()
    return (gamma * (sites * n) + beta + sites).to(x.dtype).view(x.shape)


def gelu_grn(h: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """`grn(gelu(h), gamma, beta)`, shapes as for `grn`. Sites that do not exist must hold zero (GELU keeps it)."""
    if implementation(h) == "reference":
        return grn(F.gelu(h), gamma, beta)
    y = _FusedGeluGRN.apply(h.flatten(1, -2), gamma.flatten(), beta.flatten())
    return y.view(h.shape)


def _exact(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class _FusedGeluGRN(torch.autograd.Function):
    """A few pictures at a time, so that all passes but the first find their values in the cache.

    Only the input is kept for the backward pass; GELU is computed again, which costs less than keeping it.

    With `x = gelu(h)` and the scale `s = gamma * n + 1` the layer is `y = x * s + beta`. Backward, with
    `d_s = sum over sites of d_y * x` and `m = mean(g) + eps`:  `d_gamma = sum_b d_s * n`,  `d_n = d_s * gamma`,
    `d_g = (d_n - mean_c(d_n * n)) / m`,  `d_x = d_y * s + x * d_g / g`.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        batch, _, channels = h.shape
        y = torch.empty_like(h)
        norm = h.new_empty((batch, 1, channels), dtype=_exact(h))
        for part in _chunks(h):
            x = F.gelu(h[part].to(norm.dtype))
            norm[part] = x.square().sum(1, keepdim=True).sqrt_()
            n = norm[part] / (norm[part].mean(-1, keepdim=True) + EPS)
            y[part] = x.mul_(gamma * n + 1).add_(beta)
        ctx.save_for_backward(h, gamma, norm)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        h, gamma, norm = ctx.saved_tensors
        mean = norm.mean(-1, keepdim=True) + EPS
        n = norm / mean
        scale = gamma * n + 1
        dh = torch.empty_like(h)
        d_scale = torch.empty_like(norm)
        d_beta = torch.zeros_like(norm[0, 0])
        for part in _chunks(h):
            h_part, dy_part = h[part].to(norm.dtype), dy[part].to(norm.dtype)
            x = F.gelu(h_part)
            d_scale[part] = (dy_part * x).sum(1, keepdim=True)
            d_beta += dy_part.sum((0, 1))
            d_n = d_scale[part] * gamma
            d_norm = (d_n - (d_n * n[part]).mean(-1, keepdim=True)) / mean[part]
            along_x = torch.where(norm[part] > 0, d_norm / norm[part], 0)
            dx = x.mul_(along_x).addcmul_(dy_part, scale[part])
            dh[part] = torch.ops.aten.gelu_backward(dx, h_part)
        d_gamma = (d_scale * n).sum((0, 1))
        return dh, d_gamma.to(gamma.dtype), d_beta.to(gamma.dtype)


def _chunks(h: Tensor) -> Iterator[slice]:
    """Slices over pictures. A graphics card gets all of them at once."""
    batch, sites, channels = h.shape
    step = max(1, _CHUNK // (sites * channels)) if h.device.type == "cpu" else batch
    for start in range(0, batch, step):
        yield slice(start, start + step)
