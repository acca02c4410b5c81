"""The 7x7 depthwise convolution, channels last."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from convnextv2.ops.dispatch import implementation


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Depthwise convolution, stride 1, zero padding to the same size.

    x: (B, H, W, C).  weight: (C, 1, k, k) with odd k, cross-correlation as in PyTorch.  bias: (C,).
    Returns (B, H, W, C). Under autocast it runs in the autocast type, as every convolution does.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    # For CPUs alone: their library convolves forward much faster than backward, and not in double precision.
    if x.device.type == "cpu" and x.dtype != torch.float64 and implementation(x) == "fused":
        return _FusedDepthwise.apply(x, weight, bias)
    return _convolve(x, weight, bias)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x_nchw = x.permute(0, 3, 1, 2)  # a view: the memory stays channels last
    y_nchw = F.conv2d(x_nchw, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))
    return y_nchw.permute(0, 2, 3, 1)


class _FusedDepthwise(torch.autograd.Function):
    """Both gradients as forward depthwise convolutions, which CPU libraries do best.

    The input's gradient is the convolution of `dy` with the mirrored kernel. The weight's gradient correlates
    each channel of each picture with `dy`: a depthwise convolution of (picture, channel) pairs in which
    `dy` is the kernel and the 7x7 result is the gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        dy = dy.contiguous()
        dx = _convolve(dy, weight.flip(2, 3), None) if ctx.needs_input_grad[0] else None
        return dx, _weight_gradient(x, dy, weight), dy.sum((0, 1, 2))


def _weight_gradient(x: Tensor, dy: Tensor, weight: Tensor) -> Tensor:
    batch, height, width, channels = x.shape
    pairs = x.permute(1, 2, 0, 3).reshape(height, width, batch * channels)  # pairs last
    kernels = dy.permute(0, 3, 1, 2).reshape(batch * channels, 1, height, width)
    per_picture = F.conv2d(
        pairs.permute(2, 0, 1)[None], kernels, padding=weight.shape[-1] // 2, groups=batch * channels
    )
    return per_picture.view(batch, *weight.shape).sum(0)
