"""Linear maps of sites, and the pointwise half of a ConvNeXt V2 block as one operation for inference."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnextv2.ops.grn import EPS, gelu_grn
from convnextv2.ops.registry import Operation, register

# How many hidden values are worked on at a time: what the caches of a few cores hold.
_CHUNK = 1 << 20

# Below this many rows a matrix product is bound by reading its weight, and a convolution's set-up costs more.
_FEWEST_ROWS = 32


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `x @ weight.T + bias`.  x: (..., in).  weight: (out, in).  bias: (out,) or None.  Returns (..., out)."""
    return _linear(x, weight, bias)


def residual_mlp(
    x: Tensor,
    shortcut: Tensor,
    expand: tuple[Tensor, Tensor],
    grn: tuple[Tensor, Tensor],
    project: tuple[Tensor, Tensor],
) -> Tensor:
    """Return `shortcut + project(gelu_grn(expand(x)))`, the second half of a block (Woo et al. 2023, figure 5).

    x, shortcut: (B, ..., C), one image an entry of the first axis, all sites existing.  expand: weight (4C, C) and
    bias (4C,).  grn: gamma and beta, 4C values each.  project: weight (C, 4C) and bias (C,).  Returns (B, ..., C).
    """
    return _residual_mlp(x, shortcut, expand, grn, project)


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution: its library uses all vector instructions on CPUs of any vendor."""
    *lead, channels = x.shape
    rows = x.reshape(1, -1, 1, channels).permute(0, 3, 1, 2)  # (1, in, rows, 1), channels last
    y = F.conv2d(rows, weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*lead, len(weight))


def _plain_mlp(
    x: Tensor,
    shortcut: Tensor,
    expand: tuple[Tensor, Tensor],
    grn: tuple[Tensor, Tensor],
    project: tuple[Tensor, Tensor],
) -> Tensor:
    return shortcut + linear(gelu_grn(linear(x, *expand), *grn), *project)


def _mlp_in_cache(
    x: Tensor,
    shortcut: Tensor,
    expand: tuple[Tensor, Tensor],
    grn: tuple[Tensor, Tensor],
    project: tuple[Tensor, Tensor],
) -> Tensor:
    """A few images at a time from the first product to the sum, in place: hidden values never leave the cache."""
    gamma, beta = (p.flatten() for p in grn)
    sites = x.flatten(1, -2)  # (B, S, C)
    shortcuts = shortcut.flatten(1, -2)
    step = max(1, _CHUNK // max(1, sites.shape[1] * len(gamma)))
    y = torch.empty(sites.shape, dtype=x.dtype, device=x.device)
    for start in range(0, len(sites), step):
        part = slice(start, start + step)
        h = torch.ops.aten.gelu_(_convolved(sites[part], *expand))
        norm = h.square().sum(1, keepdim=True).sqrt_()  # (b, 1, 4C)
        scale = norm.div_(norm.mean(-1, keepdim=True).add_(EPS)).mul_(gamma).add_(1)
        torch.addcmul(beta, h, scale, out=h)
        torch.add(shortcuts[part], _convolved(h, *project), out=y[part])
    return y.view(x.shape)


def _only_inference(x: Tensor) -> str | None:
    if torch.is_grad_enabled():
        return "gradients are recorded"
    if x.device.type != "cpu":
        return f"for CPUs only, not {x.device.type}"
    if x.dtype != torch.float32:
        return f"for float32 only, not {x.dtype}".replace("torch.", "")
    if torch.is_autocast_enabled("cpu"):
        return "autocast chooses the type"
    if torch.compiler.is_compiling():
        return "the compiler fuses the reference"
    return None if torch.backends.mkldnn.is_available() else "this build of torch has no oneDNN"


def _accepts_linear(x: Tensor, weight: Tensor, *_: Any) -> str | None:
    reason = _only_inference(x)
    if reason is None and x.numel() < _FEWEST_ROWS * weight.shape[1]:
        return f"fewer than {_FEWEST_ROWS} rows"
    return reason


def _accepts_mlp(x: Tensor, *_: Any) -> str | None:
    return _only_inference(x)


_linear = Operation("linear", F.linear)
_residual_mlp = Operation("residual_mlp", _plain_mlp)
register("linear", "convolution", _accepts_linear, _convolved)
register("residual_mlp", "in_cache", _accepts_mlp, _mlp_in_cache)
