"""Reconstructions of single images by a pre-trained model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from convnextv2 import notebook
from convnextv2.data.files.given import Images, images_of
from convnextv2.data.transforms.colour import existing
from convnextv2.errors import UserError
from convnextv2.inference.reader import ImageReader, as_listed
from convnextv2.inference.settings import InferenceSettings
from convnextv2.settings import StrPath
from convnextv2.signatures import verb
from convnextv2.tasks.pretrain.load import load_pretrained
from convnextv2.tasks.pretrain.masking import absent_cells, random_mask
from convnextv2.tasks.pretrain.samples import reconstruction_grid
from convnextv2.text import shown


class Pictures(list[Path]):
    """PNG files; a notebook shows them."""

    def _repr_html_(self) -> str:
        return notebook.pictures(self)


@verb(unchecked=("images",))
def reconstruct(
    run: str | Path,
    images: Images,
    out: StrPath = "reconstructions",
    *,
    mask_ratio: float | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Pictures:
    """Mask most of each image and write a PNG of what a pre-trained model fills in; returns the paths.

    Each PNG shows the image, what is visible, the prediction, and the prediction with the visible patches pasted in.

    run: a run's folder or a model.safetensors of one.  images: files, folders of them, or text files of paths; or
    arrays, tensors, PIL images, or a map-style dataset, see `data.files.given.Images`.
    out: a folder; nothing in it is overwritten.  mask_ratio: share of the patches to mask, by default as trained.
    seed: of the masks; image i gets `seed + i`.  say: called with each path as it is written.

    Raises UserError for a file that is not a readable image, after the others are done.
    """
    loaded, out, settings = load_pretrained(run), Path(out), InferenceSettings(batch_size=1, workers=0)
    listed = as_listed(images_of(images), loaded.preprocessing, settings)
    model, predictor = loaded.model, loaded.predictor()
    ratio = model.mask_ratio if mask_ratio is None else mask_ratio
    patches = loaded.image_size // model.cell
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror or error}; name a folder that can be written") from error
    written = Pictures()
    reader = ImageReader.of(listed, predictor.spec, settings)
    for batch in reader.batches():
        for number in batch.indices.tolist():
            valid = existing(batch.images)
            absent = None if valid is None else absent_cells(valid, model.cell, model.min_valid)
            drawn = torch.Generator().manual_seed(seed + number)
            mask = random_mask(1, patches, patches, ratio, drawn, absent=absent)
            pixels = predictor.normalise(batch.images)
            with torch.no_grad():
                prediction = model.reconstruct(pixels, mask, valid=valid).prediction
            target = _free_name(out, Path(listed.names[number]).stem)
            grid = reconstruction_grid(
                pixels, mask, prediction, loaded.preprocessing, norm_pix=model.norm_pix_loss, valid=valid
            )
            grid.save(target)
            written.append(target)
            say(str(target))
    if reader.bad:
        said = "; ".join(f"{shown(listed.names[number])}: {reason}" for number, reason in sorted(reader.bad.items()))
        raise UserError(f"{len(reader.bad)} of {len(listed)} files are not readable images: {said}")
    return written


def _free_name(folder: Path, stem: str) -> Path:
    """A file name not yet taken: nothing is overwritten."""
    target, number = folder / f"{stem}-reconstruction.png", 1
    while target.exists():
        number += 1
        target = folder / f"{stem}-reconstruction-{number}.png"
    return target
