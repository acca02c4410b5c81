"""Settings of a pre-training run; the Python call and the command line read the same class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from convnextv2.runs.settings import PUBLISHED_STEM, ModelSettings, stem_for


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(ModelSettings):
    """Settings of `convnextv2 pretrain`. What is None is chosen by --init or the recipe and logged before the run."""

    data: Path | None = None
    """A folder of images (flat, nested or class folders; labels are not used), or a text file of paths."""

    mask_ratio: float | None = None
    """Share of the patches that is masked; by default that of --init, else 0.6."""
    decoder_dim: int | None = None
    """Width of the decoder; by default that of --init, else 512."""
    decoder_depth: int | None = None
    """Blocks of the decoder; by default that of --init, else 1."""
    norm_pix_loss: bool | None = None
    """Predict each patch normalised by its own mean and variance; by default as --init was trained, else yes."""
    min_valid: float | None = None
    """Least share of a patch's pixels that must exist; a patch with less is neither seen nor predicted; by default as
    --init was trained, else 0.5."""

    pages: Literal["bands", "images"] = "bands"
    """What the pages of a TIFF and the frames of DICOM are: bands of one image, or images of their own."""
    crops_per_image: int = 1
    """Samples of each image in an epoch, for few and large images. Above 1, crops are taken from random parts of 1.5
    times the image size on a side, and of TIFF no more than these parts is decoded."""

    recipe: Literal["auto", "paper"] = "auto"
    """auto fits batch, warm-up and epochs to the data and the machine; paper is Table 8 of the paper."""
    min_scale: float = 0.2
    """Smallest share of an image's area that a random crop takes."""
    flip: bool = True
    """Mirror half of the crops (the official code does; the paper's text does not)."""
    orientation: Literal["upright", "any"] = "upright"
    """any also turns crops by quarters: for what has no up, as seen from above or through a microscope."""
    pictures: int = 8
    """How often reconstructions are drawn during the run; the last are always drawn."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of `ModelSettings`, and those of these settings."""
        yield from super().rules()
        yield from self.in_range("mask_ratio", 0, 1, low_open=True, high_open=True)
        yield from self.in_range("min_scale", 0, 1, low_open=True)
        yield from self.in_range("crops_per_image", 1, 1_000_000)
        yield from self.in_range("decoder_dim", 1, inf)
        yield from self.in_range("decoder_depth", 1, inf)
        yield from self.in_range("pictures", 0, inf)
        if self.image_size is not None and self.init_source is None:  # else the weights may decide the stem
            stem = PUBLISHED_STEM if self.recipe == "paper" else stem_for(self.image_size)
            yield whole_patches(self.image_size, 8 * (self.stem_stride or stem))


def whole_patches(image_size: int, patch: int) -> tuple[bool, str]:
    """Return the rule that a crop is cut into whole patches, at least two on a side: whether it holds, and a message.

    image_size, patch: pixels on a side.
    """
    near = max(2 * patch, round(image_size / patch) * patch)
    return (
        image_size >= 2 * patch and image_size % patch == 0,
        f"--image-size {image_size} does not fit the mask patch of {patch} pixels (8 times --stem-stride): "
        f"use --image-size {near}" + (", or a smaller --stem-stride" if patch > 8 else ""),
    )
