"""A classifier built again from its file alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnextv2.checkpoints.own import CLASSIFIER, OwnFile, Weights, read_own
from convnextv2.errors import LoadError
from convnextv2.models import ConvNeXt
from convnextv2.models.timm_backbone import TimmBackbone, create_any
from convnextv2.records import Preprocessing


@dataclass(frozen=True)
class Classifier:
    """A model in evaluation mode, and all that its answers need.

    image_size: pixels on a side.  crop_pct: see `data.geometry.CenterFit`.  averaged: whether its weights are.
    """

    model: ConvNeXt | TimmBackbone
    classes: tuple[str, ...]
    multi_label: bool
    preprocessing: Preprocessing
    image_size: int
    crop_pct: float | None
    averaged: bool
    file: Path


def load_classifier(source: str | Path, *, weights: Weights = "average", which: str | None = None) -> Classifier:
    """The classifier of a run (its best checkpoint where it has one), or of a `model.safetensors`.

    weights: "average" where the file has averaged weights, else or with "plain" those of the last step.
    which: "best" or "latest" of a run.

    Raises UserError where there is none, LoadError where the file is damaged or no classifier's.
    """
    found = read_own(source, weights=weights, which=which)
    if found.format != CLASSIFIER:
        raise LoadError(
            f"{found.file} is a pre-trained encoder, not a classifier: train one with "
            f"`convnextv2 classify --init {source} --data DIR --out RUN`"
        )
    model = build_again(found)
    return Classifier(
        model=model,
        classes=found.classes,
        multi_label=json.loads(found.metadata["multi_label"]),
        preprocessing=found.preprocessing,
        image_size=found.image_size,
        crop_pct=json.loads(found.metadata["crop_pct"]),
        averaged=found.averaged,
        file=found.file,
    )


def build_again(found: OwnFile) -> ConvNeXt | TimmBackbone:
    """The model that a classifier's file describes, filled, in evaluation mode."""
    arguments: dict[str, Any] = dict(found.architecture)
    name = str(arguments.pop("model"))
    model = create_any(name, image_size=found.image_size, num_classes=len(found.classes), **arguments)
    model.load_state_dict(dict(found.tensors))
    return model.eval()
