"""Weights from wherever they come: a run of ours, or a file or folder in any layout we know."""

from __future__ import annotations

from pathlib import Path

from convnextv2.checkpoints.files import HASH_KEY, check_hash
from convnextv2.checkpoints.foreign import in_folder, read_foreign, tensors_of
from convnextv2.checkpoints.own import OwnFile, Weights, find_weights, own_file

_OURS = {HASH_KEY, "preprocessing", "encoder", "image_size"}


def read(source: str | Path, *, weights: Weights = "average", which: str | None = None) -> OwnFile:
    """Weights under our names and all that is known of them; everything that the file should have, or an error.

    source: a run's folder, a `model.safetensors` of ours, a file of the official repository, timm or mmpretrain, or a
    folder with config.json as timm and transformers write it.  weights: of a file with both, the averaged or the plain
    ones.  which: of a run, "best" or "latest".

    Raises UserError where there is none; LoadError where it is damaged, wants to run code, or does not fill a model.
    """
    path = Path(source)
    found = in_folder(path) if path.is_dir() else None
    file, config = found or (find_weights(path, which), None)
    tensors, metadata = tensors_of(file, averaged=weights == "average")
    # Any one of our entries is enough: a damaged file of ours must not pass for one that has no hash.
    if _OURS & metadata.keys() or metadata.get("format", "").startswith("convnextv2."):
        check_hash(file, tensors, metadata)
        return own_file(file, tensors, metadata, weights=weights)
    beside = file.with_name("config.json")
    return read_foreign(file, tensors, config or (beside if beside.is_file() else None))
