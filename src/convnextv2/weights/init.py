"""What a new model takes over from weights that exist: its shape, its tensors, its history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from convnextv2.errors import LoadError
from convnextv2.models.sizes import SIZES
from convnextv2.text import shown
from convnextv2.weights.files import HASH_KEY
from convnextv2.weights.model_file import ARCHITECTURE, ModelFile

DEFAULTS: dict[str, Any] = {"model": "convnextv2_atto", "in_chans": 3, "stem_stride": 4, "depths": None, "dims": None}


def architecture(asked: Mapping[str, Any], init: ModelFile | None) -> dict[str, Any]:
    """The encoder's arguments: what was asked for, else those of the file, else the defaults.

    Other channels and another stem stride may be asked for, as the stem can be adapted (`adapt`); another size may
    not. Raises LoadError then: what differs, and what to type.
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
    adapted = () if str(held["model"]).startswith("timm:") else ("in_chans", "stem_stride")
    different = [name for name in mine if mine[name] != its[name] and name not in adapted]
    if different:
        said = "; ".join(f"{name} {_plain(its[name])} there, {_plain(mine[name])} asked for" for name in different)
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in asked if asked[name] is not None)
        raise LoadError(
            f"{init.file} does not fit: {said}. Leave out {flags}, so that the file decides, "
            "or name the weights of such a model"
        )
    return wanted


def history(init: ModelFile | None) -> dict[str, str]:
    """For the metadata of what is trained from a file: the steps before, and the licence that goes with the weights."""
    if init is None:
        return {"trained_from": "[]"}
    step = {
        "format": init.format,
        "trained_on": init.metadata.get("trained_on", ""),
        "file": init.metadata.get("published") or shown(init.file.name),
        "sha256": init.metadata.get(HASH_KEY, ""),
    }
    known = {"trained_from": json.dumps([*json.loads(init.metadata.get("trained_from", "[]")), step])}
    return known | ({"licence": init.metadata["licence"]} if "licence" in init.metadata else {})


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
