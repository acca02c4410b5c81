"""The recipe of a run: the one requested or the one that fits the folder, with the user's own values in it."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

from convnextv2.errors import UserError
from convnextv2.runs.task_run import Chosen
from convnextv2.tasks.classify import recipes
from convnextv2.tasks.classify.recipes import Recipe
from convnextv2.tasks.classify.settings import ClassifySettings

SMALL = 100_000
"""Up to this many training images the recipe is small-data by default."""

_TOLD = ("batch_size", "epochs", "warmup_epochs", "lr", "weight_decay", "layer_decay", "drop_path", "ema")


def recipe_name(settings: ClassifySettings, images: int) -> str:
    """Return the name of the recipe requested, else of the one that fits so many training images."""
    if settings.recipe is not None:
        return settings.recipe
    return "small-data" if images <= SMALL else "in1k" if settings.init_source is not None else "supervised"


def choose_recipe(settings: ClassifySettings, model: str, images: int, processes: int) -> tuple[Recipe, Chosen]:
    """Return the recipe with the user's own values in it, and what was chosen for the user: (name, value, why).

    model: name of the architecture.  images: to train on.  processes: ranks that share a batch.

    Raises UserError if a batch is larger than the folder, or the recipe is not defined for the model.
    """
    name = recipe_name(settings, images)
    named = recipes.named(name, model, images, settings.init_source is not None)
    batch = settings.batch_size or max(named.batch_size // processes, 1) * processes
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
    recipe = replace(named, **{"lr": recipes.scaled_lr(named, batch)} | own | {"batch_size": batch})
    if settings.epochs is not None and settings.warmup_epochs is None:
        recipe = replace(recipe, warmup_epochs=named.warmup_epochs * settings.epochs / named.epochs)
    recipe = replace(recipe, ema=recipe.ema or None)
    why = f"recipe {name}: {named.source}"
    chosen: Chosen = [
        (each, getattr(recipe, each), why)
        for each in _TOLD
        if getattr(settings, each) is None and not (each == "epochs" and settings.minutes)
    ]
    return recipe, chosen
