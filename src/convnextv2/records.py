"""Small frozen records that cross rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StepOutput:
    """What one training step of a task gives the engine.

    `loss` is a scalar with a graph; `parts` are named scalars to log beside it.
    """

    loss: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become a model's input: `(x / 255 - mean) / std`, one value a channel."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

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
class RunDescription:
    """What a task says of a run; the report draws it and knows no task.

    headline: the page's title.  learns: from what and on what, as "from random weights on 780 images of 10 classes".
    primary: the metric that the best checkpoint is chosen by.  metrics: all that the run may log.  loss: a sentence on
    how to read the loss.  samples: what each kind of sample image shows, in the page's order.  commands: what to type
    next, and what it does; `{run}` stands for the run's folder.
    """

    headline: str
    learns: str = ""
    primary: str | None = None
    metrics: tuple[MetricInfo, ...] = ()
    loss: str = ""
    samples: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class TaskBatch:
    """A micro-batch as the engine sees it: tensors to move to the device, and the names of its samples."""

    tensors: Mapping[str, Tensor]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)
