"""Weights that others wrote: the official repository, timm, transformers, mmpretrain."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from convnextv2.checkpoints import official, strict
from convnextv2.checkpoints.own import CLASSIFIER, ENCODER, PRETRAINED, OwnFile
from convnextv2.checkpoints.pickles import is_torch_file, load_pickle
from convnextv2.checkpoints.recognise import Recognised, architecture_of, recognise
from convnextv2.errors import LoadError, UserError
from convnextv2.models.sizes import SIZES
from convnextv2.records import Preprocessing

UNKNOWN_LICENCE = "unknown; weights published with the paper are CC-BY-NC-4.0"
_FILES = ("model.safetensors", "pytorch_model.bin")
_MOST_CONFIG = 16 * 2**20


@dataclass(frozen=True)
class _Config:
    """What a config.json beside the weights says, of timm's or of transformers."""

    image_size: int = 224
    preprocessing: Preprocessing | None = None
    crop_pct: float | None = None
    classes: tuple[str, ...] = field(default=())


def read_foreign(file: Path, tensors: Mapping[str, Tensor], config: Path | None = None) -> OwnFile:
    """Weights in any known layout, as if a run of ours had written them, under our names.

    file: where the tensors come from, for messages.  config: a config.json that lies beside them.  A final norm that
    pre-training does not have is filled in as it starts.

    Raises LoadError where the layout is not known, or a tensor is missing, too many, or of another shape.
    """
    found = recognise(tensors, file)
    try:
        architecture = architecture_of(found.tensors)
    except LoadError as error:
        raise LoadError(f"{file} (in the layout of {found.layout.title}) does not fill a model: {error}") from None
    filled = _complete(found, architecture, file)
    head = filled.get("head.weight")
    about = _read_config(config) if config is not None else _Config()
    known = about.classes if head is not None and len(about.classes) == len(head) else ()
    classes = known or tuple(map(str, range(0 if head is None else len(head))))
    metadata = {
        "multi_label": "false",
        "crop_pct": json.dumps(about.crop_pct),
        "licence": UNKNOWN_LICENCE,
        "layout": found.layout.name,
    }
    kind = CLASSIFIER if classes else ENCODER
    if found.decoder:
        kind, filled = PRETRAINED, _autoencoder(found, filled, architecture, file)
        metadata["fcmae"] = json.dumps(_decoder_settings(found.decoder))
        classes = ()
    return OwnFile(
        file=file,
        format=kind,
        architecture=architecture,
        tensors=filled,
        preprocessing=about.preprocessing or Preprocessing.for_channels(architecture["in_chans"]),
        image_size=about.image_size,
        classes=classes,
        averaged=False,
        metadata=metadata,
    )


def _complete(found: Recognised, architecture: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """All of the encoder's tensors and nothing else."""
    size = SIZES[architecture["model"]]
    tensors, dims = dict(found.tensors), architecture["dims"] or size.dims
    head = tensors.get("head.weight", tensors.get("head.bias"))
    if not any(name.startswith(("norm.", "head.")) for name in tensors):
        tensors |= {"norm.weight": torch.ones(dims[3]), "norm.bias": torch.zeros(dims[3])}
    needed = official.shapes(
        depths=architecture["depths"] or size.depths,
        dims=dims,
        grn=size.grn,
        in_chans=architecture["in_chans"],
        stem_stride=architecture["stem_stride"],
        norm=True,
        num_classes=0 if head is None or not head.ndim else len(head),
    )
    what = f"{file} (in the layout of {found.layout.title}, a {_size_name(architecture)})"
    advice = "The file is damaged, incomplete, or of a changed model: fetch it again, or name the weights it came from"
    strict.check(needed, tensors, what=what, advice=advice, unexpected=found.unknown, spell=found.layout.named)
    return tensors


def _autoencoder(
    found: Recognised, encoder: Mapping[str, Tensor], architecture: Mapping[str, Any], file: Path
) -> dict[str, Tensor]:
    """Encoder and decoder of a whole masked autoencoder, by our names."""
    settings = _decoder_settings(found.decoder)
    width, dims = settings["decoder_dim"], architecture["dims"] or SIZES[architecture["model"]].dims
    pixels = (8 * architecture["stem_stride"]) ** 2 * architecture["in_chans"]
    needed: dict[str, tuple[int, ...]] = {"mask_token": (1, width, 1, 1)}
    needed |= {"proj.weight": (width, dims[3], 1, 1), "proj.bias": (width,)}
    needed |= {"pred.weight": (pixels, width, 1, 1), "pred.bias": (pixels,)}
    blocks = official.block_shapes(width, grn=True)
    for block in range(settings["decoder_depth"]):
        needed |= {f"decoder.{block}.{name}": shape for name, shape in blocks.items()}
    what = f"{file}: its decoder, of {settings['decoder_depth']} blocks of width {width},"
    strict.check(needed, found.decoder, what=what, advice="Remove the decoder's tensors to keep the encoder alone")
    return {f"encoder.{name}": tensor for name, tensor in encoder.items()} | dict(found.decoder)


def _decoder_settings(decoder: Mapping[str, Tensor]) -> dict[str, Any]:
    token = decoder.get("mask_token", decoder.get("proj.bias"))
    blocks = [int(match[1]) for match in map(re.compile(r"decoder\.(\d{1,4})\..*").fullmatch, decoder) if match]
    return {
        "mask_ratio": 0.6,
        "decoder_dim": 512 if token is None else token.numel(),
        "decoder_depth": min(max(blocks, default=0), 63) + 1,
        "norm_pix_loss": True,
    }


def _size_name(architecture: Mapping[str, Any]) -> str:
    if architecture["depths"] is None:
        return str(architecture["model"])
    family = architecture["model"].partition("_")[0]
    shape = ("/".join(map(str, architecture[name])) for name in ("depths", "dims"))
    return f"{family} of depths {next(shape)} and widths {next(shape)}"


def tensors_of(file: Path, *, averaged: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file or of one of `torch.save`, and the metadata of the former.

    Raises LoadError where it is neither, or damaged.
    """
    if is_torch_file(file):
        return load_pickle(file, averaged=averaged), {}
    try:
        with safe_open(file, "pt") as opened:
            names = opened.keys()
            return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError, RuntimeError) as error:
        said = " ".join(str(error).split())[:160]
        raise LoadError(f"{file} is neither readable safetensors nor a file of torch.save: {said}") from error


def in_folder(folder: Path) -> tuple[Path, Path] | None:
    """Weights and config.json of a folder as hubs have them; None for another folder."""
    config = folder / "config.json"
    if not config.is_file():
        return None
    for name in _FILES:
        if (folder / name).is_file():
            return folder / name, config
    return None


def _read_config(path: Path) -> _Config:
    try:
        if path.stat().st_size > _MOST_CONFIG:
            raise UserError(f"{path} is too large for a config.json")
        config = json.loads(path.read_text(encoding="utf-8"))
        if "pretrained_cfg" in config:  # timm's
            given = config["pretrained_cfg"]
            statistics = Preprocessing(tuple(given["mean"]), tuple(given["std"])) if "mean" in given else None
            names = config.get("label_names") or given.get("label_names") or ()
            size = int(given.get("input_size", (3, 224, 224))[-1])
            return _Config(size, statistics, given.get("crop_pct"), tuple(map(str, names)))
        labels = {int(index): str(name) for index, name in config.get("id2label", {}).items()}
        return _Config(int(config.get("image_size", 224)), classes=tuple(labels[index] for index in sorted(labels)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise LoadError(f"{path} cannot be read ({error}): fetch it again, or move it away to do without") from error
