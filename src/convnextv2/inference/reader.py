"""Image files as batches of a model's input: each once, in order, read once if they fit into memory."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convnextv2.data.files.band_files import as_patterns, images_of_bands
from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.look import look
from convnextv2.data.files.parts import Tiles, paged, tiled
from convnextv2.data.files.raster import Window
from convnextv2.data.files.reading import ANY
from convnextv2.data.files.survey import as_channels, by_name, survey
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.read_each import read_each
from convnextv2.data.loading.statistics import chosen, read_statistics
from convnextv2.engine import machine
from convnextv2.errors import BadImageError, Notice, UserError, spelled
from convnextv2.inference.predictor import InputSpec
from convnextv2.inference.settings import InferenceSettings
from convnextv2.records import Bands, Preprocessing
from convnextv2.settings import as_value_range

_LOOKED_AT = 16  # files
_LOOKED_INTO = 4  # files, of which a part is decoded
_PART = 512  # pixels on a side of it
_NARROW = 0.1  # of the range of training; of 12 bits as 8 a sixteenth is left


def as_listed(images: ImageList, preprocessing: Preprocessing, settings: InferenceSettings) -> ImageList:
    """Return the images of a list of files as the model was trained on them: one for all files of its bands.

    With `pages` in the settings their pages, and with `tile` the tiles that cover them.

    Raises UserError as `patterns_of`, and if files of bands are missing.
    """
    images = images_of_bands(images, patterns_of(preprocessing, replace(settings, tile=None, pages="bands")))
    images = paged(images, ANY) if settings.pages == "images" else images
    return images if settings.tile is None else tiled(images, settings.tile, ANY)


def patterns_of(preprocessing: Preprocessing, settings: InferenceSettings) -> tuple[str, ...]:
    """Return the patterns of files of a band each that a model was trained on; empty for files that hold all bands.

    Raises UserError if the settings say otherwise of bands, channels or statistics than the model.
    """
    if settings.tile is not None:
        raise UserError(f"--tile {settings.tile}: labels are of whole images; it is for embed and predict")
    if settings.pages == "images":
        raise UserError("--pages images: labels are of whole files; it is for pretrain, stats, embed and predict")
    bands = preprocessing.bands
    if bands is None:
        for name in ("bands", "channels", "stats"):
            if getattr(settings, name) is not None:
                raise UserError(f"--{name}: the model was trained on pictures, not on numbers of bands; leave it out")
        return ()
    given = as_patterns(settings.bands)
    if given and given != bands.files:
        raise UserError(f"--bands {','.join(given)}: the model was trained on {','.join(bands.files) or 'whole files'}")
    numbers = tuple(str(channel + 1) for channel in bands.channels)
    if (asked := as_channels(settings.channels)) not in ((), numbers, bands.names):
        raise UserError(f"--channels {','.join(asked)}: the model was trained on {','.join(numbers)}")
    if settings.stats is not None:
        given = chosen(bands.channels, read_statistics(Path(settings.stats))).preprocessing
        if (given.mean, given.std, given.limits) != (preprocessing.mean, preprocessing.std, preprocessing.limits):
            raise UserError(f"--stats {settings.stats}: the model was trained with others; leave it out")
    return bands.files


def as_read(images: ImageList, spec: InputSpec, settings: InferenceSettings) -> InputSpec:
    """Return how images become a model's input, with a value range of the settings in place of the model's.

    Warns, in one line, of files that this suits badly: of other formats or values than the model was trained on.
    """
    if settings.value_range is not None and spec.preprocessing.bands is None:
        statistics = replace(spec.preprocessing, value_range=as_value_range(settings.value_range))
        spec = replace(spec, preprocessing=statistics)
    if settings.tile is not None:
        spec = replace(spec, crop_pct=None, resize="whole")
    if spec.preprocessing.bands is not None:
        if settings.value_range is not None:
            raise UserError("--value-range: the model was trained on numbers, and knows what they mean; leave it out")
        return _as_bands_read(images, spec, spec.preprocessing.bands)
    value_range = spec.preprocessing.value_range
    found = look(images, value_range, files=_LOOKED_AT, max_pixels=settings.max_pixels)
    said = ""
    if value_range is not None and found.files and found.plain == found.files:
        said = (
            f"the model reads values from {value_range[0]:g} to {value_range[1]:g}, and the {found.files} files looked "
            "at have 8 bits, which are read as they are: give files like those it was trained on"
        )
    elif value_range is not None and found.outside > 0.5:
        said = f"{found.said}: most values lie outside that range"
    elif found.lost:
        said = f"{found.said}: {found.lost}"
    if said:
        warnings.warn(spelled(said), Notice, stacklevel=3)
    return spec


def _as_bands_read(images: ImageList, spec: InputSpec, bands: Bands) -> InputSpec:
    """The same with the model's bands at their places in these files, which may have them in another order.

    Warns of files that name other bands, and of values that the model was not trained on.
    """
    try:
        found = survey(images, bands.files, max_pixels=ANY)
    except UserError:  # each file says for itself why it cannot be read
        return spec
    places = by_name(bands.names, found)
    said = ""
    if not bands.files and places is not None and places != bands.channels:
        here = replace(bands, count=found.count, channels=places)
        spec = replace(spec, preprocessing=replace(spec.preprocessing, bands=here))
        said = f"the bands are in another order than in training, and read by their names, {', '.join(bands.names)}"
    elif not bands.files and places is None and bands.names and all(bands.names) and any(found.names):
        said = (
            f"the model was trained on the bands {', '.join(bands.names)}, and these are"
            f" {', '.join(name or '?' for name in found.names)}: they are read by their places"
        )
    said = "; ".join(filter(None, (said, _unlike(images, spec))))
    if said:
        warnings.warn(spelled(said), Notice, stacklevel=4)
    return spec


def _unlike(images: ImageList, spec: InputSpec) -> str:
    """How the values of a few images are of another range than those of training; empty if they are not."""
    limits, reading = np.array(spec.preprocessing.limits), spec.reading()
    count, found = min(_LOOKED_INTO, len(images)), []
    for index in sorted({number * len(images) // count for number in range(count)}):
        with contextlib.suppress(BadImageError):
            part = None if isinstance(images.parts, Tiles) else Window(0.5, 0.5, _PART)
            raster = reading.raster(images, index, part)
            there = np.ones(raster.values.shape[:2], bool) if raster.valid is None else raster.valid
            found.append(raster.values[there].astype(np.float64))
    values = np.concatenate(found) if found else np.empty((0, len(limits)))
    if not len(values):
        return ""
    low, high = np.percentile(values, (1, 99), axis=0)
    outside = float(((values < limits[:, 0]) | (values > limits[:, 1])).mean())
    share = float(np.median((high - low) / (limits[:, 1] - limits[:, 0])))
    if outside <= 0.5 and share >= _NARROW:
        return ""
    return (
        f"nearly all values are from {low.min():g} to {high.max():g}, and in training they were from"
        f" {limits[:, 0].min():g} to {limits[:, 1].max():g}: give files in the same units"
    )


@dataclass(frozen=True)
class ImageBatch:
    """images: uint8 (B, C, size, size), those that could be read.  indices: int64 (B,), of the images in their list.

    bad: (index, reason) of those that could not.
    """

    images: Tensor
    indices: Tensor
    bad: tuple[tuple[int, str], ...]


class ImageReader:
    """The images of a list as a model sees them.

    keep: hold them in memory for the next pass, if they fit into an eighth of what is free.
    """

    def __init__(
        self,
        images: ImageList,
        spec: InputSpec,
        *,
        batch_size: int = 64,
        workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        keep: bool = False,
    ) -> None:
        self.images, self.spec = images, spec
        self.batch_size, self.workers = batch_size, workers
        self._reading = spec.reading(max_pixels)
        self.bad: dict[int, str] = {}
        size = len(images) * spec.in_chans * spec.image_size**2 * (1 if spec.preprocessing.format is None else 4)
        self._keep = keep and size < machine.free_bytes(torch.device("cpu")) // 8
        self._kept: dict[Sequence[int], list[ImageBatch]] = {}
        self._fit = spec.fit

    @staticmethod
    def of(images: ImageList, spec: InputSpec, settings: InferenceSettings, *, keep: bool = False) -> ImageReader:
        """Return a reader with the settings of a verb; see `as_read` for what it may say."""
        return ImageReader(
            images,
            as_read(images, spec, settings),
            batch_size=settings.batch_size,
            workers=settings.workers,
            max_pixels=settings.max_pixels,
            keep=keep,
        )

    def batches(self, indices: Sequence[int] | None = None) -> Iterator[ImageBatch]:
        """Yield every image at `indices` (by default all) once, in that order; unreadable ones are also in `bad`."""
        wanted = range(len(self.images)) if indices is None else indices
        wanted = wanted if isinstance(wanted, range) else tuple(wanted)
        if self._keep and wanted in self._kept:
            yield from self._kept[wanted]
            return
        kept = []
        for batch in self._read(wanted):
            self.bad |= dict(batch.bad)
            if self._keep:
                kept.append(batch)
            yield batch
        if self._keep:
            self._kept = {wanted: kept}

    def image(self, index: int) -> Tensor:
        """Return image `index` as the model sees it, uint8 (C, size, size). Raises BadImageError if unreadable."""
        return self._fit(ImageSet(self.images, self._transform, reading=self._reading).read(index))

    def _transform(self, image: Tensor) -> dict[str, Tensor]:
        return {"images": self._fit(image)}

    def _read(self, indices: Sequence[int]) -> Iterator[ImageBatch]:
        format = self.spec.preprocessing.format or torch.uint8
        empty = torch.zeros(0, self.spec.in_chans, self.spec.image_size, self.spec.image_size, dtype=format)
        for batch in read_each(
            self.images,
            self._transform,
            indices,
            batch_size=self.batch_size,
            workers=worker_count(self.workers, -(-len(indices) // self.batch_size)),
            reading=self._reading,
        ):
            yield ImageBatch(batch.tensors.get("images", empty), batch.indices, batch.bad)


def worker_count(workers: int | None, batches: int) -> int:
    """Return how many processes read so many batches: never more than can be busy beside the model.

    workers: the requested number; None for one per core less one, 1 to 8.
    """
    if workers is None:
        workers = min(max(1, machine.processors() - 1), 8)
    return min(workers, max(0, batches - 1))
