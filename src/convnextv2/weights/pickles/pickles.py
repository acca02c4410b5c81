"""Tensors out of a file that `torch.save` wrote, without running any code from the file.

Two safeguards: what the pickle would import and call is read from its instructions before anything is executed
(pickle_scan.py, allowed.py), and then it is read by an unpickler that looks up no name (reader.py). Sizes are checked,
too: an archive must not expand beyond its size, and no tensor may be larger than the file.
"""

from __future__ import annotations

import contextlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnextv2.errors import LoadError
from convnextv2.text import listed, one_line, shown
from convnextv2.weights.pickles.allowed import refused
from convnextv2.weights.pickles.pickle_scan import imports
from convnextv2.weights.pickles.reader import StandIn, read_pickle

_MOST_INSTRUCTIONS = 2 * 2**20  # bytes; a training checkpoint of Huge has less than one million
_MOST_RECORDS = 100_000
_DEEPEST = 8  # dictionaries in one another that are looked through for tensors
_CONTAINERS = ("model", "state_dict", "model_state_dict", "state")
_SAID = ("licence", "license", "birder_version", "class_to_idx", "rgb_stats", "signature")
_AVERAGE = re.compile(r"(.*_)?(ema|averaged?|swa|teacher)(_.*)?", re.IGNORECASE)


def is_torch_file(path: Path) -> bool:
    """Whether it begins as a zip archive or a pickle, and not as safetensors, whose first number may be any."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] != b"{" and (start.startswith(b"PK\x03\x04") or start[:1] == b"\x80")


def load_pickle(path: Path, *, averaged: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors (any shapes) of a model in a `torch.save` file, by name, as copies; and its metadata as text.

    They are under "model", "state_dict" or another usual name, at the top, or in dictionaries inside ("net.", then, is
    before their names); with `averaged`, an EMA of the weights beside them is taken instead ("model_ema", as official
    fine-tuning writes it). The rest of the file (optimiser, settings) is ignored, whatever its classes are.
    The metadata has "averaged", true or false, and licence, classes and statistics if the file has them.

    Raises LoadError for a file that is damaged, expands beyond its size, holds no tensors, or would run code.
    """
    size = path.stat().st_size
    _check_archive(path, size)
    try:
        found = read_pickle(path)
    except Exception as error:  # torch and pickle raise all kinds on a damaged file
        raise LoadError(f"{path} cannot be read: {one_line(error)}; it is damaged, fetch or write it again") from error
    tensors, from_average = _tensors(found, averaged)
    if not tensors:
        raise LoadError(f"{path} holds no weights of a model: {_instead(found)}")
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
        raise LoadError(f"{path} is damaged: {one_line(error)}; fetch or write it again") from error
    try:
        unwanted = refused(imports(instructions))
    except Exception as error:  # pickletools raises all kinds on bytes that are no instructions
        raise LoadError(f"{path} is damaged: {one_line(error)}; fetch or write it again") from error
    if unwanted:
        named = ", ".join(repr(name[:60]) for name in unwanted[:5])
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
    """Return the tensors of a model, and whether they are its averages.

    Those under a usual name, or under that of an average if it has about as many; else all that there are, by path.
    """
    if not isinstance(found, Mapping):
        return {}, False
    inside = {key: tensors for key, value in found.items() if (tensors := _of(value))}
    plain = max((inside[key] for key in _CONTAINERS if key in inside), key=len, default={})
    if averaged:
        averages = [inside[key] for key in inside if isinstance(key, str) and _AVERAGE.fullmatch(key)]
        best = max(averages, key=len, default={})
        if best and 2 * len(best) >= len(plain):
            return best, True
    return plain or dict(_all(found)), False


def _of(value: object) -> dict[str, Tensor]:
    """The tensors that a dictionary holds by name, itself and not in others inside it."""
    if not isinstance(value, Mapping):
        return {}
    return {name: inner for name, inner in value.items() if isinstance(name, str) and isinstance(inner, Tensor)}


def _all(found: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """All tensors in dictionaries in one another, by the path of names to them."""
    for name, value in found.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(name, str) and isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _all(value, f"{prefix}{name}.", depth + 1)


def _instead(found: Any) -> str:
    """What a file holds that has no tensors of a model, and what to do."""
    objects = {"it": found} | (dict(found) if isinstance(found, Mapping) else {})
    classes = {str(name): value.named for name, value in objects.items() if isinstance(value, StandIn) and value.named}
    classes = {name: of for name, of in classes.items() if of.rpartition(".")[2][:1].isupper()}
    for name in ("it", "model", "ema", *classes):
        if name in classes:
            return (
                f"{shown(name)} is a whole object of class {shown(classes[name])}, which needs that class to be read; "
                "load it where it was made, and save its state_dict()"
            )
    if isinstance(found, Mapping) and found:
        return f"it has {listed(map(str, found), 3)} and no tensors by name; save the state_dict() of the model"
    return "it is empty, or no dictionary; save the state_dict() of the model"
