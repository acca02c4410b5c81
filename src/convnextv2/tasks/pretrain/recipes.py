"""Recipes of pre-training: the paper's, and one that fits any folder."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from convnextv2.tasks.pretrain.settings import PretrainSettings


@dataclass(frozen=True)
class Recipe:
    """Optimisation of one pre-training run. lr is the highest rate, as used; epochs may be fractions."""

    batch_size: int
    epochs: float
    warmup_epochs: float
    lr: float
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)


def paper() -> Recipe:
    """Return the recipe of Woo et al. 2023, Table 8, with the 1600 epochs of the final models; one setup for all sizes.

    Expected after fine-tuning on ImageNet-1K: 76.7 (Atto) to 86.3 (Huge), Table 14.
    Cost: 1600 epochs of 1.28 million images.
    Command: `convnextv2 pretrain --data imagenet/train --out run --recipe paper`
    """
    return Recipe(batch_size=4096, epochs=1600, warmup_epochs=40, lr=2.4e-3)


def auto(images: int) -> Recipe:
    """Return the paper's recipe resized to a folder of `images` images.

    The batch is about a hundredth of the folder, so that an epoch keeps about a hundred steps, from 32 to the
    paper's 4096. The rate follows the root of the batch from 1.5e-3 at 256 up to the paper's 2.4e-3. A small
    folder gets 800 epochs; a larger one as many as show eight million images, at least 100. Warm-up is a twentieth
    of the run.
    """
    batch = min(max(_power_of_two(images / 100), 32), 4096)
    batch = min(batch, _power_of_two(images))
    epochs = min(max(round(8e6 / images), 100), 800)
    lr = min(1.5e-3 * math.sqrt(batch / 256), 2.4e-3)
    return replace(paper(), batch_size=batch, epochs=epochs, warmup_epochs=epochs / 20, lr=lr)


def resolve(
    settings: PretrainSettings, images: int, processes: int = 1
) -> tuple[Recipe, list[tuple[str, object, str]]]:
    """Return the recipe that the settings request, and what was chosen for the user: (name, value, why)."""
    named = paper() if settings.recipe == "paper" else auto(images)
    why = "Table 8 of the paper" if settings.recipe == "paper" else f"auto, for {images} images"
    batch = settings.batch_size or max(named.batch_size // processes, 1) * processes
    lr = settings.lr
    if lr is None and settings.recipe == "paper":
        lr = 1.5e-4 * batch / 256
    elif lr is None:
        lr = min(1.5e-3 * math.sqrt(batch / 256), 2.4e-3)
    epochs = settings.epochs or named.epochs
    warmup = settings.warmup_epochs
    if warmup is None:
        warmup = named.warmup_epochs if epochs == named.epochs else min(named.warmup_epochs, epochs / 20)
    decay = named.weight_decay if settings.weight_decay is None else settings.weight_decay
    recipe = replace(named, batch_size=batch, epochs=epochs, warmup_epochs=warmup, lr=lr, weight_decay=decay)
    chosen = [
        (name, getattr(recipe, name), why)
        for name in ("batch_size", "epochs", "warmup_epochs", "lr", "weight_decay")
        if getattr(settings, name) is None and not (name == "epochs" and settings.minutes)
    ]
    return recipe, chosen


def _power_of_two(x: float) -> int:
    """The largest power of two up to x, at least 1."""
    return 2 ** int(math.log2(max(x, 1)))
