"""Grids: which sites exist, which are neighbours, and which image they belong to.

A block is written once, over sites, and needs only these functions of its grid, besides `dense`:

    depthwise(x, weight, bias)   the 7x7 convolution; neighbours that do not exist count as zero
    zero_absent(x)               x with zeros at sites that do not exist, so that sums over sites are right
    coarser()                    the grid after a 2x2 downsampling
    sites(maps), maps(x)         from maps to sites, and back; views of the same memory
    dense                        True if every site of every image exists
    partial                      True if some sites do not exist though their cell does: places without data

*Maps*, (N, C, H, W), are what stages, blocks and convolutions take and return, as modules of torch do and as hooks and
other tools expect: the images, or every visible cell as an image of its own. Their memory is channels last.

Three grids give the same function over the same visible sites:

    DenseGrid    (B, H, W, C)         every site exists: inference and supervised training
    MaskedGrid   (B, H, W, C)         masked sites are kept at zero: the readable reference of sparse convolution
    PackedGrid   (B, V, u, u, C)      only visible cells are stored, u x u sites each: sparse pre-training
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from convnextv2 import ops


class Grid(Protocol):
    """What a block needs to know about the sites it works on."""

    dense: ClassVar[bool]

    @property
    def partial(self) -> bool:
        """Whether cells that exist have sites that do not."""
        ...

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the 7x7 depthwise convolution.  x: (B, ..., C); weight: (C, 1, 7, 7); bias: (C,)."""
        ...

    def zero_absent(self, x: Tensor) -> Tensor:
        """Return x, (B, ..., C), with zeros at sites that do not exist."""
        ...

    def coarser(self) -> Grid:
        """Return the grid after a 2x2 downsampling."""
        ...

    def sites(self, maps: Tensor) -> Tensor:
        """Return maps, (N, C, H, W), as sites, (B, ..., C)."""
        ...

    def maps(self, x: Tensor) -> Tensor:
        """Return sites, (B, ..., C), as maps, (N, C, H, W)."""
        ...


class _ImageGrid:
    """What grids of whole images share: an image's map holds all of its sites."""

    def sites(self, maps: Tensor) -> Tensor:
        """Return (B, C, H, W) as (B, H, W, C)."""
        return maps.permute(0, 2, 3, 1)

    def maps(self, x: Tensor) -> Tensor:
        """Return (B, H, W, C) as (B, C, H, W)."""
        return x.permute(0, 3, 1, 2)


class DenseGrid(_ImageGrid):
    """Every site exists. Features (B, H, W, C); any number of images."""

    dense: ClassVar[bool] = True

    @property
    def partial(self) -> bool:
        """Return False: every site exists."""
        return False

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve whole images."""
        return ops.depthwise(x, weight, bias)

    def zero_absent(self, x: Tensor) -> Tensor:
        """Return x unchanged."""
        return x

    def coarser(self) -> DenseGrid:
        """Return the same grid: it has no size."""
        return self


DENSE = DenseGrid()


def apply(module: nn.Module, x: Tensor, grid: Grid) -> Tensor:
    """Call a module over the sites of a grid.

    x: maps (N, C, H, W), as modules exchange them.  Over whole images that is `module(x)`, so that a part can be
    replaced or wrapped by any module of torch.
    """
    return module(x) if grid.dense else module(x, grid)


class MaskedGrid(_ImageGrid):
    """Some cells are masked; their sites are stored but hold zero wherever it matters. Features (B, H, W, C).

    mask: (B, grid_h, grid_w) boolean, True is masked.  unit: sites on a side of one cell at this resolution.
    missing: (B, H, W) boolean, sites without data in any cell; None if there are none.
    """

    dense: ClassVar[bool] = False

    def __init__(self, mask: Tensor, unit: int, missing: Tensor | None = None) -> None:
        self.mask, self.unit, self.missing = mask, unit, missing
        masked = mask.repeat_interleave(unit, 1).repeat_interleave(unit, 2)
        self.masked = (masked if missing is None else masked | missing)[..., None]  # (B, H, W, 1)

    @property
    def partial(self) -> bool:
        """Whether cells that exist have sites that do not."""
        return self.missing is not None

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve with masked sites at zero, before and after."""
        return self.zero_absent(ops.depthwise(self.zero_absent(x), weight, bias))

    def zero_absent(self, x: Tensor) -> Tensor:
        """Return x with zeros at masked sites."""
        return x.masked_fill(self.masked, 0)

    def coarser(self) -> MaskedGrid:
        """Return the grid of cells with half as many sites on a side."""
        return MaskedGrid(self.mask, self.unit // 2, None if self.missing is None else all_of_four(self.missing))


def all_of_four(missing: Tensor) -> Tensor:
    """Return which sites do not exist after a 2x2 downsampling, (..., H/2, W/2): those whose four do not."""
    return missing.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).all(-1).all(-2)


