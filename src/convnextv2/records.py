"""Small frozen records that cross rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class StepOutput:
    """What one training step of a task gives the engine.

    `loss` is a scalar with a graph; `parts` are named scalars to log beside it.
    """

    loss: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


LARGEST_SIDE = 2**14
"""Pixels on a side of the largest images that a model may be made for."""


@dataclass(frozen=True)
class Bands:
    """Which numbers of the files become the channels of a model, where files are read as numbers and not as pictures.

    count: bands of an image.  channels: those that are read, from 0, in this order.  names: of the channels, "" for
    one without.  files: where every band lies in a file of its own, a pattern for each, with {id}.
    format: of the values, as numpy calls it.  nodata: the value that stands for missing data, besides what the files
    say themselves.  clip: of each channel, the lowest and the highest value that tell anything.
    show: one to three channels, from 0, that figures show as red, green and blue; empty for the first three.
    stretch: of each channel, the values that figures show as black and as white; empty for those of `clip`.
    """

    count: int
    channels: tuple[int, ...]
    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    format: str = "float32"
    nodata: float | None = None
    clip: tuple[tuple[float, float], ...] = ()
    show: tuple[int, ...] = ()
    stretch: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be."""
        if not self.channels or not all(0 <= channel < self.count for channel in self.channels):
            raise ValueError(f"channels {self.channels} of {self.count} bands")
        if len(self.names) not in (0, len(self.channels)) or len(self.clip) not in (0, len(self.channels)):
            raise ValueError(f"{len(self.names)} names and {len(self.clip)} limits of {len(self.channels)} channels")
        if len(self.show) > 3 or not all(0 <= channel < len(self.channels) for channel in self.show):
            raise ValueError(f"channels {self.show} of {len(self.channels)} are shown")
        if len(self.stretch) not in (0, len(self.channels)):
            raise ValueError(f"{len(self.stretch)} ranges to show of {len(self.channels)} channels")
        if not all(low < high for low, high in (*self.clip, *self.stretch)):
            raise ValueError(f"values are clipped to {self.clip} and shown from {self.stretch}")

    def name(self, channel: int) -> str:
        """What people call a channel, 0 to len(channels) - 1: its name, else the number of its band, from 1."""
        return (self.names[channel] if self.names else "") or f"band {self.channels[channel] + 1}"


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become a model's input: `(x / 255 - mean) / std`, one value a channel.

    value_range: the values that become x = 0 and x = 255, for files of more than 8 bits; None for the default of each
    format (`data.files.decode`).
    bands: given where files are read as numbers: then the input is `(clip(x) - mean) / std` of the numbers in the
    files, and missing pixels, which are NaN before, are 0 after.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    value_range: tuple[float, float] | None = None
    bands: Bands | None = None

    @property
    def scale(self) -> float:
        """What values are divided by before `mean` and `std` apply."""
        return 255.0 if self.bands is None else 1.0

    @property
    def format(self) -> torch.dtype | None:
        """The number format of pixels after they were cut out and resized: None for that of the image, bytes."""
        import torch

        return None if self.bands is None else torch.float32

    @property
    def shown(self) -> tuple[int, ...] | None:
        """The channels that figures show; None for the first three."""
        return (self.bands.show if self.bands else ()) or None

    @property
    def black_and_white(self) -> tuple[tuple[float, float], ...]:
        """The values of each channel that figures show as black and as white, in the numbers of the pixels."""
        return (self.bands.stretch if self.bands else ()) or self.limits

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """The lowest and the highest value of each channel that tell anything, in the numbers of the pixels."""
        return (self.bands.clip if self.bands else ()) or ((0.0, 255.0),) * len(self.mean)

    @staticmethod
    def for_channels(channels: int) -> Preprocessing:
        """ImageNet's statistics for 3 channels; their averages for any other number."""
        if channels == 3:
            return Preprocessing()
        return Preprocessing((0.449,) * channels, (0.226,) * channels)


@dataclass(frozen=True)
class MetricInfo:
    """How a number of an evaluation is called and read.

    name: as it is logged.  title: as people say it.  percent: a share from 0 to 1, best read in percent.
    description: a sentence for the report.
    """

    name: str
    title: str
    percent: bool = False
    description: str = ""


@dataclass(frozen=True)
class SampleInfo:
    """What a kind of sample image shows: `kind` as a task's `samples` name it.

    caption: for the report, paragraphs apart by an empty line.  columns: names above the columns of a grid.
    """

    kind: str
    caption: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """What a model that learned nothing would score, beside which the report puts the result of a run.

    value: of the primary metric, or of the loss if there is none.  images: how many it is measured on, from which the
    uncertainty of a share follows; None if it is not known.  description: what scores so much, as "the most
    frequent class, dress".
    """

    value: float
    images: int | None = None
    description: str = ""


@dataclass(frozen=True)
class RunDescription:
    """What a task says of a run; the report draws it and knows no task.

    headline: the page's title.  learns: from what and on what, as "from random weights on 780 images of 10 classes".
    primary: the metric that the best checkpoint is chosen by.  metrics: all that the run may log.  loss: a sentence on
    how to read the loss.  samples: what each kind of sample image shows, in the page's order.  commands: what to type
    next, and what it does; `{run}` stands for the run's folder.  baselines: of the primary metric by split, "val" or
    "test"; of the loss as "train".
    """

    headline: str
    learns: str = ""
    primary: str | None = None
    metrics: tuple[MetricInfo, ...] = ()
    loss: str = ""
    samples: tuple[SampleInfo, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    baselines: Mapping[str, Baseline] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Ragged(Sequence["Tensor"]):
    """A list of tensors of one dtype and any shapes, such as the boxes of each image of a batch.

    It is held in one tensor, so that it moves between processes and to a device in one piece.

    values: (total number of values,), all tensors one after the other, each row-major.  shapes: one per tensor.
    """

    values: Tensor
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(tensors: Sequence[Tensor]) -> Ragged:
        """A list of copies of these tensors, one or more. Raises ValueError if their dtypes differ."""
        import torch

        if len({tensor.dtype for tensor in tensors}) != 1:
            raise ValueError(f"a list of tensors of one dtype, not of {[str(tensor.dtype) for tensor in tensors]}")
        values = torch.cat([tensor.reshape(-1) for tensor in tensors])
        return Ragged(values, tuple(tuple(tensor.shape) for tensor in tensors))

    def to(self, device: torch.device | str) -> Ragged:
        """Return the same list on a device; a copy out of page-locked memory does not wait."""
        return Ragged(self.values.to(device, non_blocking=True), self.shapes)

    def pin_memory(self) -> Ragged:
        """Return the same list in page-locked memory."""
        return Ragged(self.values.pin_memory(), self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        return self._views[index]

    @cached_property
    def _views(self) -> tuple[Tensor, ...]:
        parts = self.values.split([prod(shape) for shape in self.shapes])
        return tuple(part.view(shape) for part, shape in zip(parts, self.shapes, strict=True))


@dataclass(frozen=True)
class TaskBatch:
    """A micro-batch as the engine sees it: what to move to the device, and the names of its samples.

    tensors: by name, one entry per sample along the first axis.
    lists: by name, one tensor per sample, of different shapes, such as boxes.
    """

    tensors: Mapping[str, Tensor]
    names: Sequence[str]
    lists: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> TaskBatch:
        """Return the same batch on a device; copies out of page-locked memory do not wait."""
        tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        lists = {
            name: parts.to(device) if isinstance(parts, Ragged) else [p.to(device, non_blocking=True) for p in parts]
            for name, parts in self.lists.items()
        }
        return TaskBatch(tensors, self.names, lists)
