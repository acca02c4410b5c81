"""What a user can set for a pre-training run; the Python call and the command line read the same class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convnextv2.runs.settings import RunSettings


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(RunSettings):
    """Settings of `convnextv2 pretrain`. What is None is chosen by the recipe and told before the run starts."""

    data: Path | None = None
    """A folder of pictures (flat, nested or class folders; labels are not used), or a text file of paths."""

    init: Path | None = None
    """Weights to go on from: a run, a file, published weights (convnextv2 zoo), hf:OWNER/NAME. They say the size."""
    inflate: str = "repeat"
    """What other channels than those of --init take from its stem: repeat, mean, or a list of channels as 0,1,2,0."""
    model: str = "convnextv2_atto"
    """convnextv2_ and atto, femto, pico, nano, tiny, base, large or huge; convnext_ and a size for V1."""
    image_size: int = 224
    """Pixels on a side of a training crop; a multiple of the mask cell, 8 times the stem stride."""
    stem_stride: int = 4
    """4 as published; 2 or 1 for small pictures, so that they keep a useful grid."""
    in_chans: int = 3
    """3 for colour, 1 for grey pictures."""
    depths: tuple[int, int, int, int] | None = None
    """Own number of blocks of each stage."""
    dims: tuple[int, int, int, int] | None = None
    """Own number of channels of each stage."""

    mask_ratio: float = 0.6
    """Part of the cells that is hidden."""
    decoder_dim: int = 512
    """Width of the decoder."""
    decoder_depth: int = 1
    """Blocks of the decoder."""
    norm_pix_loss: bool = True
    """Predict each cell normalised by its own mean and variance."""

    recipe: Literal["auto", "paper"] = "auto"
    """auto fits batch, warm-up and epochs to the data and the machine; paper is Table 8 of the paper."""
    min_scale: float = 0.2
    """Smallest part of a picture's area that a random crop takes."""
    flip: bool = True
    """Mirror half of the crops (the official code does; the paper's text does not)."""
    pictures: int = 8
    """How often reconstructions are drawn during the run; the last are always drawn."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """As `RunSettings.rules`."""
        yield from super().rules()
        yield from self.in_range("mask_ratio", 0, 1, low_open=True, high_open=True)
        yield from self.in_range("min_scale", 0, 1, low_open=True)
        yield self.in_chans in (1, 3), f"--in-chans {self.in_chans}: folders of pictures give 1 (grey) or 3 (colour)"
        yield self.stem_stride in (1, 2, 4), f"--stem-stride {self.stem_stride}: give 4, 2 or 1"
        yield from self.in_range("decoder_dim", 1, float("inf"))
        yield from self.in_range("decoder_depth", 1, float("inf"))
        yield from self.in_range("pictures", 0, float("inf"))
        cell = 8 * self.stem_stride
        near = max(2 * cell, round(self.image_size / cell) * cell)
        yield (
            # Which stem it is may be for --init to say; then this is looked at when it has.
            self.init is not None or (self.image_size >= 2 * cell and self.image_size % cell == 0),
            f"--image-size {self.image_size} does not fit the mask cell of {cell} pixels (8 times --stem-stride): "
            f"use --image-size {near}" + (", or a smaller --stem-stride" if self.stem_stride > 1 else ""),
        )
