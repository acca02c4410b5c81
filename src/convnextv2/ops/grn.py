"""Global response normalisation (Woo et al. 2023, section 3.2, algorithm 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from convnextv2.ops.dispatch import implementation

EPS = 1e-6


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
    if implementation(x) == "fused":
        y = _FusedGRN.apply(sites, gamma.flatten(), beta.flatten())
    else:
        y = _reference(sites, gamma.flatten(), beta.flatten())
    return y.view(x.shape)


def _reference(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    exact = _statistics_dtype(x)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=exact)  # (B, 1, C); subgradient 0 at 0
    n = norm / (norm.mean(-1, keepdim=True) + EPS)
    return (gamma * (x * n) + beta + x).to(x.dtype)


def _statistics_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class _FusedGRN(torch.autograd.Function):
    """Two passes forward (norm, scale) and three backward, where plain autograd needs about nine.

    With the scale `s = gamma * n + 1` the layer is `y = x * s + beta`. Backward, with `d_s = sum over sites of
    d_y * x` and `m = mean(g) + eps`:  `d_gamma = sum_b d_s * n`,  `d_n = d_s * gamma`,
    `d_g = (d_n - mean_c(d_n * n)) / m`,  `d_x = d_y * s + x * d_g / g`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=_statistics_dtype(x))
        mean = norm.mean(-1, keepdim=True) + EPS
        n = norm / mean
        scale = gamma * n + 1
        ctx.save_for_backward(x, gamma, norm, mean, n, scale)
        return torch.addcmul(beta.to(x.dtype), x, scale.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, gamma, norm, mean, n, scale = ctx.saved_tensors
        d_scale = (dy * x).sum(1, keepdim=True, dtype=norm.dtype)
        d_gamma = (d_scale * n).sum((0, 1))
        d_beta = dy.sum((0, 1), dtype=norm.dtype)
        d_n = d_scale * gamma
        d_norm = (d_n - (d_n * n).mean(-1, keepdim=True)) / mean
        along_x = torch.where(norm > 0, d_norm / norm, 0)
        dx = (dy * scale.to(dy.dtype)).addcmul_(x, along_x.to(x.dtype))
        return dx, d_gamma.to(gamma.dtype), d_beta.to(gamma.dtype)
