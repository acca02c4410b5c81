"""Pooled features of every picture of a folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convnextv2.atomic import make_room, write_atomically, write_text_atomically
from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.engine import distributed
from convnextv2.errors import UserError
from convnextv2.records import Preprocessing
from convnextv2.text import shown
from convnextv2.verbs.features import Model, load_encoder, pooled


@dataclass(frozen=True)
class Embedding:
    """features: (N, D) float32.  names: N files, as the folder lists them.  bad: (name, reason).  files: as written."""

    features: NDArray[np.float32]
    names: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]
    files: tuple[Path, ...] = ()


def embed_folder(
    run: Path, data: Path, out: Path, *, batch_size: int = 64, workers: int = 1, device: str = "auto"
) -> Embedding:
    """Write the features of a folder's pictures by a run's model to `out`, .npy (with .names.txt beside it) or .csv.

    run: of pre-training or of a classifier, whose head takes no part; or its model.safetensors.

    Raises UserError for another ending of `out`, a missing run or an empty folder.
    """
    if out.suffix not in (".npy", ".csv"):
        raise UserError(f"--out {out}: name a file that ends in .npy or .csv")
    make_room(*((out, _names_file(out)) if out.suffix == ".npy" else (out,)))
    check_loading(batch_size, workers)
    encoder = load_encoder(run)
    found = embed(
        encoder.model,
        list_images(data),
        preprocessing=encoder.preprocessing,
        image_size=encoder.image_size,
        crop_pct=encoder.crop_pct,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    return Embedding(found.features, found.names, found.bad, tuple(_write(found, out)))


def embed(
    encoder: Model,
    images: ImageList,
    *,
    preprocessing: Preprocessing,
    image_size: int,
    crop_pct: float | None = None,
    batch_size: int = 64,
    workers: int = 1,
    device: str = "auto",
) -> Embedding:
    """The pooled features of every picture that can be read, in the order of the list; in evaluation mode."""
    found = pooled(
        [encoder],
        images,
        range(len(images)),
        preprocessing=preprocessing,
        image_size=image_size,
        crop_pct=crop_pct,
        batch_size=batch_size,
        workers=workers,
        device=distributed.init(device).device,
    )
    names = tuple(images.names[index] for index in found.indices)
    return Embedding(found.features[0], names, tuple((images.names[index], reason) for index, reason in found.bad))


def check_loading(batch_size: int, workers: int) -> None:
    """Raises UserError for a batch without pictures, or fewer than no workers."""
    if batch_size < 1 or workers < 0:
        raise UserError(f"--batch-size {batch_size} and --workers {workers}: give at least 1 and 0")


def _names_file(out: Path) -> Path:
    return out.with_suffix(".names.txt")


def _write(found: Embedding, out: Path) -> Iterator[Path]:
    if out.suffix == ".npy":

        def save(partial: Path) -> None:
            with partial.open("wb") as file:
                np.save(file, found.features)

        write_atomically(out, save)
        names = _names_file(out)
        write_text_atomically(names, "".join(f"{shown(name)}\n" for name in found.names))
        yield from (out, names)
        return

    def table(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", *(f"f{i}" for i in range(found.features.shape[1]))])
            for name, row in zip(found.names, found.features, strict=True):
                writer.writerow([shown(name), *row.tolist()])

    write_atomically(out, table)
    yield out
