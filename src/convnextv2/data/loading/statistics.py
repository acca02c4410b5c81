"""Statistics of images, band by band: what their numbers mean to a model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnextv2 import seal
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.raster import Part, Raster, Window
from convnextv2.data.files.reading import ANY, Reading
from convnextv2.data.loading.batch import PerImage
from convnextv2.data.loading.read_each import read_each
from convnextv2.errors import UserError
from convnextv2.records import Bands, Preprocessing
from convnextv2.text import one_line, shown

FORMAT = "convnextv2.statistics.1"
PERCENTILES = (0.1, 1, 2, 25, 50, 75, 98, 99, 99.9)
IMAGES = 1000
"""How many images a run reads for its statistics, spread evenly over a list."""

_SAMPLED = 1 << 18  # pixels that percentiles are taken from
_FEWEST = 16  # of each image
_BINS = 64


@dataclass(frozen=True)
class BandStatistics:
    """One band.

    mean, std, min, max: of all values that were read.  percentiles: by their number as text, of a sample.
    clip: the lowest and the highest value that a model is shown.  input_mean, input_std: of the values so clipped.
    histogram: counts of the sample's values in equal bins from `clip[0]` to `clip[1]`.
    """

    name: str
    mean: float
    std: float
    min: float
    max: float
    percentiles: Mapping[str, float]
    clip: tuple[float, float]
    input_mean: float
    input_std: float
    histogram: tuple[int, ...]

    @property
    def stretch(self) -> tuple[float, float]:
        """The values that figures show as black and as white: nearly all lie between."""
        low, high = self.percentiles["0.1"], self.percentiles["99.9"]
        return (low, high) if low < high else self.clip

    @property
    def is_constant(self) -> bool:
        """Whether all values are the same, so that the band tells nothing."""
        return self.min == self.max


@dataclass(frozen=True)
class Statistics:
    """The statistics of a list of images, as `convnextv2 stats` writes them.

    images: in the list.  read, unreadable: how many were read, and could not be.  pixels: of those read.
    missing: share of them without data, 0 to 1.  read_as: which numbers of the files they are of.
    """

    images: int
    read: int
    unreadable: int
    pixels: int
    missing: float
    read_as: Bands
    bands: tuple[BandStatistics, ...]

    @property
    def preprocessing(self) -> Preprocessing:
        """How images with these statistics become a model's input."""
        stretch = tuple(band.stretch for band in self.bands)
        bands = replace(self.read_as, clip=tuple(band.clip for band in self.bands), stretch=stretch)
        return Preprocessing(
            tuple(band.input_mean for band in self.bands), tuple(band.input_std for band in self.bands), bands=bands
        )

    def to_json(self) -> str:
        """Return it as text; `from_json` reads it back."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> Statistics:
        """Read what `to_json` wrote. Raises ValueError, LookupError or TypeError for anything else."""
        said = seal.parse(text)
        if not isinstance(said, dict) or said.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        read_as = said.pop("read_as")
        for name in ("channels", "names", "files", "show"):
            read_as[name] = tuple(read_as[name])
        for name in ("clip", "stretch"):
            read_as[name] = tuple(map(tuple, read_as[name]))
        bands = tuple(
            BandStatistics(**{**band, "clip": tuple(band["clip"]), "histogram": tuple(band["histogram"])})
            for band in said.pop("bands")
        )
        found = Statistics(**said, read_as=Bands(**read_as), bands=bands)
        numbers = [n for b in bands for n in (b.mean, b.std, b.input_mean, b.input_std, *b.clip)]
        if len(bands) != len(found.read_as.channels) or not all(math.isfinite(number) for number in numbers):
            raise ValueError("its bands are not those that it says it is of")
        if not all(band.input_std > 0 and band.clip[0] < band.clip[1] for band in bands):
            raise ValueError("a band has no spread")
        return found


def read_statistics(path: Path) -> Statistics:
    """Read a file of `convnextv2 stats`. Raises UserError if it is none."""
    try:
        return Statistics.from_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {shown(path)}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{shown(path)} is no file of statistics ({one_line(error)}): make one with convnextv2 stats DIR --out FILE"
        ) from error


def statistics(
    images: ImageList,
    bands: Bands,
    *,
    most: int | None = IMAGES,
    max_pixels: int,
    workers: int = 0,
    seen: Callable[[int], None] | None = None,
) -> Statistics:
    """Read images and return their statistics, the same for any number of `workers`, the processes that decode.

    bands: which numbers of the files; their `format` and `clip` are found here.  most: read so many images, spread
    evenly over the list; None for all.  seen: called with the number of images after every batch.

    Raises UserError if none can be read, or all that was read is missing data.
    """
    count = len(images) if most is None else min(most, len(images))
    indices = sorted({number * len(images) // count for number in range(count)})
    reading = _InParts(len(bands.channels), max_pixels, bands=replace(bands, clip=()))
    measure = _Measure(max(_FEWEST, _SAMPLED // len(indices)))
    total, bad, first_bad = _Sums(len(bands.channels)), 0, ""
    for batch in read_each(images, measure, indices, batch_size=16, workers=workers, reading=reading):
        bad += len(batch.bad)
        if batch.bad and not first_bad:
            first_bad = f": {batch.bad[0][1]} ({shown(images.path(batch.bad[0][0]))})"
        for sums, sample in zip(batch.tensors.get("sums", ()), batch.lists.get("sample", ()), strict=True):
            total.add(sums.numpy(), sample.numpy())
        if seen is not None:
            seen(len(batch.indices) + len(batch.bad))
    if total.images == 0:
        raise UserError(f"none of the {len(indices)} images read in {shown(images.source)} can be read{first_bad}")
    if total.there == 0:
        raise UserError(f"all pixels of the {total.images} images read in {shown(images.source)} are missing data")
    found = replace(bands, format=total.format, clip=())
    return Statistics(
        len(images), total.images, bad, total.pixels, 1 - total.there / total.pixels, found, tuple(total.bands(found))
    )


_LARGE = 1 << 24  # pixels of an image of which parts are read, if it can be read in parts:
_PARTS, _SIDE = 4, 512  # 4 x 4 of 512 pixels on a side


class _InParts(Reading):
    """Gives of a large image 16 parts spread evenly over it, one below the other, in place of the whole."""

    def raster(self, images: ImageList, index: int, window: Part | None = None) -> Raster:
        """See `Reading.raster`."""
        with images.open(index, ANY) as image:
            large = min(image.size) > _SIDE and image.size[0] * image.size[1] > _LARGE
            in_parts = large and image.in_parts()
        if not in_parts:
            return super().raster(images, index, window)
        places = [(k + 0.5) / _PARTS for k in range(_PARTS)]
        parts = [super(_InParts, self).raster(images, index, Window(y, x, _SIDE)) for y in places for x in places]
        valid = None
        if any(part.valid is not None for part in parts):
            whole = np.ones((_SIDE, _SIDE), bool)
            valid = np.concatenate([whole if part.valid is None else part.valid for part in parts])
        return Raster.of(np.concatenate([part.values for part in parts]), valid)


_FORMATS = (torch.uint8, torch.int16, torch.uint16, torch.float32)
_NAMES = ("uint8", "int16", "uint16", "float32")


@dataclass(frozen=True)
class _Measure:
    """The transform of an image: its sums, and some of its pixels spread evenly."""

    kept: int

    def __call__(self, image: Tensor) -> dict[str, Tensor | PerImage]:
        """image: (C, H, W).  Returns sums, float64 (3 + 4 C), see `_Sums.add`; sample, float32 (n, C)."""
        flat = image.flatten(1)
        incomplete = bool(image.is_floating_point() and flat.isnan().any())
        pixels = flat.shape[1]
        if incomplete:
            flat = flat[:, ~flat.isnan().any(0)]
        whole = not incomplete or bool(
            (flat == flat.round()).all()
        )  # else it was no integer before pixels were missing
        incomplete = incomplete and whole
        head = torch.tensor([pixels, flat.shape[1], _FORMATS.index(image.dtype) + 10 * incomplete], dtype=torch.float64)
        step = max(1, flat.shape[1] // self.kept)
        sample = flat[:, step // 2 :: step][:, : self.kept].T.to(torch.float32).contiguous()
        if not flat.shape[1]:
            return {
                "sums": torch.cat([head, torch.zeros(4 * len(flat), dtype=torch.float64)]),
                "sample": PerImage(sample),
            }
        moments = []
        for values in flat:  # one band at a time, as they are copied
            exact = values.to(torch.float64)
            spread, mean = torch.var_mean(exact, 0, correction=0)
            moments.append(torch.stack([mean, spread * len(exact), exact.amin(), exact.amax()]))
        return {"sums": torch.cat([head, torch.stack(moments, 1).flatten()]), "sample": PerImage(sample)}


class _Sums:
    """Statistics of the images so far, in the order in which they were added."""

    def __init__(self, channels: int) -> None:
        self.images = self.pixels = self.there = 0
        self._mean, self._spread = np.zeros(channels), np.zeros(channels)
        self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._samples: list[NDArray[np.float32]] = []
        self._complete: set[str] = set()  # formats of images without missing pixels, which became floats otherwise
        self._any: set[str] = set()

    def add(self, sums: NDArray[np.float64], sample: NDArray[np.float32]) -> None:
        """sums: pixels, those that exist, the format; mean, sum of squared deviations, minimum, maximum by band."""
        pixels, there, code = (int(number) for number in sums[:3])
        (self._any if code >= 10 else self._complete).add(_NAMES[code % 10])
        self.images, self.pixels = self.images + 1, self.pixels + pixels
        if not there:
            return
        mean, spread, low, high = sums[3:].reshape(4, -1)
        total = self.there + there
        apart = mean - self._mean
        self._mean = self._mean + apart * (there / total)
        self._spread = self._spread + spread + apart**2 * (self.there * there / total)
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self.there = total
        self._samples.append(sample)

    @property
    def format(self) -> str:
        """The widest format of the images."""
        found = self._complete or self._any
        return max(found, key=_NAMES.index)

    def bands(self, read_as: Bands) -> Iterator[BandStatistics]:
        """Yield the statistics of each band."""
        sample = np.concatenate(self._samples)
        deviation = np.sqrt(self._spread / self.there)
        for channel, values in enumerate(sample.T.astype(np.float64)):
            low, high = float(self._low[channel]), float(self._high[channel])
            mean, std = float(self._mean[channel]), float(deviation[channel])
            percentiles = dict(zip(map(str, PERCENTILES), np.percentile(values, PERCENTILES).tolist(), strict=True))
            clip, input_mean, input_std = (0.0, 255.0), mean, std
            if self.format != "uint8":
                clip = (percentiles["0.1"], percentiles["99.9"])
                if not clip[0] < clip[1]:
                    clip = (low, high if low < high else low + 1)
                shown_values = np.clip(values, *clip)
                input_mean, input_std = float(shown_values.mean()), float(shown_values.std())
            histogram = np.histogram(values, _BINS, clip)[0]
            yield BandStatistics(
                read_as.name(channel), mean, std, low, high, percentiles, clip, input_mean, input_std or 1.0,
                tuple(histogram.tolist()),
            )  # fmt: skip


def imagenets(bands: Bands) -> Preprocessing:
    """Return ImageNet's statistics for bands of 8 bits: those of RGB for three, else their averages.

    Raises UserError for other formats.
    """
    if bands.format != "uint8":
        raise UserError(
            f"--stats imagenet is for 8 bits, and the images are {bands.format}: give --stats auto or a file"
        )
    of_bytes = Preprocessing.for_channels(len(bands.channels))
    mean, std = (tuple(255 * value for value in values) for values in (of_bytes.mean, of_bytes.std))
    return Preprocessing(mean, std, bands=bands)


def same_bands(one: Bands, two: Bands) -> bool:
    """Whether two are of the same bands, by their names if all have one, else by their places in the files."""
    if one.names and all(one.names) and one.nodata == two.nodata and one.names == two.names:
        return True
    return (one.count, one.channels, one.files, one.nodata) == (two.count, two.channels, two.files, two.nodata)


def chosen(bands: Sequence[int], statistics: Statistics) -> Statistics:
    """Return the statistics of some bands, from 0, in that order. Raises UserError for one that they are not of."""
    read_as = statistics.read_as
    lost = [band for band in bands if band not in read_as.channels]
    if lost:
        raise UserError(f"--channels {lost[0] + 1}: the statistics are of bands {_numbers(read_as.channels)}")
    places = [read_as.channels.index(band) for band in bands]
    names = tuple(read_as.names[place] for place in places) if read_as.names else ()
    picked = replace(read_as, channels=tuple(bands), names=names, clip=(), show=(), stretch=())
    return replace(statistics, read_as=picked, bands=tuple(statistics.bands[place] for place in places))


def _numbers(bands: Sequence[int]) -> str:
    return ", ".join(str(band + 1) for band in bands[:20]) + ("" if len(bands) <= 20 else ", ...")
