"""Weights that others wrote: the official repository, timm, transformers, mmpretrain, birder, torchvision."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from convnextv2.errors import LoadError, Notice, UserError
from convnextv2.models.config import EncoderConfig
from convnextv2.models.create import encoder_shapes
from convnextv2.records import Preprocessing
from convnextv2.text import listed, shown
from convnextv2.weights import kinds, strict
from convnextv2.weights.damage import why_unreadable
from convnextv2.weights.files import content_hash
from convnextv2.weights.layouts.recognise import Recognised, config_of, recognise
from convnextv2.weights.layouts.timm import TIMM, TIMM_FEATURES
from convnextv2.weights.layouts.transformers import TRANSFORMERS_DINOV3
from convnextv2.weights.licences import DINOV3, EUPE, UNKNOWN
from convnextv2.weights.model_file import ModelFile, ModelInfo
from convnextv2.weights.pickles.pickles import is_torch_file, load_pickle
from convnextv2.weights.shards import check_whole, is_index, read_shards
from convnextv2.weights.sources import sidecar

UNKNOWN_LICENCE = f"{UNKNOWN}; weights published with the paper are CC-BY-NC-4.0"
UNKNOWN_LICENCE_DISTILLED = f"{UNKNOWN}; DINOv3's weights are under {DINOV3}, EUPE's under {EUPE}"


def read_foreign(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, averaged: bool = True
) -> ModelFile:
    """Return weights in any known layout as if a run of ours had written them, under our names.

    file: where the tensors come from; a config.json beside it is read.  metadata: of the file itself.  A final norm
    that pre-training does not have is filled in with its initial values. Classes without names are called LABEL_0, ...
    averaged: of a student and its average in one file, the average is taken.

    Raises LoadError if the layout is not known, or a tensor is missing, too many, or of another shape.
    """
    found, metadata = recognise(tensors, file, averaged=averaged), metadata or {}
    _check_trained(tensors, file)
    try:
        config = config_of(found.tensors)
    except LoadError as error:
        raise LoadError(f"{file} (in the layout of {found.layout.title}) does not fill a model: {error}") from None
    if found.layout in (TIMM, TIMM_FEATURES) and not config.is_named_size:
        # A shape without a name is called after one of timm's sizes that have the same kind of pointwise layers.
        convolutions = any(name.endswith("mlp.fc1.weight") and tensor.ndim == 4 for name, tensor in tensors.items())
        config = replace(config, name=f"{config.family}_{'atto' if convolutions else 'tiny'}")
    filled = _complete(found, config, file)
    rows = len(filled["head.weight"]) if "head.weight" in filled else 0
    about = sidecar.in_file(file, metadata) or sidecar.about(file.parent)
    classes = about.classes if len(about.classes) == rows else tuple(f"LABEL_{row}" for row in range(rows))
    preprocessing = about.preprocessing
    if preprocessing is None or len(preprocessing.mean) != config.in_chans:
        preprocessing = Preprocessing.for_channels(config.in_chans)
    try:
        info = ModelInfo(
            kind="classifier" if classes else "encoder",
            architecture=config,
            preprocessing=preprocessing,
            image_size=about.image_size,
            classes=classes,
            multi_label=about.multi_label,
            crop_pct=about.crop_pct,
            licence=_licence(metadata) or about.licence or _unknown(found, config),
            layout=found.layout.name,
        )
    except UserError as error:
        raise LoadError(f"{file}, or config.json beside it: {error.args[0]}") from error
    if found.left_out not in ((), ("n_averaged",)):
        some = listed(found.left_out, 3)
        where = f"below {shown(found.prefix)!r} " if found.prefix else ""
        said = f"of {file.name} the encoder {where}is taken; {len(found.left_out)} other tensors are left out: {some}"
        warnings.warn(said, Notice, 2)
    if found.decoder:
        kind, options = kinds.of_others(found.decoder)
        info = replace(info, kind=kind, classes=(), options=options)
        filled = _with_rest(found, filled, info, file)
    averaged = found.averaged or metadata.get("averaged") == "true"
    return ModelFile(file, info, filled, averaged, sha256=content_hash(tensors, metadata))


def _licence(metadata: Mapping[str, str]) -> str:
    """The licence in a file's own metadata; empty if there is none."""
    return sidecar.licence(metadata.get("licence")) or sidecar.licence(metadata.get("license"))


