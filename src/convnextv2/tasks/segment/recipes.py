"""Recipes of segmentation: the paper's for ADE20K, and ours for small folders."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Literal

from convnextv2.errors import UserError
from convnextv2.models.upernet import HeadNorm
from convnextv2.runs.task_run import Chosen
from convnextv2.tasks.segment.settings import SegmentSettings

SMALL = 10_000
"""Up to this many training images the recipe is small-data by default."""

_TOLD = (
    *("batch_size", "epochs", "warmup_epochs", "lr", "weight_decay", "layer_decay", "layer_decay_type", "drop_path"),
    *("head_dim", "head_norm"),
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimisation, augmentation and head of one run of segmentation. Always AdamW and a straight decay."""

    batch_size: int
    """Images per optimiser step."""
    epochs: float
    """Passes over the images; may be a fraction."""
    warmup_epochs: float
    """Epochs of linear warm-up."""
    lr: float
    """Highest learning rate, as used at `batch_size`."""
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float
    """Factor on the rate from one layer to the one before it; 1 for none."""
    layer_decay_type: Literal["single", "group", "stage"]
    """What a layer is: one block, one of twelve groups of them, or a stage."""
    drop_path: float
    """Drop path of the last block."""
    head_dim: int
    """Width of the head."""
    head_norm: HeadNorm
    dropout: float = 0.1
    """Before the classifiers."""
    auxiliary_weight: float = 0.4
    """Of the auxiliary head's loss."""
    min_scale: float = 0.5
    max_scale: float = 2.0
    """Factors of the random scale."""
    ema: float | None = None
    """Decay of the EMA of the weights, per step; None for no EMA."""
    source: str
    """Where the numbers are from."""


def ade20k(size: str, images: int) -> Recipe:
    """Return the paper's recipe of ADE20K, for a model of a size: UPerNet, 160,000 steps of 16 images.

    The paper (appendix A.4) sweeps the rate over 1e-4, 2e-4 and 3e-4, layer decay over 0.8 and 0.9, drop path over 0.1
    to 0.4, and does not say which values were chosen. These are the published ones of V1: 1e-4, stage-wise 0.9, drop
    path 0.4 (0.3 for Small); for sizes below Tiny, which have no published values, 0.1 is ours. Crops of 512 pixels,
    640 for models that were fine-tuned on ImageNet-22K.

    Expected mIoU at several scales, from weights fine-tuned on ImageNet-1K: Base 52.1, Large 53.7, Huge 55.0 (57.0 at
    640 pixels from ImageNet-22K); V1 supervised Base 49.9, Large 50.5 (Table 7).
    Cost: 2.56 million crops.
    Command: `convnextv2 segment --data ADE --reduce-zero-label --out run --init in1k-run --recipe ade20k`
    """
    drop = {"atto": 0.1, "femto": 0.1, "pico": 0.1, "nano": 0.1, "small": 0.3}.get(size, 0.4)
    steps = max(1, images // 16)
    return Recipe(
        batch_size=16,
        epochs=160_000 / steps,
        warmup_epochs=1500 / steps,
        lr=1e-4,
        weight_decay=0.05,
        layer_decay=0.9,
        layer_decay_type="stage",
        drop_path=drop,
        head_dim=512,
        head_norm="batch",
        source="paper, appendix A.4, with V1's published values where the paper has a range",
    )


def small_data(images: int, pretrained: bool, dim: int) -> Recipe:
    """Return our recipe for a folder of `images` images, from pre-trained weights or from scratch.

    dim: channels of the backbone's last map.

    A batch of 8, less for a handful of images; training lasts until 16,000 crops are seen, for at least 10 epochs and
    at most 400. The head is 128 wide up to 384 channels and 256 above, as at 512 it is far heavier than a small
    backbone. Its norm goes by groups, so that it works alike for one image at a time.

    Command: `convnextv2 segment --data scenes --out run --init pretrained-run --recipe small-data`

    Raises UserError if there is no image.
    """
    if images < 1:
        raise UserError("no images to train on: give --data a folder of images and masks")
    batch = max(n for n in (1, 2, 4, 8) if n <= max(1, images // 4))
    epochs = min(max(round(16_000 / images), 10), 400)
    return Recipe(
        batch_size=batch,
        epochs=epochs,
        warmup_epochs=min(epochs / 20, 10),
        lr=1e-3 * math.sqrt(batch / 8),
        weight_decay=0.05,
        layer_decay=0.9 if pretrained else 1.0,
        layer_decay_type="single",
        drop_path=0.1,
        head_dim=128 if dim <= 384 else 256,
        head_norm="group",
        source=f"ours, for {images} images",
    )


def recipe_name(settings: SegmentSettings, images: int) -> Literal["ade20k", "small-data"]:
    """Return the name of the recipe requested, else of the one that fits so many training images."""
    return settings.recipe or ("small-data" if images <= SMALL else "ade20k")


def choose_recipe(settings: SegmentSettings, size: str, dim: int, images: int, ranks: int) -> tuple[Recipe, Chosen]:
    """Return the recipe with the user's own values in it, and what was chosen for the user: (name, value, why).

    size: "atto" to "huge".  dim: channels of the backbone's last map.  images: to train on.  ranks: that share a batch.

    Raises UserError if a batch is larger than the folder.
    """
    name = recipe_name(settings, images)
    named = ade20k(size, images) if name == "ade20k" else small_data(images, settings.init_source is not None, dim)
    batch = settings.batch_size or max(named.batch_size // ranks, 1) * ranks
    if batch > images:
        raise UserError(
            f"{images} training images make zero steps with a batch of {batch}: use --recipe small-data, "
            f"or --batch-size {images} or smaller"
        )
    own = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(named)
        if getattr(settings, field.name, None) is not None
    }
    rate = named.lr * (batch / named.batch_size if name == "ade20k" else math.sqrt(batch / named.batch_size))
    recipe = replace(named, **{"lr": rate} | own | {"batch_size": batch})
    if settings.epochs is not None and settings.warmup_epochs is None:
        recipe = replace(recipe, warmup_epochs=named.warmup_epochs * settings.epochs / named.epochs)
    if recipe.min_scale > recipe.max_scale:
        raise UserError(f"--min-scale {recipe.min_scale:g} is above the largest factor, {recipe.max_scale:g}")
    recipe = replace(recipe, ema=recipe.ema or None)
    why = f"recipe {name}: {named.source}"
    chosen: Chosen = [
        (each, getattr(recipe, each), why)
        for each in _TOLD
        if getattr(settings, each) is None and not (each == "epochs" and settings.minutes)
    ]
    return recipe, chosen
