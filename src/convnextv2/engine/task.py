"""What the engine requires of a task."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from convnextv2.records import StepOutput, TaskBatch

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

    from convnextv2.engine.distributed import DistributedContext


class Task(Protocol):
    """A model, its batches, a step, an evaluation and its sample images: all that the loop knows of a task.

    model: every parameter that requires a gradient must get one from every step.
    metadata: text that is saved with the weights (architecture, preprocessing, ...).
    """

    @property
    def model(self) -> nn.Module:
        """The model to train."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of the saved weights."""
        ...

    def batches(
        self, start: int, stop: int, accumulate: int, context: DistributedContext
    ) -> Generator[TaskBatch, None, None]:
        """Yield the micro-batches of this process for the optimiser steps [start, stop), in order.

        Which samples a step sees, and how they are augmented, must follow only from the step.
        """
        ...

    def step(self, model: nn.Module, batch: TaskBatch) -> StepOutput:
        """Return the loss of one micro-batch. `model` is `self.model`, perhaps wrapped for several processes."""
        ...

    def evaluate(self, model: nn.Module, context: DistributedContext) -> Iterator[tuple[str, float]]:
        """Yield names and values to log now and then; nothing if the task has no evaluation.

        model: `self.model` or the average of its weights, in evaluation mode. Every process calls it, so that
        the work can be shared; the values of the main one are used.
        """
        ...

    def samples(self, model: nn.Module) -> Iterator[tuple[str, Image]]:
        """Yield names and images that show what the model does now, after `evaluate`; on the main process only."""
        ...