@dataclass(frozen=True)
class Cells:
    """Which cells of a batch are visible and which are masked, as lists of cell numbers.

    The number of a cell is `image * grid_h * grid_w + row * grid_w + column`.

    Ragged masks: images may have different numbers of visible cells. Every image then has as many places as the one
    with the most; `exists` is True at the places that hold a cell; the others repeat any cell, zeroed. `gather`,
    `scatter`, `real` and `spread` take care of it; nothing else has to.

    shape: (B, grid_h, grid_w).  visible: (B, V).  exists: (B, V) boolean, or None if every place holds a cell.
    masked: (number of masked cells,).  absent: (B, grid_h, grid_w) boolean, cells without data, which are neither
    visible nor masked; None if there are none.
    """

    shape: torch.Size
    visible: Tensor
    exists: Tensor | None
    masked: Tensor
    absent: Tensor | None = None

    @staticmethod
    def of(mask: Tensor, device: torch.device, absent: Tensor | None = None) -> Cells:
        """Return the cells of a mask, (B, grid_h, grid_w) boolean, True is masked; the lists lie on `device`.

        absent: of the same shape, the cells that do not exist, on the mask's device.
        """
        batch, rows, columns = mask.shape
        flat = (mask if absent is None else mask | absent).flatten(1)
        counts = (~flat).sum(1)
        most = int(counts.max())
        visible = flat.to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        visible = visible + torch.arange(batch, device=mask.device)[:, None] * (rows * columns)
        exists = None
        if int(counts.min()) < most:
            exists = (torch.arange(most, device=mask.device) < counts[:, None]).to(device)
        masked = flat if absent is None else (mask & ~absent).flatten(1)
        there = None if absent is None else absent.to(device)
        return Cells(mask.shape, visible.to(device), exists, masked.flatten().nonzero().flatten().to(device), there)

    def gather(self, table: Tensor) -> Tensor:
        """Return the visible cells of (B, grid_h, grid_w, ...): (B, V, ...), zero in places without a cell."""
        return self.zero_absent(self.take(table, self.visible))

    def take(self, table: Tensor, cells: Tensor) -> Tensor:
        """Return cells of (B, grid_h, grid_w, ...) by their numbers: (*cells.shape, ...)."""
        _, rows, columns = self.shape
        return table[cells // (rows * columns), cells // columns % rows, cells % columns]

    def scatter(self, packed: Tensor, fill: Tensor) -> Tensor:
        """Return the whole grid with `packed`, (B, V, F), in its visible cells and `fill`, (F,), in the masked ones.

        Returns (B, grid_h, grid_w, F).
        """
        full = fill.to(packed.dtype).repeat(self.shape.numel(), 1)
        full = full.index_copy(0, self.real(self.visible).flatten(), self.real(packed).flatten(0, -2))
        return full.view(*self.shape, -1)

    def zero_absent(self, packed: Tensor) -> Tensor:
        """Return (B, V, ...) with zeros in places without a cell."""
        if self.exists is None:
            return packed
        return packed.masked_fill(~self.exists.view(*self.exists.shape, *(1,) * (packed.ndim - 2)), 0)

    def real(self, packed: Tensor) -> Tensor:
        """Return only the places that hold a cell: (n, ...) out of (B, V, ...), or (B, V, ...) if all of them do."""
        return packed if self.exists is None else packed[self.exists]

    def spread(self, cells: Tensor) -> Tensor:
        """Undo `real`: (B, V, ...) out of (n, ...), zero in places without a cell."""
        if self.exists is None:
            return cells.view(*self.visible.shape, *cells.shape[1:])
        rows = self.exists.flatten().nonzero().flatten()
        table = ops.scatter_rows(cells.flatten(1), rows, self.exists.numel())
        return table.view(*self.visible.shape, *cells.shape[1:])


class PackedGrid:
    """Only visible cells are stored. Features (B, V, u, u, C), V cells an image of u x u sites.

    Everything but the depthwise convolution is local to a site or, for the 2x2 downsampling, to a cell.
    For the convolution the cells are laid out on an empty canvas (B, H, W, C) and gathered from it afterwards.

    missing: (B, V, u, u) boolean, sites without data in visible cells; None if there are none.
    """

    dense: ClassVar[bool] = False

    def __init__(self, cells: Cells, unit: int, missing: Tensor | None = None) -> None:
        self.cells, self.unit, self.missing = cells, unit, missing
        batch, rows, columns = cells.shape
        self.canvas = (batch, rows * unit, columns * unit)
        # The canvas is also a table: its line `(image * H + y) * columns + column` holds the u sites that the cell
        # in that column has on the canvas row y. So a cell is u lines, `columns` apart, and its sites are ordered
        # as in (u, u, C). `lines` are the lines of all visible cells, in order.
        visible = cells.real(cells.visible)
        image_row = torch.div(visible, columns, rounding_mode="floor")  # image * grid_h + row
        first = image_row * (unit * columns) + visible % columns
        steps = torch.arange(unit, device=first.device) * columns
        self.lines = (first[..., None] + steps).flatten()

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve the cells on an empty canvas."""
        x = x if self.missing is None else self.zero_absent(x)
        cells = self.cells.real(x).view(-1, *x.shape[2:])  # (n, u, u, C)
        return self.cells.spread(ops.depthwise_cells(cells, self.lines, self.canvas, weight, bias))

    def zero_absent(self, x: Tensor) -> Tensor:
        """Return x with zeros in places without a cell, and at sites without data."""
        x = self.cells.zero_absent(x)
        return x if self.missing is None else x.masked_fill(self.missing[..., None], 0)

    def coarser(self) -> PackedGrid:
        """Return the grid of cells with half as many sites on a side."""
        return PackedGrid(self.cells, self.unit // 2, None if self.missing is None else all_of_four(self.missing))

    @property
    def partial(self) -> bool:
        """Whether cells that exist have sites that do not."""
        return self.missing is not None

    def sites(self, maps: Tensor) -> Tensor:
        """Return (B * V, C, u, u), a map a cell, as (B, V, u, u, C)."""
        return maps.permute(0, 2, 3, 1).unflatten(0, self.cells.visible.shape)

    def maps(self, x: Tensor) -> Tensor:
        """Return (B, V, u, u, C) as (B * V, C, u, u)."""
        return x.flatten(0, 1).permute(0, 3, 1, 2)
