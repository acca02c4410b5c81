"""Tensor files that are safe to read, and files that are either the old or the new one, never a partial one.

Weights are safetensors with hashes of our own in the metadata (the format has none); nothing is pickled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from convnextv2.atomic import write_atomically
from convnextv2.errors import LoadError
from convnextv2.text import shown
from convnextv2.weights.damage import why_unreadable

HASH_KEY = "content_sha256"
"""Entry of the metadata: hash of the whole content."""

RUNNING_KEY = "running_sha256"
"""Entry of the metadata of checkpoints: how that hash began after each tensor, so that a damaged one can be named."""

EMA_PREFIX = "ema/"
"""Prefix of the names of EMA weights, beside the weights themselves in one file."""

_CHECKPOINT = re.compile(r"step-(\d{8}|[1-9]\d{8,})")


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, running: bool = False
) -> str:
    """Write tensors (any shapes) and text metadata, with their hash in it, to one safetensors file, atomically.

    running: whether to add to the metadata what names a tensor that was damaged; it costs no second look at the data.

    Returns the hash.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {name: text for name, text in (metadata or {}).items() if name not in (HASH_KEY, RUNNING_KEY)}
    *began, metadata[HASH_KEY] = _running_hash(plain, metadata)
    if running:
        metadata[RUNNING_KEY] = " ".join(each[:8] for each in began)
    write_atomically(path, lambda partial: save_file(plain, partial, metadata))
    return metadata[HASH_KEY]


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors (any shapes) and metadata of a file written by `save_tensors`.

    Raises LoadError if the file is missing, is not safetensors, or does not match its hash, with the first tensor that
    is damaged, if it tells.
    """
    with _opened(path) as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    check_hash(path, tensors, metadata)
    return tensors, metadata


def load_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file and none of its tensors. Raises LoadError as `load_tensors`."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise LoadError(f"no weights at {path}")
    try:
        with safe_open(path, "pt") as file:
            yield file
    except UNREADABLE as error:
        raise LoadError(f"{path} is not a readable safetensors file: {why_unreadable(path, error)}") from error


UNREADABLE = (SafetensorError, OSError, ValueError, TypeError, LookupError, OverflowError, RuntimeError)
"""What safetensors raises for a file that it cannot read."""


def check_hash(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Raise LoadError unless tensors (any shapes) and metadata are those that the file was saved with."""
    recorded = metadata.get(HASH_KEY)
    if recorded is None:
        raise LoadError(f"{path} has no content hash, so convnextv2 did not write it")
    *began, found = _running_hash(tensors, metadata)
    if found != recorded:
        where = _first_difference(sorted(tensors), began, metadata.get(RUNNING_KEY, "").split())
        raise LoadError(f"{path} is damaged{where}: its content does not match the hash it was saved with")


def content_hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 over names, types, shapes and values, and over the metadata except the hash itself."""
    return _running_hash(tensors, metadata)[-1]


def _running_hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[str]:
    """The hash of the metadata, of that and the first tensor by name, and so on; the last is the content's."""
    digest = hashlib.sha256()
    for key in sorted(set(metadata) - {HASH_KEY, RUNNING_KEY}):
        digest.update(repr((key, metadata[key])).encode())
    began = [digest.hexdigest()]
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        began.append(digest.hexdigest())
    return [*began, began[-1]]


def _first_difference(names: list[str], began: list[str], saved: list[str]) -> str:
    """Where content begins to differ from what was saved, in words; nothing if the file does not tell."""
    if len(saved) != len(began):
        return f" (it has {len(names)} tensors, and was saved with {len(saved) - 1})" if saved else ""
    places = zip(["its metadata", *names], began, saved, strict=True)
    differs = (place for place, here, there in places if here[:8] != there)
    first = next(differs, None)
    if first is None:
        return " (its hash)"
    return f" ({'' if first == 'its metadata' else 'tensor '}{shown(first)})"


def checkpoint_of(run: Path, which: str = "latest") -> Path | None:
    """Return the folder of a run's newest checkpoint, or of its best (`which="best"`); None if there is none.

    A process killed right after its first checkpoint has left no pointer to the newest yet. Raises LoadError if the
    run names one that does not exist, or lies elsewhere.
    """
    folder = run / "checkpoints"
    pointer = folder / which
    known = checkpoints_in(folder)
    if not pointer.is_file():
        return folder / known[-1] if known and which == "latest" else None
    name = pointer.read_bytes()[:100].decode(errors="replace").strip()
    hint = f"write the name of one of {known} into it" if known else "the folder has no other checkpoint"
    if not is_checkpoint_name(name):
        raise LoadError(f"{pointer} is damaged: it names no checkpoint; {hint}")
    if name not in known:
        is_link = (folder / name).is_symlink()
        raise LoadError(
            f"{pointer} names {name}, which is {'a link and no folder' if is_link else 'not there'}; {hint}"
        )
    return folder / name


def checkpoints_in(folder: Path) -> list[str]:
    """Return the names of the complete checkpoints below a run's `checkpoints/`, oldest first.

    Links and other names than a run gives, such as `step-00000032-keep`, are none.
    """
    found = (path.name for path in folder.glob("step-*") if path.is_dir() and not path.is_symlink())
    return sorted(filter(is_checkpoint_name, found), key=lambda name: (len(name), name))


def is_checkpoint_name(name: str) -> bool:
    """Whether a folder's name is one that a run gives to a checkpoint."""
    return _CHECKPOINT.fullmatch(name) is not None
