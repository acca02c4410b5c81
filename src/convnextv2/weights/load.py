"""Weights from wherever they come: a run of ours, a published name, or a file or folder in any layout we know."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from convnextv2.errors import LoadError, Notice
from convnextv2.models.sizes import SIZES
from convnextv2.weights.files import HASH_KEY, check_hash, content_hash
from convnextv2.weights.foreign import read_foreign, tensors_of
from convnextv2.weights.model_file import CLASSIFIER, ModelFile, Weights, find_weights, own_file
from convnextv2.weights.sources import hub
from convnextv2.weights.sources.download import Progress, fetch
from convnextv2.weights.sources.published import PUBLISHED, Published, of_folder, of_repository, published
from convnextv2.weights.sources.sidecar import identifier, weights_in

_OURS = {HASH_KEY, "preprocessing", "encoder", "image_size"}
_BY_FILE = {entry.file: entry for entry in PUBLISHED.values()}


class LicenceNotice(Notice):
    """Said once for weights that may not be used for everything."""


def read(source: str | Path, *, weights: Weights = "average", which: str | None = None) -> ModelFile:
    """Weights under our names and all that is known of them; everything that the file should have, or an error.

    source: a run's folder; a `model.safetensors` of ours; a file of the official code, timm, mmpretrain or birder;
    a folder with config.json as timm and transformers write it; `convnextv2_tiny.fcmae`, the name of published weights
    (`PUBLISHED`), which are downloaded once; or `hf:OWNER/NAME`, a repository of the Hugging Face hub.
    weights: of a file with both, the averaged or the plain ones.  which: of a run, "best" or "latest".

    Warns (LicenceNotice) of weights that may not be used commercially. Raises UserError where there is none; LoadError
    where it is damaged, wants to run code, or does not fill a model.
    """
    path, entry = Path(source), None
    if hub.is_address(str(source)):
        path = hub.fetch_folder(str(source))
        entry = of_repository(hub.parts(str(source))[0])
    elif path.is_dir():
        entry = of_folder(path.resolve())
    elif not path.exists() and _is_name(str(source)):
        entry = published(str(source))
        with shown_progress(entry.file) as progress:
            path = fetch(entry.url, progress=progress)
    file = (weights_in(path) if path.is_dir() else None) or find_weights(path, which)
    tensors, metadata = tensors_of(file, averaged=weights == "average")
    # Any one of our entries is enough: a damaged file of ours must not pass for one that has no hash.
    if _OURS & metadata.keys() or metadata.get("format", "").startswith("convnextv2."):
        check_hash(file, tensors, metadata)
        held = own_file(file, tensors, metadata, weights=weights)
    else:
        held = read_foreign(file, tensors, metadata)
        held = replace(held, metadata={**held.metadata, HASH_KEY: content_hash(tensors, metadata)})
        entry = entry or _BY_FILE.get(file.name)
        if entry is not None:
            held = _as_published(held, entry)
    licence = held.metadata.get("licence", "")
    if identifier(licence).startswith("cc-by-nc"):
        warnings.warn(f"the weights of {file.name} are under {licence}: not for commercial use", LicenceNotice, 2)
    return held


def absolute(source: Path | None) -> Path | None:
    """A file or folder by its whole path, so that a run goes on from anywhere; another source as it is."""
    return source.resolve() if source is not None and source.exists() else source


def _is_name(source: str) -> bool:
    """Whether it can only be meant as the name of published weights: SIZE.TAG."""
    size, dot, tag = source.partition(".")
    return size in SIZES and bool(dot) and tag not in ("pt", "pth", "bin", "safetensors")


def _as_published(held: ModelFile, entry: Published) -> ModelFile:
    """What the table knows of a published file besides its tensors."""
    if held.architecture["model"] != entry.model or (held.format == CLASSIFIER) == (entry.stage == "fcmae"):
        what = "a classifier" if held.format == CLASSIFIER else "an encoder"
        raise LoadError(
            f"{held.file} is not what is published under that name ({entry.name}): it holds {what}, "
            f"a {held.architecture['model']}; rename it, or put the right file there"
        )
    classes = held.classes
    if held.format == CLASSIFIER and len(classes) != (21841 if entry.stage == "in22k" else 1000):
        # Made from it: the licence is the same, all else is its own.
        return replace(held, metadata={**held.metadata, "licence": entry.licence})
    if classes[:1] == ("LABEL_0",) and len(classes) == 1000:
        classes = _imagenet_classes()
    metadata = {**held.metadata, "licence": entry.licence, "published": entry.name, "trained_on": _DATA[entry.stage]}
    metadata["crop_pct"] = json.dumps(entry.crop_pct)
    return replace(held, classes=classes, image_size=entry.image_size, metadata=metadata)


_DATA = {"fcmae": "ImageNet-1K", "in1k": "ImageNet-1K", "in22k": "ImageNet-22K", "in22k-in1k": "ImageNet-1K"}


def _imagenet_classes() -> tuple[str, ...]:
    """Names of the 1000 classes in their usual order; those that two classes share with the class's number."""
    from torchvision.models import ResNet18_Weights

    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(f"{name} ({index})" if names.count(name) > 1 else name for index, name in enumerate(names))


@contextmanager
def shown_progress(title: str) -> Iterator[Progress | None]:
    """A progress bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda there, whole: bar.update(task, completed=there, total=whole)
