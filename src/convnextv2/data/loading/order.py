"""The images of each step of a run, on each process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from convnextv2.errors import UserError


def mix(*numbers: int) -> int:
    """Return a 64-bit seed from non-negative numbers; similar numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class GlobalBatches(Sampler[list[tuple[int, int]]]):
    """The (epoch, index) pairs of every micro-batch of one process, step by step.

    An epoch is `length // batch_size` steps over a permutation drawn from (seed, epoch); the
    remainder of the permutation is dropped. The batch of a step is cut into
    `accumulate * world_size` micro-batches; number `j * world_size + rank` is the j-th of `rank`.
    So all processes together get, at each step, exactly the batch that one process would.

    Args:
        length: number of images.
        batch_size: images of one optimiser step, over all processes and micro-batches.
        seed: of the permutations, 0 or more.
        start_step: first optimiser step, counted from the beginning of the run.
        stop_step: the step after the last one.
        rank: this process, 0 to world_size - 1.
        world_size: number of processes.
        accumulate: micro-batches a process runs for one step.
        weights: (length,) non-negative; then an epoch is drawn with replacement in proportion to them, in place
            of a permutation. Every draw then has its own number in place of the epoch, so that an image that is
            drawn again is augmented differently.

    Raises:
        UserError: there are fewer images than a batch, or the batch cannot be cut evenly.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        start_step: int,
        stop_step: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        weights: Tensor | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} images: give --batch-size 1 or more")
        if length < batch_size:
            raise UserError(
                f"{length} images make zero steps with a batch of {batch_size}:"
                f" use --recipe auto, or --batch-size {length} or smaller"
            )
        pieces = world_size * accumulate
        if batch_size % pieces:
            raise UserError(
                f"a batch of {batch_size} cannot be cut evenly for {world_size} processes times"
                f" {accumulate} accumulated micro-batches:"
                f" give --batch-size {-(-batch_size // pieces) * pieces}"
            )
        self.steps_per_epoch = length // batch_size
        self._length = length
        self._batch_size = batch_size
        self._seed = seed
        self._steps = range(start_step, stop_step)
        self._rank = rank
        self._world_size = world_size
        self._accumulate = accumulate
        self._weights = weights

    def __len__(self) -> int:
        """Return the number of micro-batches."""
        return len(self._steps) * self._accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = self._batch_size // (self._world_size * self._accumulate)
        drawn, order = -1, torch.empty(0)
        for step in self._steps:
            epoch, place = divmod(step, self.steps_per_epoch)
            if epoch != drawn:
                drawn, order = epoch, self._order(epoch)
            for micro in range(self._accumulate):
                offset = (micro * self._world_size + self._rank) * size
                start = place * self._batch_size + offset
                draw = step * self._batch_size + offset
                indices = order[start : start + size].tolist()
                yield [(epoch if self._weights is None else draw + n, index) for n, index in enumerate(indices)]

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(mix(self._seed, epoch))
        if self._weights is not None:
            return torch.multinomial(self._weights, self._length, replacement=True, generator=generator)
        return torch.randperm(self._length, generator=generator)
