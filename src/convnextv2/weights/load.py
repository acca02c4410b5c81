"""Weights from any source: a run of ours, a published name, or a file or folder in any known layout."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from convnextv2.errors import LoadError, Notice, UserError
from convnextv2.models.sizes import SIZES
from convnextv2.weights.files import HASH_KEY, check_hash
from convnextv2.weights.foreign import read_foreign, tensors_of
from convnextv2.weights.licences import terms
from convnextv2.weights.model_file import FORMAT, ModelFile, Weights, find_weights, parse_model_file
from convnextv2.weights.sources import hub
from convnextv2.weights.sources.download import Progress, fetch
from convnextv2.weights.sources.published import (
    ENCODERS,
    PUBLISHED,
    Published,
    of_folder,
    of_repository,
    published,
)
from convnextv2.weights.sources.sidecar import weights_in

_OURS = {HASH_KEY, "preprocessing", "encoder", "image_size"}
_BY_FILE = {entry.file: entry for entry in PUBLISHED.values() if entry.file}


class LicenceNotice(Notice):
    """Issued for weights whose licence restricts their use."""


def read(source: str | Path, *, weights: Weights = "average", which: str | None = None) -> ModelFile:
    """Read weights under our names and all that is known of them: everything that the file should have, or an error.

    source: a run's folder; a `model.safetensors` of ours; a file of the official code, timm, mmpretrain, birder or
    torchvision; a folder as timm and transformers write it, its weights in one file or in several with an index;
    `convnextv2_tiny.fcmae`, the name of published weights (`PUBLISHED`), which are downloaded once; or
    `hf:OWNER/NAME`, a repository of the Hugging Face hub.
    weights: of a file with both, the averaged or the plain ones.  which: of a run, "best" or "latest".

    Warns (LicenceNotice) of weights whose licence asks something of their users. Raises UserError if there is none;
    LoadError if it is damaged, would run code, or does not fill a model.
    """
    file, entry = _find(source, which)
    tensors, metadata = tensors_of(file, averaged=weights == "average")
    # Any one of our entries is enough: a damaged file of ours must not be taken for one without a hash.
    if _OURS & metadata.keys() or metadata.get("format", "").startswith("convnextv2."):
        check_hash(file, tensors, metadata)
        held = parse_model_file(file, tensors, metadata, weights=weights)
    else:
        held = read_foreign(file, tensors, metadata, averaged=weights == "average")
        entry = entry or _BY_FILE.get(file.name)
        if entry is not None:
            held = _as_published(held, entry)
    licence = held.info.licence or ""
    if asked := terms(licence):
        warnings.warn(f"the weights of {file.name} are under {licence}: {asked}", LicenceNotice, 2)
    return held


def kind_of(source: str | Path) -> str:
    """Return the kind of model that a source holds, from the metadata of a file of ours without reading its tensors.

    "classifier" for every file of others: whether it is one is known only after reading its tensors. A repository of
    the hub is fetched. Raises UserError if there is no such source.
    """
    if _is_published(source):
        published(str(source))
        return "classifier"
    file, _ = _find(source)
    try:
        with safe_open(file, "pt") as opened:
            match = FORMAT.fullmatch((opened.metadata() or {}).get("format", ""))
    except (SafetensorError, OSError):
        match = None
    return match[1] if match else "classifier"


def _find(source: str | Path, which: str | None = None) -> tuple[Path, Published | None]:
    """Return the file of weights that a source names, fetched if need be, and the published weights it stands for."""
    path, entry = Path(source), None
    if hub.is_address(str(source)):
        path = hub.fetch_folder(str(source))
        entry = of_repository(hub.parts(str(source))[0])
    elif path.is_dir():
        entry = of_folder(path.resolve())
    elif _is_published(source):
        entry = published(str(source))
        path = fetch_published(entry)
    elif not path.exists() and str(source) in SIZES:
        raise UserError(_only_a_size(str(source)))
    return (weights_in(path) if path.is_dir() else None) or find_weights(path, which), entry


def fetch_published(entry: Published) -> Path:
    """Return published weights on this machine, a file or a folder of the hub's cache, downloaded if need be."""
    if hub.is_address(entry.url):
        return hub.fetch_folder(entry.url)
    with shown_progress(entry.file) as progress:
        return fetch(entry.url, progress=progress)


def _is_published(source: str | Path) -> bool:
    """Whether it has the form of a name of published weights, SIZE.TAG, and is no file."""
    size, dot, tag = str(source).partition(".")
    is_name = size in SIZES and bool(dot) and tag not in ("pt", "pth", "bin", "safetensors")
    return is_name and not Path(source).exists()


def _only_a_size(size: str) -> str:
    """The error message for the name of a size, which says nothing of weights."""
    names = [name for name, entry in PUBLISHED.items() if entry.model == size]
    if not names:
        return f"{size} names a size, and no weights of it are published: `convnextv2 zoo` lists those that are"
    return f"{size} names a size and not its weights: give one of {', '.join(names)}"


def _as_published(held: ModelFile, entry: Published) -> ModelFile:
    """Return a published file with what the table has on it besides its tensors."""
    info, is_classifier = held.info, held.info.kind == "classifier"
    if info.architecture.name != entry.model or is_classifier == (entry.stage in ENCODERS):
        what = "a classifier" if is_classifier else "an encoder"
        raise LoadError(
            f"{held.path} is not what is published under that name ({entry.name}): it holds {what}, "
            f"a {info.architecture.name}; rename it, or put the right file there"
        )
    if is_classifier and len(info.classes) != (21841 if entry.stage == "in22k" else 1000):
        # Made from it: the licence is the same, all else is its own.
        return replace(held, info=replace(info, licence=entry.licence))
    unnamed = info.classes[:1] == ("LABEL_0",) and len(info.classes) == 1000
    published = replace(
        info,
        classes=_imagenet_classes() if unnamed else info.classes,
        image_size=entry.image_size,
        crop_pct=entry.crop_pct,
        licence=entry.licence,
        published=entry.name,
        trained_on=entry.data,
    )
    return replace(held, info=published)


def _imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 classes in their usual order; names of two classes with the class's number."""
    from torchvision.models import ResNet18_Weights

    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(f"{name} ({index})" if names.count(name) > 1 else name for index, name in enumerate(names))


@contextmanager
def shown_progress(title: str) -> Iterator[Progress | None]:
    """Show a progress bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda there, whole: bar.update(task, completed=there, total=whole)
