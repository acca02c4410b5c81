"""The files beside weights in a folder as hubs have them: config.json, the preprocessor's settings, the card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convnextv2.errors import LoadError
from convnextv2.records import Preprocessing
from convnextv2.weights import values
from convnextv2.weights.licences import DINOV3

CONFIG, PROCESSOR, CARD = "config.json", "preprocessor_config.json", "README.md"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "model.fp16.safetensors",
    "model.safetensors.index.fp16.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model.fp16.bin",
)
"""The weights of a folder, the first that is there: safetensors before a pickle, full precision before half."""
_MOST = 16 * 2**20  # bytes of a config.json; 21,841 class names take 1 MiB
_DINOV3 = "dinov3_convnext"
_FAMILIES = ("convnext", "convnextv2", _DINOV3)
_LICENCE = re.compile(
    r"""^licen[sc]e(_name)?:[ \t]*(?:\n?[ \t]*-[ \t]+)?["']?([\w.+ -]{2,60}?)["']?[ \t]*(?:\#.*)?$""", re.MULTILINE
)


@dataclass(frozen=True)
class About:
    """What is known of weights besides their values.

    image_size: pixels on a side.  preprocessing: None if not given.  crop_pct: see `CenterFit`.
    classes: names in the order of the head's rows; empty if not given.  licence: an identifier, or empty.
    """

    image_size: int = 224
    preprocessing: Preprocessing | None = None
    crop_pct: float | None = None
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    licence: str = ""


def weights_in(folder: Path) -> Path | None:
    """Return the weights of a folder as hubs have them, a file or the index of several; None for another folder."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def about(folder: Path) -> About:
    """Read what the files in a folder hold, in timm's or transformers' format; nothing if config.json is in neither.

    Raises LoadError if one of them cannot be read, or has an invalid value.
    """
    config = _read(folder / CONFIG)
    if isinstance(config.get("pretrained_cfg"), dict):
        said = _checked(folder / CONFIG, _timm, config)
    elif config.get("model_type") in _FAMILIES:
        said = _checked(folder / CONFIG, _transformers, config, _read(folder / PROCESSOR))
    else:
        return About()
    if not said.licence:
        said = replace(said, licence=_of_card(folder / CARD))
    if not said.licence and config.get("model_type") == _DINOV3:
        return replace(said, licence=DINOV3)  # there are no others of this type
    return said


def in_file(file: Path, metadata: Mapping[str, str]) -> About | None:
    """Read what birder writes into its files besides tensors; None for the files of others.

    Raises LoadError if a value is invalid.
    """
    return _checked(file, _birder, metadata) if "birder_version" in metadata else None


def _birder(metadata: Mapping[str, str]) -> About:
    said = {name: json.loads(metadata.get(name, "{}")) for name in ("signature", "rgb_stats", "class_to_idx")}
    shape = said["signature"]["inputs"][0]["data_shape"] if said["signature"] else (0, 3, 224, 224)
    statistics, names = said["rgb_stats"], {int(index): str(name) for name, index in said["class_to_idx"].items()}
    if sorted(names) != list(range(len(names))):
        raise ValueError("its class_to_idx does not number the classes from 0 on")
    return About(
        image_size=values.side(shape[-1]),
        preprocessing=values.statistics(statistics["mean"], statistics["std"]) if statistics else None,
        classes=values.class_names([names[index] for index in range(len(names))]),
    )


def _timm(config: Mapping[str, Any]) -> About:
    given: Mapping[str, Any] = config["pretrained_cfg"]
    size = values.side(given.get("input_size", (3, 224, 224))[-1])
    crop = given.get("crop_pct")
    whole = given.get("crop_mode") == "squash" and size >= 384
    names = config.get("label_names") or given.get("label_names") or ()
    return About(
        image_size=size,
        preprocessing=values.statistics(given["mean"], given["std"]) if "mean" in given else None,
        crop_pct=None if crop is None or whole else values.share(crop),
        classes=values.class_names(names),
        licence=licence(given.get("license")),
    )


def _transformers(config: Mapping[str, Any], processor: Mapping[str, Any]) -> About:
    if config.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"its hidden_act is {config['hidden_act']!r}, and ConvNeXt's is 'gelu'")
    if not 0 < config.get("layer_norm_eps", 1e-12) <= 1e-6:
        raise ValueError(f"its layer_norm_eps is {config['layer_norm_eps']!r}, and ConvNeXt's 1e-6")
    size = processor.get("size", {})
    shown = size.get("shortest_edge", size.get("height")) if isinstance(size, dict) else size
    side = values.side(config.get("image_size", 224) if shown is None else shown)
    crop = processor.get("crop_pct")
    if config["model_type"] == _DINOV3 and crop is None:
        crop = 1.0  # its processor cuts nothing off
    whole = crop is None or side >= 384  # its processor takes the whole image from there on
    names = {int(index): str(name) for index, name in config.get("id2label", {}).items()}
    if sorted(names) != list(range(len(names))):
        raise ValueError("its id2label does not number the classes from 0 on")
    statistics = None
    if processor.get("do_normalize") is False:
        statistics = Preprocessing((0.0,) * 3, (1.0,) * 3)
    elif "image_mean" in processor:
        statistics = values.statistics(processor["image_mean"], processor["image_std"])
    return About(
        image_size=side,
        preprocessing=statistics,
        crop_pct=None if whole else values.share(crop),
        classes=values.class_names([names[index] for index in range(len(names))]),
        multi_label=config.get("problem_type") == "multi_label_classification",
    )


def _of_card(card: Path) -> str:
    """Return the licence in the front matter of a model's card; empty if there is none."""
    try:
        with card.open(encoding="utf-8-sig", errors="replace") as file:
            text = file.read(2**16)
    except OSError:
        return ""
    found = _LICENCE.findall(text.split("\n---", 1)[0]) if text.startswith("---") else ()
    said = {bool(is_name): licence for is_name, licence in reversed(found)}
    if said.get(False, "other") == "other":  # the hub's word for one that it does not list
        return said.get(True, said.get(False, ""))
    return said[False]


def licence(value: object) -> str:
    """Return a licence as a file gives it; empty for an invalid one."""
    return value if isinstance(value, str) and value.isprintable() and 2 <= len(value) <= 100 else ""


def _read(path: Path) -> Mapping[str, Any]:
    """Return a file's JSON object; empty if there is no such file, or it holds something else."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MOST:
            raise ValueError("it is too large")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    return found if isinstance(found, dict) else {}


def _checked(path: Path, read: Any, *contents: Mapping[str, Any]) -> About:
    try:
        return read(*contents)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> LoadError:
    said = " ".join(str(error).split())[:160] or type(error).__name__
    return LoadError(f"{path} cannot be read ({said}): fetch it again, or move it away to do without")
