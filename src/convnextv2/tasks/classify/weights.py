"""From what `--init` names to a classifier that starts from it, and back into a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from convnextv2.models import ConvNeXt
from convnextv2.models.timm_backbone import TimmBackbone
from convnextv2.records import Preprocessing
from convnextv2.weights.adapt import STEM, adapt
from convnextv2.weights.init import history
from convnextv2.weights.model_file import CLASSIFIER, ModelFile
from convnextv2.weights.strict import check


def fill(model: ConvNeXt | TimmBackbone, init: ModelFile, classes: Sequence[str], inflate: str = "repeat") -> str:
    """Load a file's encoder into a classifier; says in words what became of the stem and of the head.

    Everything but the head loads, or nothing does: LoadError lists what is missing, unexpected or misshaped.
    The head is taken over from a classifier of the very same classes, else stays as it was made. The stem is adapted
    to other channels and to another stride (see `checkpoints.adapt`; inflate: its `how`).
    """
    target = model.state_dict()
    same = init.format == CLASSIFIER and tuple(classes) == init.classes
    head, encoder, said = _head_names(model), init.encoder(), []
    if isinstance(model, ConvNeXt) and STEM in encoder:
        encoder, said = adapt(encoder, in_chans=model.in_chans, stem_stride=model.stem_stride, how=inflate)
    tensors = {name: value for name, value in encoder.items() if same or name not in head}
    needed = {name: tuple(value.shape) for name, value in target.items() if same or name not in head}
    size = getattr(model, "image_size", None) or init.image_size
    advice = "Leave out --model and the options of its shape, so that the file decides"
    if size != init.image_size:
        advice = f"Leave out --image-size {size}: those weights are for {init.image_size} pixels"
    check(needed, tensors, what=f"{init.file} (a {init.architecture['model']})", advice=advice)
    model.load_state_dict(target | tensors)
    said += [f"licence of these weights: {init.metadata['licence']}"] if "licence" in init.metadata else []
    if same:
        said.insert(0, f"all weights from {init.file}, head included, as the classes are the same")
        return "; ".join(said)
    had = f"; its head of {len(init.classes)} classes is left out" if init.classes else ""
    return "; ".join([f"encoder from {init.file}{had}; a new head for {len(classes)} classes", *said])


def _head_names(model: ConvNeXt | TimmBackbone) -> set[str]:
    """Names of the tensors whose shape follows from the number of classes, also where the model has no head."""
    if isinstance(model, ConvNeXt):
        return {"head.weight", "head.bias"}
    of_heads = {id(p) for head in model.classifiers() for p in head.parameters()}
    return {name for name, p in model.named_parameters() if id(p) in of_heads}


def describe(
    arguments: Mapping[str, Any],
    *,
    classes: Sequence[str],
    multi_label: bool,
    preprocessing: Preprocessing,
    image_size: int,
    crop_pct: float | None,
    trained_on: str,
    init: ModelFile | None,
) -> dict[str, str]:
    """The metadata of a classifier's weights: enough to build it, to prepare its input and to name its answers."""
    return {
        "format": CLASSIFIER,
        "encoder": json.dumps(dict(arguments)),
        "classes": json.dumps(list(classes)),
        "multi_label": json.dumps(multi_label),
        "preprocessing": json.dumps(dataclasses.asdict(preprocessing)),
        "image_size": str(image_size),
        "crop_pct": json.dumps(crop_pct),
        "trained_on": trained_on,
        **history(init),
    }
