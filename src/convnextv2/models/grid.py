"""Grids: which sites exist, who their neighbours are, and which picture they belong to.

A block is written once, over sites, and asks its grid for three things only:

    depthwise(x, weight, bias)   the 7x7 convolution; neighbours that do not exist count as zero
    existing(x)                  x with zeros at sites that do not exist, so that sums over sites are right
    coarser()                    the grid after a 2x2 downsampling

Three grids give the same function over the same visible sites:

    DenseGrid    (B, H, W, C)         every site exists: inference and supervised training
    MaskedGrid   (B, H, W, C)         hidden sites are kept at zero: the readable reference of sparse convolution
    PackedGrid   (B, V, u, u, C)      only visible cells are stored, u x u sites each: sparse pre-training
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from convnextv2 import ops


class Grid(Protocol):
    """What a block needs to know about the place it works in."""

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor: ...

    def existing(self, x: Tensor) -> Tensor: ...

    def coarser(self) -> Grid: ...


class DenseGrid:
    """Every site exists. Features (B, H, W, C)."""

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ops.depthwise(x, weight, bias)

    def existing(self, x: Tensor) -> Tensor:
        return x

    def coarser(self) -> DenseGrid:
        return self


class MaskedGrid:
    """Some cells are hidden; their sites are stored but hold zero wherever it matters. Features (B, H, W, C).

    mask: (B, grid_h, grid_w) boolean, True is hidden.  unit: sites on a side of one cell at this resolution.
    """

    def __init__(self, mask: Tensor, unit: int) -> None:
        self.mask, self.unit = mask, unit
        self.hidden = mask.repeat_interleave(unit, 1).repeat_interleave(unit, 2)[..., None]  # (B, H, W, 1)

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self.existing(ops.depthwise(self.existing(x), weight, bias))

    def existing(self, x: Tensor) -> Tensor:
        return x.masked_fill(self.hidden, 0)

    def coarser(self) -> MaskedGrid:
        return MaskedGrid(self.mask, self.unit // 2)


@dataclass(frozen=True)
class Cells:
    """Which cells of a batch are visible and which are hidden, as lists of cell numbers.

    The number of a cell is `picture * grid_h * grid_w + row * grid_w + column`. Pictures may hide different numbers of
    cells: every picture then has as many places as the one with the most visible cells, and `exists` tells the real
    ones.

    shape: (B, grid_h, grid_w).  visible: (B, V); B * grid_h * grid_w, one past the last, in a place without a cell.
    exists: (B, V) boolean, or None if all do.  hidden: (number of hidden cells,).
    """

    shape: torch.Size
    visible: Tensor
    exists: Tensor | None
    hidden: Tensor

    @staticmethod
    def of(mask: Tensor, device: torch.device) -> Cells:
        """The cells of a mask, (B, grid_h, grid_w) boolean, True is hidden; the lists lie on `device`."""
        batch, rows, columns = mask.shape
        flat = mask.flatten(1)
        counts = (~flat).sum(1)
        most = int(counts.max())
        visible = flat.to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        visible = visible + torch.arange(batch, device=mask.device)[:, None] * (rows * columns)
        exists = None
        if int(counts.min()) < most:
            exists = torch.arange(most, device=mask.device) < counts[:, None]
            visible, exists = visible.where(exists, mask.numel()), exists.to(device)
        return Cells(mask.shape, visible.to(device), exists, flat.flatten().nonzero().flatten().to(device))


class PackedGrid:
    """Only visible cells are stored. Features (B, V, u, u, C), V cells a picture of u x u sites.

    Everything but the depthwise convolution is local to a site or, for the 2x2 downsampling, to a cell.
    For the convolution the cells are laid out on an empty canvas (B, H, W, C) and taken off it afterwards.
    """

    def __init__(self, cells: Cells, unit: int) -> None:
        self.cells, self.unit = cells, unit
        batch, rows, columns = cells.shape
        self.canvas = (batch, rows * unit, columns * unit)
        # The canvas is also a table: its line `(picture * H + y) * columns + column` holds the u sites that the cell
        # in that column has on the canvas row y. So a cell is u lines, `columns` apart, and its sites lie in them
        # as they lie in (u, u, C). `lines` are the lines of all visible cells, in order.
        picture_row = torch.div(cells.visible, columns, rounding_mode="floor")  # picture * grid_h + row
        first = picture_row * (unit * columns) + cells.visible % columns
        steps = torch.arange(unit, device=first.device) * columns
        self.lines = (first[..., None] + steps).flatten()
        self.length = batch * rows * unit * columns
        # Places without a cell are numbered one past the last: they are laid on lines of their own, then dropped.
        self.spare = 0 if cells.exists is None else unit * columns

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        table = ops.scatter_rows(x.reshape(len(self.lines), -1), self.lines, self.length + self.spare)
        y = ops.depthwise(table[: self.length].view(*self.canvas, -1), weight, bias)
        table = y.reshape(self.length, -1)
        if self.spare:
            table = torch.cat([table, table.new_zeros(self.spare, table.shape[1])])
        return ops.gather_rows(table, self.lines).view(x.shape)

    def existing(self, x: Tensor) -> Tensor:
        if self.cells.exists is None:
            return x
        return x.masked_fill(~self.cells.exists[:, :, None, None, None], 0)

    def coarser(self) -> PackedGrid:
        return PackedGrid(self.cells, self.unit // 2)
