"""The ConvNeXt block, written once over sites; V2 with GRN, V1 with LayerScale (Woo et al. 2023, figure 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnextv2 import ops
from convnextv2.models.grid import Grid

LAYER_NORM_EPS = 1e-6


class Depthwise(nn.Conv2d):
    """The 7x7 depthwise convolution over the sites of a grid, channels last."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, kernel_size=7, padding=3, groups=dim)

    def forward(self, input: Tensor, grid: Grid) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert self.bias is not None
        return grid.depthwise(input, self.weight, self.bias)


class GRN(nn.Module):
    """Global response normalisation with its two parameters, (1, 1, 1, C) each and zero at the start."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, h: Tensor, grid: Grid) -> Tensor:
        """`grn(gelu(h))` over the existing sites of each picture; one operation, as GRN always follows GELU."""
        return ops.gelu_grn(grid.existing(h), self.gamma, self.beta)


class Block(nn.Module):
    """Depthwise 7x7, LayerNorm, expand four times, GELU, GRN (V2), project, LayerScale (V1), drop path, add."""

    def __init__(self, dim: int, *, grn: bool = True, drop_path_rate: float = 0.0, layer_scale: float = 1e-6) -> None:
        super().__init__()
        self.dwconv = Depthwise(dim)
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.grn = GRN(4 * dim) if grn else None
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = None if grn else nn.Parameter(layer_scale * torch.ones(dim))
        self.drop_path_rate = drop_path_rate

    def forward(self, x: Tensor, grid: Grid, keep: Tensor | None = None) -> Tensor:
        """x: (B, ..., C) in the layout of `grid`; returns the same.

        keep: numbers of the sites whose output is wanted, counted over all but the channel axis; then
        (len(keep), C) comes back. Only without drop path, which needs whole pictures.
        """
        assert keep is None or not self.drop_path_rate
        shortcut = x
        x = self.dwconv(x, grid)
        x = self.norm(x)
        x = self.pwconv1(x)  # (B, ..., 4C)
        x = F.gelu(x) if self.grn is None else self.grn(x, grid)
        if keep is not None:
            x, shortcut = (ops.gather_rows(t.flatten(0, -2), keep) for t in (x, shortcut))
        x = self.pwconv2(x)
        if self.gamma is not None:
            x = x * self.gamma
        return shortcut + drop_path(x, self.drop_path_rate, self.training)


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drop the branch of whole pictures with probability `rate`, and scale the others up to keep the mean.

    x: (B, ...), one picture an entry of the first axis (stochastic depth, Huang et al. 2016).
    """
    if rate == 0.0 or not training:
        return x
    keep = x.new_empty((len(x),) + (1,) * (x.ndim - 1)).bernoulli_(1 - rate)
    return x * keep / (1 - rate)
