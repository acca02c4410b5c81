"""Samples, and batches of them.

An entry of a sample has the same shape for every image, and entries of a batch are stacked; or it is declared to
differ from image to image by wrapping it in `PerImage`, and a batch holds a list of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from convnextv2.records import Ragged


@dataclass(frozen=True)
class PerImage:
    """Declares a tensor whose shape differs from image to image, such as boxes; its dtype must not."""

    tensor: Tensor


@dataclass(frozen=True)
class Sample:
    """The tensors made for one (epoch, index)."""

    tensors: dict[str, Tensor]
    index: int
    """Index of the image actually used."""
    bad: tuple[tuple[int, str], ...] = ()
    """(index, reason) of the unreadable images it stands in for."""
    lists: dict[str, Tensor] = field(default_factory=dict)
    """What the transform wrapped in `PerImage`."""

    @staticmethod
    def of(entries: Mapping[str, Tensor | PerImage], index: int, bad: Sequence[tuple[int, str]] = ()) -> Sample:
        """Return a sample of the entries, of any shape, that a transform returned.

        Raises TypeError for an entry that is neither a tensor nor wrapped in `PerImage`.
        """
        for name, entry in entries.items():
            if not isinstance(entry, Tensor | PerImage):
                raise TypeError(f"a transform gives tensors, and {name!r} is a {type(entry).__name__}")
        tensors = {name: entry for name, entry in entries.items() if isinstance(entry, Tensor)}
        lists = {name: entry.tensor for name, entry in entries.items() if isinstance(entry, PerImage)}
        return Sample(tensors, index, tuple(bad), lists)


@dataclass(frozen=True)
class Unreadable:
    """An image without a sample, and the reason."""

    index: int
    reason: str


@dataclass(frozen=True)
class Batch:
    """Samples together: B of them, B is 0 if no image could be read."""

    tensors: dict[str, Tensor]
    """By name, stacked along a new first axis of length B; none if B is 0."""
    indices: Tensor
    """int64 (B,): index of the image actually used."""
    bad: tuple[tuple[int, str], ...]
    """(index, reason) of the unreadable images found while making this batch."""
    lists: dict[str, Ragged] = field(default_factory=dict)
    """By name, B tensors of different shapes; none if B is 0."""

    def pin_memory(self) -> Batch:
        """Return the same batch in page-locked memory."""
        tensors = {name: tensor.pin_memory() for name, tensor in self.tensors.items()}
        lists = {name: parts.pin_memory() for name, parts in self.lists.items()}
        return Batch(tensors, self.indices.pin_memory(), self.bad, lists)

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch with `tensors` and `lists` on a device; `indices` stay where they are.

        Copies out of page-locked memory do not wait.
        """
        tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        lists = {name: parts.to(device) for name, parts in self.lists.items()}
        return Batch(tensors, self.indices, self.bad, lists)


def collate(samples: Sequence[Sample | Unreadable]) -> Batch:
    """Make a batch of samples, in their order; images without a sample are in its `bad` only.

    Raises:
        ValueError: samples have different entries, or an entry has different shapes and is not in `PerImage`.
    """
    good = [sample for sample in samples if isinstance(sample, Sample)]
    bad: list[tuple[int, str]] = []
    for sample in samples:
        bad += sample.bad if isinstance(sample, Sample) else [(sample.index, sample.reason)]
    indices = torch.tensor([sample.index for sample in good], dtype=torch.int64)
    if not good:
        return Batch({}, indices, tuple(bad))
    first = good[0]
    if any(s.tensors.keys() != first.tensors.keys() or s.lists.keys() != first.lists.keys() for s in good):
        raise ValueError("a transform returned other names for one image than for another")
    tensors = {name: _stack(name, [sample.tensors[name] for sample in good]) for name in first.tensors}
    lists = {name: Ragged.of([sample.lists[name] for sample in good]) for name in first.lists}
    return Batch(tensors, indices, tuple(bad), lists)


def _stack(name: str, parts: list[Tensor]) -> Tensor:
    shapes = {tuple(part.shape) for part in parts}
    if len(shapes) > 1:
        raise ValueError(f"{name!r} has different shapes in one batch, {sorted(shapes)}: return PerImage(tensor)")
    return torch.stack(parts)
