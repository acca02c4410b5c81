"""A classifier from its file."""

from __future__ import annotations

from pathlib import Path

from convnextv2.errors import LoadError
from convnextv2.inference.loaded import LoadedModel
from convnextv2.loading import Backbone, load
from convnextv2.weights.model_file import Weights


def load_classifier(
    source: str | Path, *, weights: Weights = "average", checkpoint: str | None = None
) -> LoadedModel[Backbone]:
    """Load the classifier of a run (its best checkpoint if it has one), or of a `model.safetensors`.

    weights: "average" for the EMA if the file has one, else or with "plain" the weights of the last step.
    checkpoint: "best" or "latest" of a run.

    Raises UserError if there is none, LoadError if the file is damaged or not a classifier's.
    """
    loaded = load(source, weights=weights, checkpoint=checkpoint)
    if not loaded.classes:
        raise LoadError(
            f"{loaded.file} is a pre-trained encoder, not a classifier: train one with "
            f"`convnextv2 classify --init {source} --data DIR --out RUN`"
        )
    return loaded
