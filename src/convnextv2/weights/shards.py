"""Weights in several files and an index of them, as transformers and accelerate write large models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from convnextv2.errors import LoadError
from convnextv2.text import listed, one_line, shown

Read = Callable[[Path], tuple[dict[str, Tensor], dict[str, str]]]
"""Reads the tensors (any shapes) and the metadata of one file."""

SHARDS = {
    "model.safetensors.index.json": "model-*.safetensors",
    "model.safetensors.index.fp16.json": "model.fp16-*.safetensors",
    "pytorch_model.bin.index.json": "pytorch_model-*.bin",
}
"""The usual names of an index, and a pattern of those of its files."""

_INDEX = re.compile(r".+\.(safetensors|bin)\.index(\.\w+)?\.json")
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.(safetensors|bin)")
_MOST = 64 * 2**20  # bytes of an index


def is_index(file: Path) -> bool:
    """Whether a file is named as an index."""
    return _INDEX.fullmatch(file.name) is not None


def check_whole(file: Path) -> None:
    """Raise LoadError for one of several files that hold a model together."""
    match = _SHARD.fullmatch(file.name)
    if match and int(match[2]) > 1:
        raise LoadError(
            f"{file} is one of {int(match[2])} parts of a model: give the folder that holds them all, or "
            f"{match[1]}.{match[3]}.index.json in it"
        )


def read_shards(index: Path, read: Read) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors (any shapes) of all files that an index names, and their metadata.

    Raises LoadError if the index is damaged, a file is missing or elsewhere, or a tensor is not where it says.
    """
    files = _files(index)
    missing = [name for name in sorted({*files.values()}) if not (index.parent / name).is_file()]
    if missing:
        raise LoadError(f"{index} names files that are not beside it: {listed(missing, 3)}; fetch them, too")
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for name in sorted({*files.values()}):
        part, said = read(index.parent / name)
        metadata |= said
        wanted = {tensor for tensor, file in files.items() if file == name}
        if wrong := sorted(wanted ^ part.keys()):
            raise LoadError(
                f"{index.parent / name} and {index.name} do not belong together: they differ in {listed(wrong, 3)}; "
                "fetch both again"
            )
        tensors |= part
    return tensors, metadata


def _files(index: Path) -> Mapping[str, str]:
    """The name of each tensor's file."""
    try:
        if index.stat().st_size > _MOST:
            raise ValueError("it is too large")
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(found, dict) or not found:
            raise ValueError("its weight_map is empty")
        strange = [name for name in found.values() if not isinstance(name, str) or Path(name).name != name]
        if strange:
            raise ValueError(f"it names {shown(str(strange[0]))[:60]}, which is no file beside it")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise LoadError(f"{index} is no index of weights ({one_line(error)}): fetch it again") from error
    return found
