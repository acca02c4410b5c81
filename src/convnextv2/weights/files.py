"""Tensor files that are safe to read, and files that are either the old or the new one, never a partial one.

Weights are safetensors with a content hash of our own in the metadata (the format has none); nothing is pickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from convnextv2.atomic import write_atomically
from convnextv2.errors import LoadError

HASH_KEY = "content_sha256"
EMA_PREFIX = "ema/"
"""Prefix of the names of EMA weights, beside the weights themselves in one file."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors (any shapes) and text metadata, with their hash in it, to one safetensors file, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = dict(metadata or {})
    metadata[HASH_KEY] = content_hash(plain, metadata)
    write_atomically(path, lambda partial: save_file(plain, partial, metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors (any shapes) and metadata of a file written by `save_tensors`.

    Raises LoadError if the file is missing, is not safetensors, or does not match its content hash.
    """
    if not path.is_file():
        raise LoadError(f"no weights at {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise LoadError(f"{path} is not a readable safetensors file: {error}") from error
    check_hash(path, tensors, metadata)
    return tensors, metadata


def check_hash(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Raise LoadError unless tensors (any shapes) and metadata are those that the file was saved with."""
    recorded = metadata.get(HASH_KEY)
    if recorded is None:
        raise LoadError(f"{path} has no content hash, so convnextv2 did not write it")
    if recorded != content_hash(tensors, metadata):
        raise LoadError(f"{path} is damaged: its content does not match the hash it was saved with")


def content_hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 over names, types, shapes and values, and over the metadata except the hash itself."""
    digest = hashlib.sha256()
    for key in sorted(set(metadata) - {HASH_KEY}):
        digest.update(repr((key, metadata[key])).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def checkpoint_of(run: Path, which: str = "latest") -> Path | None:
    """Return the folder of a run's newest checkpoint, or of its best (`which="best"`); None if there is none.

    Raises LoadError if the run names one that does not exist.
    """
    folder = run / "checkpoints"
    pointer = folder / which
    if not pointer.is_file():
        return None
    found = folder / pointer.read_text(encoding="utf-8").strip()
    if not found.is_dir():
        raise LoadError(f"{pointer} names {found.name}, which is not there; name one of {checkpoints_in(folder)} in it")
    return found


def checkpoints_in(folder: Path) -> list[str]:
    """Return the names of the complete checkpoints below a run's `checkpoints/`, oldest first."""
    return sorted(path.name for path in folder.glob("step-*") if path.is_dir())
