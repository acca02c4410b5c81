"""Segment images with a trained model: a class for each pixel, one image after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convnextv2.atomic import write_atomically, write_text_atomically
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.given import Images, images_of
from convnextv2.data.loading.batch import PerImage
from convnextv2.data.loading.read_each import read_each
from convnextv2.data.masks.codes import SceneClasses
from convnextv2.data.transforms.display import pictures
from convnextv2.engine import distributed
from convnextv2.engine.new_folder import open_new
from convnextv2.engine.precision import resolve
from convnextv2.errors import UserError
from convnextv2.figures.scenes import overlay
from convnextv2.inference.loaded import LoadedModel
from convnextv2.inference.reader import as_listed, as_read, worker_count
from convnextv2.settings import make
from convnextv2.signatures import verb
from convnextv2.tasks.segment.model import load_segmenter, scene_classes
from convnextv2.tasks.segment.predict_settings import SegmentPredictSettings
from convnextv2.tasks.segment.use import scorer_of
from convnextv2.text import json_line, shown

_OVERLAY = 2048  # pixels on the longer side of an overlay at most


@dataclass(frozen=True, eq=False)
class ScenePrediction:
    """The classes of one image's pixels.

    path: as given, or joined to the folder or the text file that named it.  mask: uint8 (H, W), the class of each pixel
    in the model's order; None if the image could not be read.  shares: of each class that occurs, its share of the
    pixels, the largest first.  error: why it could not be read.
    """

    path: str
    mask: NDArray[np.uint8] | None = None
    shares: tuple[tuple[str, float], ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class WrittenScenes:
    """pictures: number of images given.  failed: number that could not be read.  files: as written."""

    pictures: int
    failed: int
    files: tuple[Path, ...]


@verb(SegmentPredictSettings, unchecked=("images",))
def predict(run: str | Path, images: Images, **settings: Any) -> Iterator[ScenePrediction]:
    """Segment images, in the order given, one by one while one iterates.

    run: a run's folder, or a `model.safetensors`.  images: see `convnextv2.predict`.

    Raises UserError for a mistake in these; an image that cannot be read has an `error`.
    """
    work = _prepare(run, images, make(SegmentPredictSettings, "predict", settings))
    return (prediction for prediction, _ in work.each())


@dataclass(frozen=True)
class _Work:
    loaded: LoadedModel[Any]
    images: ImageList
    settings: SegmentPredictSettings
    device: torch.device
    precision: str

    @property
    def scenes(self) -> SceneClasses:
        return scene_classes(self.loaded)

    def each(self, keep: Callable[[int, tuple[int, int]], NDArray[np.float16]] | None = None) -> Iterator[Any]:
        """Yield (prediction, image) for each, the image (C, H, W), None if it could not be read.

        keep: gives the array that takes the probabilities of an image of a size, (K, H, W).
        """
        s, images = self.settings, self.images
        spec = as_read(images, self.loaded.input_spec(), s)
        scorer = scorer_of(self.loaded, s, self.device, self.precision)
        several = len(s.factors) * (1 + s.mirror) > 1
        for batch in read_each(
            images,
            lambda image: {"images": PerImage(image)},
            range(len(images)),
            batch_size=1,
            workers=worker_count(s.workers, len(images)),
            reading=spec.reading(s.max_pixels),
        ):
            for index, reason in batch.bad:
                yield ScenePrediction(images.names[index], error=reason), None
            for index, image in zip(batch.indices.tolist(), batch.lists.get("images", ()), strict=True):
                mask = np.empty(tuple(image.shape[1:]), np.uint8)
                kept = None if keep is None else keep(index, (mask.shape[0], mask.shape[1]))
                for band in scorer.bands(image):
                    rows = slice(band.top, band.top + band.scores.shape[1])
                    mask[rows] = band.scores.argmax(0).to(torch.uint8).cpu().numpy()
                    if kept is not None:
                        chances = band.scores if several else band.scores.softmax(0)
                        kept[:, rows] = chances.half().cpu().numpy()
                yield ScenePrediction(images.names[index], mask, self._shares(mask)), image

    def _shares(self, mask: NDArray[np.uint8]) -> tuple[tuple[str, float], ...]:
        counts = np.bincount(mask.reshape(-1), minlength=len(self.loaded.classes))
        order = sorted(counts.nonzero()[0].tolist(), key=lambda place: (-counts[place], place))
        return tuple((self.loaded.classes[place], float(counts[place] / mask.size)) for place in order)


def _prepare(run: str | Path, images: Images, settings: SegmentPredictSettings) -> _Work:
    if settings.tile is not None:
        raise UserError(f"--tile {settings.tile}: a segmenter takes images of any size as they are; leave it out")
    listed = images_of(images)
    device = distributed.device_of(settings.device)
    loaded = load_segmenter(run, weights=settings.weights)
    listed = as_listed(listed, loaded.preprocessing, settings)
    return _Work(loaded, listed, settings, device, resolve(settings.precision, device)[0])


def write_segmentations(
    run: str | Path, images: Images, *, out: Path | None, say: Callable[[str], None], **options: Any
) -> WrittenScenes:
    """Segment images and write a mask for each: OUT/STEM.png, a byte a pixel, the class in the model's order.

    Beside them overlays/STEM.jpg, predictions.jsonl with the share of each class, classes.json with names and colours
    (so that OUT names what the masks hold), and as asked probabilities/STEM.npy. Images in folders keep their folders.

    out: a new or empty folder.  say: called with a line for each file that cannot be read.

    Raises as `predict`, and UserError without a folder or if two masks would have the same name.
    """
    if out is None:
        raise UserError("a segmenter writes a mask for each image: give a folder for them, --out DIR")
    s = make(SegmentPredictSettings, "predict", options)
    work = _prepare(run, images, s)
    names = _file_names(work.images)
    open_new(out)
    scenes, failed, files, lines = work.scenes, 0, [], []

    def keep(index: int, size: tuple[int, int]) -> NDArray[np.float16]:
        path = out / "probabilities" / f"{names[index]}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(scenes.names), *size)
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)

    for index, (found, image) in enumerate(work.each(keep if s.probabilities else None)):
        if found.mask is None:
            failed += 1
            say(f"skipped {shown(found.path)}: {found.error}")
            lines.append(json_line({"path": found.path, "error": found.error}))
            continue
        path = out / f"{names[index]}.png"
        _save(Image.fromarray(found.mask), path, "PNG")
        files.append(path)
        if s.overlay:
            drawn = _overlay(pictures(image, work.loaded.preprocessing), found.mask, scenes)
            _save(drawn, out / "overlays" / f"{names[index]}.jpg", "JPEG")
        shares = {name: round(share, 6) for name, share in found.shares}
        lines.append(json_line({"path": found.path, "mask": f"{names[index]}.png", "shares": shares}))
    said = {"classes": list(scenes.names), "palette": [list(colour) for colour in scenes.palette]}
    write_text_atomically(out / "classes.json", json_line(said) + "\n")
    write_text_atomically(out / "predictions.jsonl", "".join(f"{line}\n" for line in lines))
    return WrittenScenes(len(work.images), failed, (*files, out / "predictions.jsonl", out / "classes.json"))


def _file_names(images: ImageList) -> list[str]:
    """What the mask of each image is called, without its ending: as the image, in its folder below the one of all."""
    found: dict[str, str] = {}
    paths = [PurePosixPath(os.path.normpath(images.root / name)) for name in images.names]
    common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    for name, path in zip(images.names, paths, strict=True):
        stem = str(path.relative_to(common).with_suffix(""))
        if stem in found:
            raise UserError(
                f"the masks of {shown(found[stem])} and {shown(name)} would both be {shown(stem)}.png: predict them one"
                " after the other, with an --out of their own"
            )
        found[stem] = name
    return list(found)


def _overlay(image: Tensor, mask: NDArray[np.uint8], scenes: SceneClasses) -> Image.Image:
    """The colours over an image, at most `_OVERLAY` pixels on a side."""
    step = -(-max(mask.shape) // _OVERLAY)
    drawn = overlay(
        image[:, ::step, ::step], torch.from_numpy(np.ascontiguousarray(mask[::step, ::step])), scenes.palette
    )
    return Image.fromarray(drawn.permute(1, 2, 0).numpy())


def _save(image: Image.Image, path: Path, format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda partial: image.save(partial, format=format))
