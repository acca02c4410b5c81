"""A classifier, or an encoder, built again from its file alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from convnextv2.errors import LoadError, UserError
from convnextv2.models import ConvNeXt
from convnextv2.models.timm_backbone import TimmBackbone, create_any
from convnextv2.records import Preprocessing
from convnextv2.weights.load import read
from convnextv2.weights.model_file import CLASSIFIER, ModelFile, Weights
from convnextv2.weights.strict import check


@dataclass(frozen=True)
class Classifier:
    """A model in evaluation mode, and all that its answers need.

    image_size: pixels on a side.  crop_pct: see `data.geometry.CenterFit`.  averaged: whether its weights are.
    trained_on: the name of the folder or the table, without what is above it.
    """

    model: ConvNeXt | TimmBackbone
    classes: tuple[str, ...]
    multi_label: bool
    preprocessing: Preprocessing
    image_size: int
    crop_pct: float | None
    averaged: bool
    trained_on: str
    file: Path


def load_classifier(source: str | Path, *, weights: Weights = "average", which: str | None = None) -> Classifier:
    """The classifier of a run (its best checkpoint where it has one), or of a `model.safetensors`.

    weights: "average" where the file has averaged weights, else or with "plain" those of the last step.
    which: "best" or "latest" of a run.

    Raises UserError where there is none, LoadError where the file is damaged or no classifier's.
    """
    found = read(source, weights=weights, which=which)
    if found.format != CLASSIFIER:
        raise LoadError(
            f"{found.file} is a pre-trained encoder, not a classifier: train one with "
            f"`convnextv2 classify --init {source} --data DIR --out RUN`"
        )
    model = build_again(found)
    return Classifier(
        model=model,
        classes=found.classes,
        multi_label=json.loads(found.metadata.get("multi_label", "false")),
        preprocessing=found.preprocessing,
        image_size=found.image_size,
        crop_pct=json.loads(found.metadata.get("crop_pct", "null")),
        averaged=found.averaged,
        trained_on=found.metadata.get("trained_on", ""),
        file=found.file,
    )


def build_again(found: ModelFile) -> ConvNeXt | TimmBackbone:
    """The classifier that a file describes, or the encoder where it has no classes, filled, in evaluation mode."""
    model = create_any(**arguments_of(found))
    needed = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    advice = "It was written with another version of timm: install that one, or train again"
    check(needed, found.encoder(), what=f"{found.file} (a {found.architecture['model']})", advice=advice)
    model.load_state_dict(found.encoder())
    return model.eval()


def arguments_of(found: ModelFile) -> dict[str, Any]:
    """Of `create_any`, for such a model with random weights."""
    arguments = dict(found.architecture)
    name = str(arguments.pop("model"))
    return {"name": name, "image_size": found.image_size, "num_classes": len(found.classes), **arguments}


@torch.no_grad()
def check_size(model: ConvNeXt | TimmBackbone, image_size: int, trained: int, file: Path) -> None:
    """UserError unless the model of a file takes pictures of `image_size`; some are built for one size.

    image_size, trained: pixels on a side, asked for and of training.
    """
    try:
        model(torch.zeros(1, model.in_chans, image_size, image_size))
    except Exception as error:  # timm's models raise all kinds
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"--image-size {image_size} does not suit {file} ({said}); leave it out for {trained}"
        ) from error
