"""From what `--init` names to a classifier that starts from it, and back into a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from convnextv2.checkpoints.files import HASH_KEY
from convnextv2.checkpoints.own import ARCHITECTURE, CLASSIFIER, OwnFile
from convnextv2.data.folder import shown
from convnextv2.errors import LoadError
from convnextv2.models import SIZES, ConvNeXt
from convnextv2.models.timm_backbone import TimmBackbone
from convnextv2.records import Preprocessing

DEFAULTS: dict[str, Any] = {"model": "convnextv2_atto", "in_chans": 3, "stem_stride": 4, "depths": None, "dims": None}
_LISTED = 10


def architecture(asked: Mapping[str, Any], init: OwnFile | None) -> dict[str, Any]:
    """The encoder's arguments: what was asked for, else those of the file, else the defaults.

    Raises LoadError where both say something and not the same: what differs, and what to type.
    """
    if init is None:
        return {name: DEFAULTS[name] if asked[name] is None else asked[name] for name in ARCHITECTURE}
    held = dict(init.architecture)
    wanted = {name: held[name] if asked[name] is None else asked[name] for name in ARCHITECTURE}
    if asked["model"] is not None and asked["model"] != held["model"]:
        # Another name without a shape of its own asks for that size's shape.
        wanted |= {name: asked[name] for name in ("depths", "dims")}
    mine, its = _shape(wanted), _shape(held)
    if mine["model"] != its["model"]:  # what else there is to say of them is not the same
        mine, its = {"model": asked["model"]}, {"model": held["model"]}
    different = [name for name in mine if mine[name] != its[name]]
    if different:
        said = "; ".join(f"{name} {_plain(its[name])} there, {_plain(mine[name])} asked for" for name in different)
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in asked if asked[name] is not None)
        raise LoadError(
            f"--init {init.file} does not fit: {said}. Leave out {flags}, so that the file decides, "
            "or name the weights of such a model"
        )
    return wanted


def fill(model: ConvNeXt | TimmBackbone, init: OwnFile, classes: Sequence[str]) -> str:
    """Load a file's encoder into a classifier; says in words what became of the head.

    Everything but the head loads, or nothing does: LoadError lists what is missing, unexpected or misshaped.
    The head is taken over from a classifier of the very same classes, else stays as it was made.
    """
    target = model.state_dict()
    same = init.format == CLASSIFIER and tuple(classes) == init.classes
    head = _head_names(model)
    tensors = {name: value for name, value in init.encoder().items() if same or name not in head}
    needed = {name: value for name, value in target.items() if same or name not in head}
    _check(init, tensors, needed, getattr(model, "image_size", None) or init.image_size)
    model.load_state_dict(target | tensors)
    if same:
        return f"all weights from {init.file}, head included, as the classes are the same"
    had = f"; its head of {len(init.classes)} classes is left out" if init.classes else ""
    return f"encoder from {init.file}{had}; a new head for {len(classes)} classes"


def _head_names(model: ConvNeXt | TimmBackbone) -> set[str]:
    """Names of the tensors whose shape follows from the number of classes."""
    heads = model.classifiers() if isinstance(model, TimmBackbone) else [model.head]
    of_heads = {id(p) for head in heads for p in head.parameters()}
    return {name for name, p in model.named_parameters() if id(p) in of_heads}


def _check(init: OwnFile, tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor], size: int) -> None:
    wrong = {
        "missing": sorted(needed.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - needed.keys()),
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)}, not {tuple(needed[name].shape)}"
            for name in sorted(needed.keys() & tensors.keys())
            if tensors[name].shape != needed[name].shape
        ],
    }
    if any(wrong.values()):
        parts = [
            f"{kind}: {', '.join(found[:_LISTED])}" + (f" and {len(found) - _LISTED} more" if found[_LISTED:] else "")
            for kind, found in wrong.items()
            if found
        ]
        advice = "Leave out --model and the options of its shape, so that the file decides"
        if size != init.image_size:
            advice = f"Leave out --image-size {size}: those weights are for {init.image_size} pixels"
        raise LoadError(
            f"{init.file} (a {init.architecture['model']}) does not fill the model: {'; '.join(parts)}. {advice}"
        )


def describe(
    arguments: Mapping[str, Any],
    *,
    classes: Sequence[str],
    multi_label: bool,
    preprocessing: Preprocessing,
    image_size: int,
    crop_pct: float | None,
    trained_on: str,
    init: OwnFile | None,
) -> dict[str, str]:
    """The metadata of a classifier's weights: enough to build it, to prepare its input and to name its answers."""
    history = []
    if init is not None:
        before = json.loads(init.metadata.get("trained_from", "[]"))
        step = {
            "format": init.format,
            "trained_on": init.metadata.get("trained_on", ""),
            "file": shown(init.file.name),
            "sha256": init.metadata.get(HASH_KEY, ""),
        }
        history = [*before, step]
    described = {
        "format": CLASSIFIER,
        "encoder": json.dumps(dict(arguments)),
        "classes": json.dumps(list(classes)),
        "multi_label": json.dumps(multi_label),
        "preprocessing": json.dumps(dataclasses.asdict(preprocessing)),
        "image_size": str(image_size),
        "crop_pct": json.dumps(crop_pct),
        "trained_on": trained_on,
        "trained_from": json.dumps(history),
    }
    if init is not None and "licence" in init.metadata:
        described["licence"] = init.metadata["licence"]
    return described


def _shape(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What two architectures must share to have the same tensors, under the names of the options."""
    model = str(arguments["model"])
    shape: dict[str, Any] = {"in_chans": arguments["in_chans"], "stem_stride": arguments["stem_stride"]}
    size = SIZES.get(model)
    if size is None:
        return {"model": model, **shape}
    return {
        "model": "convnextv2" if size.grn else "convnext",
        "depths": tuple(arguments["depths"] or size.depths),
        "dims": tuple(arguments["dims"] or size.dims),
        **shape,
    }


def _plain(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
