"""Reconstructions of single pictures by a pre-trained model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from convnextv2.data.files.decode import decode
from convnextv2.data.transforms.colour import normalise
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.errors import BadImageError, UserError
from convnextv2.tasks.pretrain.masking import random_mask
from convnextv2.tasks.pretrain.model_file import load_pretrained
from convnextv2.tasks.pretrain.pictures import reconstruction_grid


def reconstruct_files(
    run: Path, images: Sequence[Path], out: Path, *, mask_ratio: float | None = None, seed: int = 0
) -> Iterator[Path]:
    """Write a PNG a picture (original, masked, predicted, pasted) into the folder `out`; yields their paths.

    run: a run's folder or its model.safetensors.  seed: of the masks; picture i gets `seed + i`.
    Raises UserError for a file that is no picture, after the others are done.
    """
    if not images:
        raise UserError("name at least one picture: convnextv2 reconstruct --run RUN IMAGE...")
    pretrained = load_pretrained(run)
    model, size = pretrained.model, pretrained.image_size
    ratio, cells = model.mask_ratio if mask_ratio is None else mask_ratio, size // model.cell
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror or error}; name a folder that can be written") from error
    bad: list[str] = []
    for number, path in enumerate(images):
        try:
            pixels = decode(path, channels=model.encoder.in_chans)
        except BadImageError as error:
            bad.append(str(error))
            continue
        picture = CenterFit(size)(torch.from_numpy(pixels).permute(2, 0, 1))[None]
        mask = random_mask(1, cells, cells, ratio, torch.Generator().manual_seed(seed + number))
        batch = normalise(picture, pretrained.preprocessing)
        with torch.no_grad():
            prediction = model.reconstruct(batch, mask).prediction
        target = _free_name(out, path.stem)
        norm_pix = model.norm_pix_loss
        reconstruction_grid(batch, mask, prediction, pretrained.preprocessing, norm_pix=norm_pix).save(target)
        yield target
    if bad:
        raise UserError(f"{len(bad)} of {len(images)} files are no pictures: {'; '.join(bad)}")


def _free_name(folder: Path, stem: str) -> Path:
    """A file name not yet taken: nothing is overwritten."""
    target, number = folder / f"{stem}-reconstruction.png", 1
    while target.exists():
        number += 1
        target = folder / f"{stem}-reconstruction-{number}.png"
    return target
