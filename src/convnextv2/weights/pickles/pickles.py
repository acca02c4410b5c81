"""Tensors out of a file that `torch.save` wrote, without running any code from the file.

Two safeguards: what the pickle would import is read from its instructions before anything is executed, and then
`torch.load` reads it with `weights_only`. Sizes are checked, too: an archive must not expand beyond its size, and no
tensor may be larger than the file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnextv2.errors import LoadError
from convnextv2.weights.pickles.pickle_scan import imports

_HARMLESS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    "argparse Namespace",  # the settings that official training writes beside its weights
    *(
        f"torch {kind}Storage"
        for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Byte", "Bool")
    ),
}
_MOST_INSTRUCTIONS = 2 * 2**20  # bytes; a training checkpoint of Huge has less than one million
_MOST_RECORDS = 100_000
_CONTAINERS = ("model", "state_dict", "model_state_dict", "state")
_SAID = ("licence", "birder_version", "class_to_idx", "rgb_stats", "signature")
_AVERAGES = ("model_ema", "state_dict_ema")


def is_torch_file(path: Path) -> bool:
    """Whether it begins as a zip archive or a pickle, and not as safetensors, whose first number may be any."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] != b"{" and (start.startswith(b"PK\x03\x04") or start[:1] == b"\x80")


def load_pickle(path: Path, *, averaged: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors (any shapes) of a model in a `torch.save` file, by name, as copies; and its metadata as text.

    They are under "model", "state_dict" or at the top; with `averaged`, an EMA of the weights beside them is taken
    instead ("model_ema", as official fine-tuning writes it). The rest of the file (optimiser, settings) is ignored.
    The metadata has "averaged", true or false, and licence, classes and statistics if the file has them.

    Raises LoadError for a file that is damaged, expands beyond its size, holds no tensors, or would run code.
    """
    size = path.stat().st_size
    _check_archive(path, size)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            # mmap: a storage that claims to be larger than its record cannot reach beyond the file.
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch's reader raises all kinds on a damaged file
        raise LoadError(f"{path} cannot be read: {_one_line(error)}; it is damaged, fetch or write it again") from error
    tensors, from_average = _tensors(found, averaged)
    if not tensors:
        raise LoadError(f"{path} holds no weights of a model under any of {', '.join(_CONTAINERS)}")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > 2 * size:
        raise LoadError(f"{path} is damaged: its tensors are larger than the file")
    said = {"averaged": json.dumps(from_average)}
    for name in _SAID:
        with contextlib.suppress(TypeError, ValueError, RecursionError):  # of another kind, for other readers
            if name in found:
                said[name] = found[name] if isinstance(found[name], str) else json.dumps(found[name])
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}, said


def _check_archive(path: Path, size: int) -> None:
    if not zipfile.is_zipfile(path):
        raise LoadError(
            f"{path} is not whole, or was written by torch before 1.6 or by something else: fetch it again, or save "
            "its tensors again with a newer torch"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            _check_kind(path, [record.filename for record in records[:_MOST_RECORDS]])
            if len(records) > _MOST_RECORDS or sum(record.file_size for record in records) > size:
                raise LoadError(f"{path} is refused: it would unpack to more than its own {size:,} bytes")
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise LoadError(f"{path} is refused: torch does not compress, so torch.save did not write it")
            if len({record.filename for record in records}) < len(records):
                raise LoadError(f"{path} is refused: it holds two records of one name")
            pickles = [record for record in records if record.filename.endswith("/data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > _MOST_INSTRUCTIONS:
                raise LoadError(f"{path} is not a file of torch.save: it has no readable data.pkl")
            instructions = archive.read(pickles[0])
        if instructions != torch._C.PyTorchFileReader(str(path)).get_record("data.pkl"):
            raise LoadError(f"{path} is refused: it holds two directories, and readers differ in which they see")
    except LoadError:  # also a ValueError, already complete
        raise
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError) as error:
        raise LoadError(f"{path} is damaged: {_one_line(error)}; fetch or write it again") from error
    try:
        wanted = sorted(imports(instructions) - _HARMLESS)
    except Exception as error:  # pickletools raises all kinds on bytes that are no instructions
        raise LoadError(f"{path} is damaged: {_one_line(error)}; fetch or write it again") from error
    if wanted:
        named = ", ".join(repr(name.replace(" ", ".")[:60]) for name in wanted[:5])
        raise LoadError(
            f"{path} is refused: it would run {named}, which weights do not need. If you trust its source, load it "
            "with torch yourself, and save only its state dict with safetensors"
        )


def _check_kind(path: Path, names: list[str]) -> None:
    """Refuse archives of other kinds by what they are."""
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise LoadError(
            f"{path} is a TorchScript program (torch.jit.save): load it with torch.jit.load, and save its state_dict() "
            "with torch.save"
        )
    inside = [name for name in names if name.endswith((".pt", ".pth", ".bin", ".ckpt", ".safetensors"))]
    if inside and not any(name.endswith("data.pkl") for name in names):
        raise LoadError(f"{path} is an archive with {inside[0]!r} in it: unpack it, and give that file")


def _tensors(found: Any, averaged: bool) -> tuple[dict[str, Tensor], bool]:
    """Return the first dictionary of tensors, at the top or under a usual name, and whether it is one of averages."""
    if not isinstance(found, Mapping):
        return {}, False
    taken = ""
    for key in (*_AVERAGES, *_CONTAINERS) if averaged else _CONTAINERS:
        inner = found.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            found, taken = inner, key
            break
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    return tensors, taken in _AVERAGES


def _one_line(error: BaseException) -> str:
    """Return the text of an error, without the general advice that torch puts before it."""
    text = " ".join(str(error).rpartition("WeightsUnpickler error:")[2].split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:160]}..."
