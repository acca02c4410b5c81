"""The layout that official pre-training writes: sparse convolutions of MinkowskiEngine, whose kernels are transposed.

A kernel is (volume, in, out), or (volume, channels) of a depthwise one, and in its flat volume the row runs fastest:
`weight[o, i, y, x] = kernel[x * k + y, i, o]`, without a flip (facts of the published conversion).
"""

from __future__ import annotations

import math

from torch import Tensor

from convnextv2.weights.layouts.layout import Layout


def dense_weight(kernel: Tensor) -> Tensor:
    """Convert (k * k, in, out) to (out, in, k, k), or (k * k, C) to (C, 1, k, k); any other shape stays as it is."""
    side = math.isqrt(len(kernel)) if kernel.ndim in (2, 3) else 0
    if not side or side * side != len(kernel):
        return kernel
    if kernel.ndim == 2:
        kernel = kernel[:, None, :]
    inputs, outputs = kernel.shape[1:]
    return kernel.permute(2, 1, 0).reshape(outputs, inputs, side, side).transpose(-1, -2).contiguous()


def sparse_kernel(weight: Tensor, *, depthwise: bool) -> Tensor:
    """Convert back: (out, in, k, k) to (k * k, in, out), and (C, 1, k, k) of a depthwise one to (k * k, C)."""
    kernel = weight.transpose(-1, -2).flatten(2).permute(2, 1, 0)
    return (kernel[:, 0] if depthwise else kernel).contiguous()


def _inward(name: str, tensor: Tensor) -> Tensor:
    return dense_weight(tensor) if _is_sparse(name) else tensor


def _outward(name: str, tensor: Tensor) -> Tensor:
    if _is_sparse(name):
        return sparse_kernel(tensor, depthwise=name.endswith("dwconv.weight"))
    of_convolution = name.endswith("dwconv.bias") or (name.endswith(".1.bias") and not name.endswith(".0.1.bias"))
    if ".grn." in name or (of_convolution and name.startswith(("stages.", "downsample_layers."))):
        return tensor.reshape(1, -1)
    return tensor


def _is_sparse(name: str) -> bool:
    """Whether an official name is that of a sparse convolution's weight; the stem is dense."""
    return name.endswith("dwconv.weight") or (
        name.startswith("downsample_layers.") and name.endswith(".1.weight") and not name.endswith(".0.1.weight")
    )


MINKOWSKI = Layout(
    "minkowski",
    "official pre-training (MinkowskiEngine)",
    pairs=(
        ("downsample_layers.0.{j}.{leaf}", "downsample_layers.0.{j}.{leaf}"),
        ("downsample_layers.{k}.0.{leaf}", "downsample_layers.{k}.0.ln.{leaf}"),
        ("downsample_layers.{k}.1.weight", "downsample_layers.{k}.1.kernel"),
        ("downsample_layers.{k}.1.bias", "downsample_layers.{k}.1.bias"),
        ("stages.{s}.{b}.dwconv.weight", "stages.{s}.{b}.dwconv.kernel"),
        ("stages.{s}.{b}.dwconv.bias", "stages.{s}.{b}.dwconv.bias"),
        ("stages.{s}.{b}.norm.{leaf}", "stages.{s}.{b}.norm.ln.{leaf}"),
        ("stages.{s}.{b}.pwconv1.{leaf}", "stages.{s}.{b}.pwconv1.linear.{leaf}"),
        ("stages.{s}.{b}.pwconv2.{leaf}", "stages.{s}.{b}.pwconv2.linear.{leaf}"),
        ("stages.{s}.{b}.grn.gamma", "stages.{s}.{b}.grn.gamma"),
        ("stages.{s}.{b}.grn.beta", "stages.{s}.{b}.grn.beta"),
    ),
    prefixes=("encoder.",),
    writes="encoder.",
    inward=_inward,
    outward=_outward,
)
