"""Masks and patches (Woo et al. 2023, section 3.1). One cell is one site of the encoder's last stage."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convnextv2.errors import UserError


def visible_cells(cells: int, mask_ratio: float) -> int:
    """Return the number of visible cells: floor(cells * (1 - ratio)), with at least one visible and one masked."""
    if not 0 < mask_ratio < 1:
        raise UserError(f"mask_ratio must lie between 0 and 1, got {mask_ratio}")
    if cells < 2:
        raise UserError(
            "an image of one mask cell cannot be masked: use larger images, or a smaller stem stride "
            "(--stem-stride 2 or 1)"
        )
    # Rounded first: 100 * (1 - 0.9) is 9.9999... in floating point, and means 10.
    return min(max(math.floor(round(cells * (1 - mask_ratio), 9)), 1), cells - 1)


def random_mask(
    batch: int,
    rows: int,
    columns: int,
    mask_ratio: float,
    generator: torch.Generator | None = None,
    *,
    absent: Tensor | None = None,
) -> Tensor:
    """Draw a random mask for each image. Returns (B, rows, columns) boolean, B = batch; True is masked.

    absent: bool (B, rows, columns), cells that do not exist. They are not masked, and the share is of the others; an
    image of one cell shows it.
    """
    masked = rows * columns - visible_cells(rows * columns, mask_ratio)
    order = torch.rand(batch, rows * columns, generator=generator)
    mask = torch.zeros(batch, rows * columns, dtype=torch.bool)
    if absent is None:
        return mask.scatter_(1, order.argsort(dim=1)[:, :masked], True).view(batch, rows, columns)
    absent = absent.flatten(1).cpu()
    order = order.masked_fill(absent, 2).argsort(dim=1)  # those last
    there = (~absent).sum(1).tolist()
    for image, (cells, places) in enumerate(zip(there, order, strict=True)):
        mask[image, places[: cells - visible_cells(cells, mask_ratio) if cells > 1 else 0]] = True
    return mask.view(batch, rows, columns)


def absent_cells(valid: Tensor, cell: int, min_valid: float) -> Tensor:
    """Return the cells with too little data, bool (B, H/cell, W/cell).

    valid: bool (B, H, W), the pixels that exist.  min_valid: the least share of a cell's pixels, above 0 and at most 1.
    """
    share = valid.unflatten(2, (-1, cell)).unflatten(1, (-1, cell)).float().mean((2, 4))
    return share < min_valid


def patchify(images: Tensor, cell: int) -> Tensor:
    """Cut images into cells.

    images: (B, C, H, W).  Returns (B, H/cell * W/cell, cell * cell * C): cells row-major; inside a cell pixel row,
    pixel column, channel.
    """
    batch, channels, height, width = images.shape
    x = images.view(batch, channels, height // cell, cell, width // cell, cell)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, cell * cell * channels)


def unpatchify(patches: Tensor, cell: int, rows: int, columns: int) -> Tensor:
    """Invert `patchify`: (B, rows * columns, cell * cell * C) to (B, C, rows * cell, columns * cell)."""
    x = patches.view(len(patches), rows, columns, cell, cell, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, rows * cell, columns * cell)


def normalise_patches(patches: Tensor, there: Tensor | None = None) -> Tensor:
    """Normalise each patch by its own mean and unbiased variance over all its values; (..., values).

    there: bool (..., values), the values that exist: only these count, and the others become 0.
    """
    mean, deviation = moments(patches, there)
    normalised = (patches - mean) / deviation
    return normalised if there is None else torch.where(there, normalised, 0)


def moments(patches: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation of each patch by which it is normalised, (..., 1); `there` as above."""
    if there is None:
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True, correction=1)
    else:
        count = there.sum(-1, keepdim=True)
        mean = torch.where(there, patches, 0).sum(-1, keepdim=True) / count.clamp(min=1)
        apart = torch.where(there, patches - mean, 0)
        variance = apart.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return mean, (variance + 1e-6).sqrt()
