"""Settings of a classifier's run; the Python call and the command line read the same class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from convnextv2.runs.settings import ModelSettings

NO_CLASS_TO_DRAW = (
    "--balanced-sampling draws images by their one class, and these may have several: use --class-weights balanced"
)


@dataclass(frozen=True, kw_only=True)
class ClassifySettings(ModelSettings):
    """Settings of `convnextv2 classify`. What is None is chosen by --init or the recipe and logged before the run."""

    data: Path | None = None
    """A folder with train/ and val/ (or test/) of class folders, a folder of class folders, or a CSV of path,label."""

    val_fraction: float | None = None
    """Share of the images to validate with if the data has no val; by default a fifth, or a tenth of train/."""
    group_column: str | None = None
    """Column of the CSV whose equal values (a patient, a site) must not be on both sides of the split."""
    group_pattern: str | None = None
    """The same for folders: a regular expression; what it matches in the path below --data, as 'patient(\\d+)', is
    the group."""
    multi_label: bool = False
    """Several labels per image, each decided by itself; also chosen if a CSV has several in a cell."""
    label_column: str | None = None
    """Column of the CSV with the labels, if it is not called label, class or target."""
    label_separator: str | None = None
    """What separates the labels of an image in a CSV; by default a semicolon, if a consistent share has it."""
    label_fraction: float = 1.0
    """Use only this share of the training images of each class, to measure what few labels achieve."""

    recipe: Literal["in1k", "in22k", "in22k-to-in1k", "supervised", "small-data"] | None = None
    """The paper's recipes, or ours for small folders, the default up to 100,000 images."""
    layer_decay: float | None = None
    """Factor on the learning rate from one layer to the one below; 1 for none."""
    layer_decay_type: Literal["single", "group"] | None = None
    """Whether a layer is a block or a group of blocks."""
    smoothing: float | None = None
    """Label smoothing."""
    mixup: float | None = None
    """Mixup of images and labels: parameter of the Beta distribution; 0 for none."""
    cutmix: float | None = None
    """CutMix: parameter of the Beta distribution; 0 for none."""
    rand_augment: float | None = None
    """Magnitude of RandAugment, 0 to 10; 0 for none."""
    erasing: float | None = None
    """Probability that a rectangle is erased."""
    min_scale: float | None = None
    """Smallest share of an image's area that a random crop takes."""
    flip: bool = True
    """Mirror half of the crops."""
    orientation: Literal["upright", "any"] = "upright"
    """any also turns crops by quarters: for what has no up, as seen from above or through a microscope."""
    band_jitter: float | None = None
    """Strength of random contrast, brightness and noise of each band; by default 0.2 where the recipe has RandAugment,
    which is for colours of 8 bits, else 0."""
    band_dropout: float = 0.0
    """Probability of each band to be hidden from a crop."""
    drop_path: float | None = None
    """Drop path of the last block."""
    ema: float | None = None
    """Decay of the EMA of the weights, which is what is evaluated and kept; 0 for none."""
    head_init: float | None = None
    """Factor on the head's initial weights."""

    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rare classes count more in the loss."""
    balanced_sampling: bool = False
    """Draw all classes equally often."""
    eval_epochs: float | None = None
    """Epochs between evaluations; by default one, or more in a run of more than thirty epochs."""
    patience: int = 0
    """End the run after this many evaluations without a new best; 0 for never."""
    crop_pct: float | None = None
    """Share of a resized image's side that is evaluated; by default 0.875, and all of it from 384 pixels on."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of `ModelSettings`, and those of these settings."""
        yield from super().rules()
        yield from self.in_range("val_fraction", 0, 1, high_open=True)
        yield from self.in_range("label_fraction", 0, 1, low_open=True)
        for name in ("layer_decay", "min_scale", "crop_pct"):
            yield from self.in_range(name, 0, 1, low_open=True)
        for name in ("smoothing", "drop_path", "ema"):
            yield from self.in_range(name, 0, 1, high_open=True)
        yield from self.in_range("erasing", 0, 1)
        yield from self.in_range("rand_augment", 0, 10)
        for name in ("band_jitter", "band_dropout"):
            yield from self.in_range(name, 0, 1, high_open=True)
        for name in ("mixup", "cutmix", "head_init", "patience"):
            yield from self.in_range(name, 0, inf)
        yield from self.in_range("eval_epochs", 0, inf, low_open=True)
        yield not (self.multi_label and self.balanced_sampling), NO_CLASS_TO_DRAW
