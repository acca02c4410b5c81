"""Pooled features of every picture of a folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convnextv2.checkpoints.files import write_atomically, write_text_atomically
from convnextv2.data.colour import normalise
from convnextv2.data.decode import decode
from convnextv2.data.folder import ImageList, list_images, shown
from convnextv2.data.geometry import CenterFit
from convnextv2.engine import distributed
from convnextv2.errors import BadImage, RunFailed, UserError
from convnextv2.models import ConvNeXt
from convnextv2.records import Preprocessing
from convnextv2.tasks.pretrain.model_file import load_pretrained


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

    Raises UserError for another ending of `out`, a missing run or an empty folder.
    """
    if out.suffix not in (".npy", ".csv"):
        raise UserError(f"--out {out}: name a file that ends in .npy or .csv")
    targets = (out, _names_file(out)) if out.suffix == ".npy" else (out,)
    for target in targets:
        if target.exists():
            raise UserError(f"{target} is there already, and nothing is overwritten: remove it, or name another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {out}: {error.strerror or error}; name a file in a folder that can be written"
        ) from error
    if batch_size < 1 or workers < 0:
        raise UserError(f"--batch-size {batch_size} and --workers {workers}: give at least 1 and 0")
    pretrained = load_pretrained(run)
    images = list_images(data)
    found = embed(
        pretrained.model.encoder,
        images,
        preprocessing=pretrained.preprocessing,
        image_size=pretrained.image_size,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    return Embedding(found.features, found.names, found.bad, tuple(_write(found, out)))


def embed(
    encoder: ConvNeXt,
    images: ImageList,
    *,
    preprocessing: Preprocessing,
    image_size: int,
    batch_size: int = 64,
    workers: int = 1,
    device: str = "auto",
) -> Embedding:
    """The pooled features of every picture that can be read, in the order of the list; in evaluation mode."""
    place = distributed.join(device)
    encoder = encoder.to(place.device).eval()
    crops = _Crops(images, encoder.in_chans, image_size)
    loader = DataLoader(crops, batch_size, num_workers=workers, collate_fn=_collate)
    features, names, bad = [], [], []
    with torch.no_grad():
        for pictures, indices, broken in loader:
            bad += [(images.names[index], reason) for index, reason in broken]
            if pictures is not None:
                batch = normalise(pictures.to(place.device), preprocessing)
                features.append(encoder.pooled_features(batch).float().cpu().numpy())
                names += [images.names[index] for index in indices]
    if not features:
        raise RunFailed(f"none of the {len(images)} files in {images.source} can be read; the first: {bad[0][1]}")
    return Embedding(np.concatenate(features), tuple(names), tuple(bad))


class _Crops(Dataset[tuple[int, Tensor | str]]):
    """Each picture's centre, or the reason why it has none."""

    def __init__(self, images: ImageList, channels: int, size: int) -> None:
        self.images, self.channels, self.fit = images, channels, CenterFit(size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            pixels = decode(self.images.path(index), channels=self.channels)
        except BadImage as error:
            return index, error.reason
        return index, self.fit(torch.from_numpy(pixels).permute(2, 0, 1))


def _collate(
    samples: list[tuple[int, Tensor | str]],
) -> tuple[Tensor | None, list[int], list[tuple[int, str]]]:
    good = [(index, value) for index, value in samples if isinstance(value, Tensor)]
    bad = [(index, value) for index, value in samples if isinstance(value, str)]
    pictures = torch.stack([value for _, value in good]) if good else None
    return pictures, [index for index, _ in good], bad


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
