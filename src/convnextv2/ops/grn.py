"""Global response normalisation (Woo et al. 2023, section 3.2, algorithm 1), and GELU with it in one operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnextv2.ops.registry import Operation, derivatives, register

EPS = 1e-6

# How many values are worked on at a time on a CPU: what one core's second-level cache holds with its temporaries.
_CHUNK = 1 << 18


def grn(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Return `gamma * (x * n) + beta + x`: the channels of each image compete.

    With `g_c = ||x_c||_2` over all sites of one image, `n_c = g_c / (mean over channels of g + 1e-6)`.

    x: (B, ..., C), one image an entry of the first axis; sites that do not exist must hold zero.
    gamma, beta: C values each, in any shape, for instance (1, 1, 1, C).

    The statistics are taken in float32 or better. If a channel of an image is zero everywhere, its norm
    has no derivative; the subgradient zero is taken, so gradients stay finite (GELU underflows to exact zeros
    in bf16, and the plain root of a zero sum would turn the run into NaN).
    """
    sites = x.flatten(1, -2)  # (B, S, C)
    norm = torch.linalg.vector_norm(sites, dim=1, keepdim=True, dtype=_exact(x))  # (B, 1, C); subgradient 0 at 0
    n = norm / (norm.mean(-1, keepdim=True) + EPS)
    gamma, beta = gamma.flatten(), beta.flatten()
    return (gamma * (sites * n) + beta + sites).to(x.dtype).view(x.shape)


def gelu_grn(h: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Return `grn(gelu(h), gamma, beta)`, shapes as for `grn`; absent sites must hold zero, which GELU keeps."""
    return _gelu_grn(h, gamma, beta)


def _plain(h: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return grn(F.gelu(h), gamma, beta)


def _exact(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _forward(h: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the norms (B, 1, C) of h (B, S, C), a few images at a time.

    All passes but the first find their values in the cache.
    """
    batch, _, channels = h.shape
    y = torch.empty_like(h)
    norm = h.new_empty((batch, 1, channels), dtype=_exact(h))
    for part in _chunks(h):
        x = F.gelu(h[part].to(norm.dtype))
        norm[part] = x.square().sum(1, keepdim=True).sqrt_()
        n = norm[part] / (norm[part].mean(-1, keepdim=True) + EPS)
        x.mul_(gamma * n + 1)
        if y.dtype == x.dtype:
            torch.add(x, beta, out=y[part])
        else:
            y[part] = x.add_(beta)
    return y, norm


def _backward(dy: Tensor, h: Tensor, gamma: Tensor, norm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of h, gamma and beta.

    With `x = gelu(h)` and the scale `s = gamma * n + 1` the layer is `y = x * s + beta`. Backward, with
    `d_s = sum over sites of d_y * x` and `m = mean(g) + eps`:  `d_gamma = sum_b d_s * n`,  `d_n = d_s * gamma`,
    `d_g = (d_n - mean_c(d_n * n)) / m`,  `d_x = d_y * s + x * d_g / g`.
    """
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
        if dh.dtype == dx.dtype:
            torch.ops.aten.gelu_backward.grad_input(dx, h_part, grad_input=dh[part])
        else:
            dh[part] = torch.ops.aten.gelu_backward(dx, h_part)
    d_gamma = (d_scale * n).sum((0, 1))
    return dh, d_gamma.to(gamma.dtype), d_beta.to(gamma.dtype)


class _Fused(torch.autograd.Function):
    """Keeps only the input for the backward pass; GELU is computed again, which costs less than keeping it."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        y, norm = _forward(h, gamma, beta)
        ctx.save_for_backward(h, gamma, norm)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        h, gamma, norm = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients will be differentiated
            beta = torch.zeros_like(gamma, requires_grad=True)  # no gradient depends on its value
            return derivatives(_plain, (h, gamma, beta), dy)
        return _backward(dy, h, gamma, norm)


def _fused(h: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return _Fused.apply(h.flatten(1, -2), gamma.flatten(), beta.flatten()).view(h.shape)


@torch.library.custom_op("convnextv2::gelu_grn", mutates_args=())
def _operator(h: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    return _forward(h, gamma, beta)


@torch.library.custom_op("convnextv2::gelu_grn_backward", mutates_args=())
def _backward_operator(dy: Tensor, h: Tensor, gamma: Tensor, norm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _backward(dy, h, gamma, norm)


@_operator.register_fake
def _(h: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(h), h.new_empty((len(h), 1, h.shape[-1]), dtype=_exact(h))


@_backward_operator.register_fake
def _(dy: Tensor, h: Tensor, gamma: Tensor, norm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(h), torch.empty_like(gamma), torch.empty_like(gamma)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    h, gamma, _ = inputs
    ctx.save_for_backward(h, gamma, output[1])
    ctx.mark_non_differentiable(output[1])


def _derive(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _backward_operator(dy, *ctx.saved_tensors)


_operator.register_autograd(_derive, setup_context=_save)


def _compiled(h: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return _operator(h.flatten(1, -2), gamma.flatten(), beta.flatten())[0].view(h.shape)


def _accepts(*_: Any) -> str | None:
    return None if torch.is_grad_enabled() else "no gradients are recorded"


def _chunks(h: Tensor) -> Iterator[slice]:
    """Slices over images. A GPU gets all of them at once."""
    batch, sites, channels = h.shape
    step = max(1, _CHUNK // (sites * channels)) if h.device.type == "cpu" else batch
    for start in range(0, batch, step):
        yield slice(start, start + step)


_gelu_grn = Operation("gelu_grn", _plain)
register("gelu_grn", "fused", _accepts, _fused, compiled=_compiled)
