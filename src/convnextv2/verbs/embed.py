"""Pooled features of every image of a folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnextv2.atomic import make_room, write_atomically, write_text_atomically
from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.data.files.given import Images, images_of, is_path
from convnextv2.errors import UserError
from convnextv2.inference.predictor import Predictor
from convnextv2.inference.reader import as_listed
from convnextv2.inference.settings import InferenceSettings
from convnextv2.loading import load
from convnextv2.settings import StrPath, make
from convnextv2.signatures import verb
from convnextv2.text import csv_cell, quoted
from convnextv2.verbs.features import pooled


@dataclass(frozen=True)
class Embedding:
    """features: (N, D) float32.  names: N files, as the folder lists them, or
    the numbers of images in memory.  bad: (name, reason).  files: as written."""

    features: NDArray[np.float32]
    names: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]
    files: tuple[Path, ...] = ()


@verb(InferenceSettings, unchecked=("data",))
def embed(run: str | Path, data: Images, out: StrPath | None = None, **settings: Any) -> Embedding:
    """Extract one feature vector per image, as `convnextv2 embed` does.

    run: a run of pre-training or of a classifier, whose head is not used, or any other source that `load` takes.
    data: a folder of images, or a text file of paths; or several paths, arrays, tensors, PIL images, or a map-style
    dataset, see `data.files.given.Images`.  out: a new file to write, .npy (with .names.txt beside it) or .csv; None to
    write nothing.

    Raises UserError for another ending of `out`, a missing run or an empty folder.
    """
    s = make(InferenceSettings, "embed", settings)
    target = None if out is None else Path(out)
    if target is not None:
        if target.suffix not in (".npy", ".csv"):
            raise UserError(f"--out {target}: name a file that ends in .npy or .csv")
        make_room(*((target, _names_file(target)) if target.suffix == ".npy" else (target,)))
    predictor = load(run).predictor()
    images = list_images(Path(data)) if is_path(data) else images_of(data)
    found = embed_images(predictor, as_listed(images, predictor.spec.preprocessing, s), s)
    return found if target is None else replace(found, files=tuple(_write(found, target)))


def embed_images(predictor: Predictor, images: ImageList, settings: InferenceSettings | None = None) -> Embedding:
    """Compute the pooled features of every image that can be read, in the order of the list."""
    found = pooled([predictor], images, range(len(images)), settings or InferenceSettings())
    names = tuple(images.names[index] for index in found.indices)
    return Embedding(found.features[0], names, tuple((images.names[index], reason) for index, reason in found.bad))


def _names_file(out: Path) -> Path:
    return out.with_suffix(".names.txt")


def _write(found: Embedding, out: Path) -> Iterator[Path]:
    if out.suffix == ".npy":

        def save(partial: Path) -> None:
            with partial.open("wb") as file:
                np.save(file, found.features)

        write_atomically(out, save)
        names = _names_file(out)
        write_text_atomically(names, "".join(f"{quoted(name)}\n" for name in found.names))
        yield from (out, names)
        return

    def table(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", *(f"f{i}" for i in range(found.features.shape[1]))])
            for name, row in zip(found.names, found.features, strict=True):
                writer.writerow([csv_cell(name), *row.tolist()])

    write_atomically(out, table)
    yield out