def _unknown(found: Recognised, config: EncoderConfig) -> str:
    """What is said in place of a licence that the file does not name: that it is not known, and what it may be."""
    if found.has_alias or found.layout is TRANSFORMERS_DINOV3:
        return UNKNOWN_LICENCE_DISTILLED
    return UNKNOWN_LICENCE if config.grn else UNKNOWN


def _check_trained(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Refuse a file in which every weight is zero: nothing was in them when it was written."""
    weights = [tensor for name, tensor in tensors.items() if name.endswith("weight")]
    if weights and not any(bool(tensor.any()) for tensor in weights):
        raise LoadError(
            f"every weight in {file} is zero: it was saved before the weights were gathered (sharded training does "
            "that) or filled; save it again"
        )


def _complete(found: Recognised, config: EncoderConfig, file: Path) -> dict[str, Tensor]:
    """Return all of the encoder's tensors and nothing else."""
    tensors = dict(found.tensors)
    head = tensors.get("head.weight", tensors.get("head.bias"))
    needed = encoder_shapes(config, 0 if head is None or not head.ndim else len(head))
    if not any(name.startswith(("norm.", "head.")) for name in tensors):
        width = needed["norm.weight"]
        tensors |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    what = f"{file} (in the layout of {found.layout.title}, a {config.title})"
    advice = "The file is damaged, incomplete, or of a changed model: fetch it again, or name the weights it came from"
    strict.check(needed, tensors, what=what, advice=advice, unexpected=found.unknown, spell=found.spelled, floats=True)
    return tensors


def _with_rest(found: Recognised, encoder: Mapping[str, Tensor], info: ModelInfo, file: Path) -> dict[str, Tensor]:
    """Return the tensors of a whole model that holds an encoder, under our names."""
    needed = {name: shape for name, shape in (kinds.shapes(info) or {}).items() if not name.startswith("encoder.")}
    said = ", ".join(f"{name} {value}" for name, value in info.options.items())
    advice = "Remove all tensors but the encoder's to keep only that"
    strict.check(needed, found.decoder, what=f"{file}: a {info.kind} ({said})", advice=advice, floats=True)
    return {f"encoder.{name}": tensor for name, tensor in encoder.items()} | dict(found.decoder)


def tensors_of(file: Path, *, averaged: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors (any shapes) of a safetensors or `torch.save` file, or of all files of an index; and metadata.

    Raises LoadError if it is none of these, damaged, or one part of several.
    """
    if is_index(file):
        return read_shards(file, lambda part: _tensors_in(part, averaged))
    check_whole(file)
    return _tensors_in(file, averaged)


def _tensors_in(file: Path, averaged: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    if what := _no_weights(file):
        raise LoadError(f"{file} is {what}")
    if is_torch_file(file):
        return load_pickle(file, averaged=averaged)
    try:
        with safe_open(file, "pt") as opened:
            names = opened.keys()
            return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError, RuntimeError) as error:
        said = why_unreadable(file, error)
        raise LoadError(f"{file} is neither readable safetensors nor a file of torch.save: {said}") from error


_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")  # gzip, bzip2, xz, zstd, 7z


def _no_weights(file: Path) -> str | None:
    """What a file is that is often found in place of weights, and what to do; None for any other."""
    with file.open("rb") as opened:
        start = opened.read(512)
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights: its download was refused, or needs a login; fetch it with a browser"
    if start.startswith(_COMPRESSED) or start[257:262] == b"ustar":
        return "a compressed archive: unpack it, and give the file of weights in it"
    return None
