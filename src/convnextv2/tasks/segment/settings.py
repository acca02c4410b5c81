"""Settings of a segmenter's run; the Python call and the command line read the same class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from convnextv2.runs.settings import ModelSettings


@dataclass(frozen=True, kw_only=True)
class SegmentSettings(ModelSettings):
    """Settings of `convnextv2 segment`. What is None is chosen by --init or the recipe and logged before the run."""

    data: Path | None = None
    """A folder with train/images and train/masks (val, test likewise), with images and masks, with images/train and
    masks/train, or with images and a COCO instances.json."""

    val_fraction: float | None = None
    """Share of the images to validate with if the data has no val; by default a fifth, or a tenth of train/."""
    group_pattern: str | None = None
    """A regular expression; what it matches in the path of an image, as 'patient(\\d+)', is its group, and a group is
    never on both sides of the split."""
    classes: Path | None = None
    """A classes.json with names, palette and what is no class, or a labelmap.txt of CVAT; by default that of --data."""
    ignore: int | None = None
    """The value of masks that is no class, in place of that of classes.json; 255 always is none."""
    reduce_zero_label: bool = False
    """0 is no class and 1 is the first, as in ADE20K."""

    recipe: Literal["ade20k", "small-data"] | None = None
    """The paper's recipe, or ours for small folders, the default up to 10,000 images."""
    base_size: int | None = None
    """Pixels on the shorter side that an image is scaled to before the random scale; by default --image-size; 0 keeps
    the pixels of the files, where objects have one size in pixels, as seen from above or through a microscope."""
    head_dim: int | None = None
    """Width of UPerNet's head, 512 in the paper."""
    head_norm: Literal["batch", "group"] | None = None
    """Norm in the head: batch as in the paper, over all processes; group also works with one image at a time."""
    auxiliary_weight: float | None = None
    """Weight of the auxiliary head's loss; 0 for no such head."""
    dropout: float | None = None
    """Dropout before the classifiers."""
    freeze: int = 0
    """Stages of the backbone whose weights stay as they are, stem first: 4 for the whole backbone."""

    layer_decay: float | None = None
    """Factor on the learning rate from one layer to the one below; 1 for none."""
    layer_decay_type: Literal["single", "group", "stage"] | None = None
    """What a layer is: a block, one of twelve groups of them, or a stage, as in the paper's framework."""
    drop_path: float | None = None
    """Drop path of the last block."""
    ema: float | None = None
    """Decay of the EMA of the weights, which is what is evaluated and kept; 0 for none."""

    min_scale: float | None = None
    """Smallest factor of the random scale."""
    max_scale: float | None = None
    """Largest factor of the random scale."""
    flip: bool = True
    """Mirror half of the crops; their masks with them."""
    orientation: Literal["upright", "any"] = "upright"
    """any also turns crops by quarters: for what has no up, as seen from above or through a microscope."""
    distort: bool = True
    """Change brightness, contrast, saturation and hue at random; of bands see --band-jitter."""
    band_jitter: float = 0.2
    """Strength of random contrast, brightness and noise of each band, where files are read as numbers."""
    most_of_a_class: float = 0.75
    """Largest share of one class in a crop; ten other places are tried."""

    ignored_pixels_count: bool = True
    """Divide the loss by all pixels, as the paper's framework does, and not by those with a class."""
    dice: float = 0.0
    """Weight of the Dice loss beside cross entropy; for small objects and few classes."""
    ohem: float = 0.0
    """Online hard examples: only pixels whose true class has a probability below this count, as 0.7; 0 for all."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rare classes count more in the loss, by the root of how rare they are."""

    eval_epochs: float | None = None
    """Epochs between evaluations; by default ten evaluations, and one an epoch at most."""
    patience: int = 0
    """End the run after this many evaluations without a new best; 0 for never."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of `ModelSettings`, and those of these settings."""
        yield from super().rules()
        yield from self.in_range("val_fraction", 0, 1, high_open=True)
        yield from self.in_range("ignore", 0, 65535)
        yield from self.in_range("base_size", 0, 1 << 14)
        yield from self.in_range("head_dim", 1, 8192)
        yield from self.in_range("freeze", 0, 4)
        yield from self.in_range("layer_decay", 0, 1, low_open=True)
        for name in ("drop_path", "ema", "dropout", "band_jitter", "ohem"):
            yield from self.in_range(name, 0, 1, high_open=True)
        for name in ("auxiliary_weight", "dice", "patience"):
            yield from self.in_range(name, 0, inf)
        for name in ("min_scale", "max_scale"):
            yield from self.in_range(name, 0, 16, low_open=True)
        yield from self.in_range("most_of_a_class", 0, 1, low_open=True)
        yield from self.in_range("eval_epochs", 0, inf, low_open=True)
        low, high = self.min_scale, self.max_scale
        holds = low is None or high is None or low <= high
        yield holds, f"--min-scale {low} is above --max-scale {high}: give the smaller one first"
