"""Batches of samples that depend on nothing but (seed, epoch, index of the picture).

Which pictures a step sees and how each is cropped is the same for any number of workers, for any
number of processes, and from whichever step a run is taken up again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convnextv2.data.files.decode import MAX_PIXELS, check_channels, decode
from convnextv2.data.files.folder import ImageList
from convnextv2.data.loading.cache import PixelCache
from convnextv2.data.loading.order import GlobalBatches, mix
from convnextv2.errors import BadImageError, RunFailedError
from convnextv2.text import shown

__all__ = ["BadImages", "Batch", "GlobalBatches", "ImageSet", "Sample", "Transform", "in_order", "make_loader"]

Transform = Callable[[Tensor], dict[str, Tensor]]
"""From one picture, uint8 (C, H, W), to named tensors of fixed shapes.

It may draw from torch's global generator, and must not write into the picture it is given."""


@dataclass(frozen=True)
class Sample:
    """What became of one (epoch, index)."""

    tensors: dict[str, Tensor]
    index: int
    """Index of the picture actually used."""
    bad: tuple[tuple[int, str], ...] = ()
    """(index, reason) of the unreadable pictures it stands in for."""


@dataclass(frozen=True)
class Batch:
    """Samples stacked along a new first axis of length B."""

    tensors: dict[str, Tensor]
    indices: Tensor
    """int64 (B,): index of the picture actually used."""
    bad: tuple[tuple[int, str], ...]
    """(index, reason) of the unreadable pictures met while making this batch."""

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory."""
        tensors = {name: tensor.pin_memory() for name, tensor in self.tensors.items()}
        return Batch(tensors, self.indices.pin_memory(), self.bad)


class ImageSet(Dataset[Sample]):
    """Pictures by (epoch, index), decoded and transformed.

    Before the transform runs, torch's global CPU generator is seeded from (seed, epoch, index);
    afterwards it is put back as it was. A picture that cannot be read is replaced by the next
    one of the list that can, under the seed of the index that was asked for.
    """

    def __init__(
        self,
        images: ImageList,
        transform: Transform,
        *,
        channels: int = 3,
        max_pixels: int = MAX_PIXELS,
        min_side: int | None = None,
        seed: int = 0,
        cache: PixelCache | None = None,
    ) -> None:
        """A `cache` stands in for the files: make it with the same images, channels and limits."""
        check_channels(channels)
        if cache is not None and (cache.images.names != images.names or cache.channels != channels):
            raise ValueError("the cache holds other pictures or another number of channels")
        self.images = images
        self._transform = transform
        self._channels = channels
        self._max_pixels = max_pixels
        self._min_side = min_side
        self._seed = seed
        self._cache = cache
        self._known_bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The sample of (epoch, index).

        Raises:
            RunFailedError: not one of the pictures can be read.
        """
        epoch, asked = key
        bad: list[tuple[int, str]] = []
        for step in range(len(self.images)):
            index = (asked + step) % len(self.images)
            try:
                picture = self.read(index)
            except BadImageError as error:
                bad.append((index, error.reason))
                continue
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(mix(self._seed, epoch, asked))
                return Sample(self._transform(picture), index, tuple(bad))
        first = f": {bad[0][1]} ({shown(self.images.path(bad[0][0]))})" if bad else ""
        raise RunFailedError(f"none of the {len(bad)} files in {shown(self.images.source)} can be read{first}")

    def read(self, index: int) -> Tensor:
        """Picture `index` as it is, uint8 (C, H, W). Raises BadImageError."""
        if self._cache is not None:
            return self._cache.get(index)
        path = self.images.path(index)
        if index in self._known_bad:
            # A long row of bad files is walked again and again: decode each of them only once.
            raise BadImageError(path, self._known_bad[index])
        try:
            pixels = decode(path, channels=self._channels, max_pixels=self._max_pixels, min_side=self._min_side)
        except BadImageError as error:
            self._known_bad[index] = error.reason
            raise
        return torch.from_numpy(pixels).permute(2, 0, 1)


def make_loader(
    dataset: ImageSet, batches: Iterable[list[tuple[int, int]]], *, workers: int, pin_memory: bool = False
) -> Iterator[Batch]:
    """Make the batches of `batches`, once through, in order.

    Args:
        dataset: what turns (epoch, index) into a sample.
        batches: which samples, (epoch, index), in which order; such as `GlobalBatches`.
        workers: processes that decode, started at once; 0 decodes in this process. Workers live
            through Ctrl-C and SIGTERM sent to the whole group, so that this process can finish
            its step and save; they end with the iterator, or with this process.
        pin_memory: put the tensors in page-locked memory, for a GPU.

    Raises:
        RunFailedError: (while iterating) not one of the pictures can be read.
    """
    loader = DataLoader(
        _FailuresAsValues(dataset),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers else None,
        # The loader draws a seed for its workers, which use none: not from the global generator,
        # which must not depend on how often a run was taken up again.
        generator=torch.Generator(),
    )
    # Workers inherit the blocked signals, so none is hit before it could arrange for them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        stream = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return _raising(stream)


def in_order(dataset: ImageSet, indices: Sequence[int], *, batch_size: int, workers: int) -> Iterator[Batch]:
    """Each of these pictures once, in this order, without those that cannot be read.

    A batch holds up to `batch_size` samples; where none of its pictures can be read it has no tensors.

    Raises:
        RunFailedError: (while iterating) not one picture of the dataset can be read.
    """
    asked = [
        [(0, index) for index in indices[start : start + batch_size]] for start in range(0, len(indices), batch_size)
    ]
    for keys, batch in zip(asked, make_loader(dataset, asked, workers=workers), strict=True):
        good = batch.indices == torch.tensor([index for _, index in keys])
        broken = {index for (_, index), fine in zip(keys, good.tolist(), strict=True) if not fine}
        bad = tuple((index, reason) for index, reason in dict(batch.bad).items() if index in broken)
        tensors = {name: tensor[good] for name, tensor in batch.tensors.items()} if good.any() else {}
        yield Batch(tensors, batch.indices[good], bad)


class BadImages:
    """Every unreadable file met so far, each told of once, and the limit to their number."""

    def __init__(self, images: ImageList, max_fraction: float, log: Callable[[str], None]) -> None:
        """Allow up to `max_fraction` (0 to 1) of `images` to be bad; `log` takes one line a file."""
        self._images = images
        self._max_fraction = max_fraction
        self._log = log
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, bad: Iterable[tuple[int, str]]) -> None:
        """Take note of (index, reason) pairs, such as `Batch.bad`; files known already are passed over.

        Raises:
            RunFailedError: more than `max_fraction` of the files are bad.
        """
        for index, reason in bad:
            if index not in self._reasons:
                self._reasons[index] = reason
                self._log(f"skipped {self._line(index)}")
        count, total = len(self._reasons), len(self._images)
        if count > self._max_fraction * total:
            examples = "; ".join(self._line(index) for index in list(self._reasons)[:5])
            raise RunFailedError(
                f"{count} of {total} files cannot be read, more than the allowed {self._max_fraction:g}:"
                f" {examples}{'; ...' if count > 5 else ''}."
                f" Mend or remove them, or allow more with --max-bad-fraction"
            )

    def state(self) -> list[tuple[int, str]]:
        """(index, reason) of every bad file, in the order they were met."""
        return list(self._reasons.items())

    def load(self, state: Iterable[Iterable[int | str]]) -> None:
        """Take up what `state` gave (also after JSON made lists of its pairs)."""
        pairs = (tuple(pair) for pair in state)
        self._reasons = {int(index): str(reason) for index, reason in pairs}

    def _line(self, index: int) -> str:
        return f"{shown(self._images.names[index])}: {self._reasons[index]}"


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _FailuresAsValues(Dataset[Sample | RunFailedError]):
    """A worker's exception would arrive with a traceback in its message; its value arrives clean."""

    def __init__(self, dataset: ImageSet) -> None:
        self._dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sample | RunFailedError:
        try:
            return self._dataset[key]
        except RunFailedError as error:
            return error


def _collate(samples: list[Sample | RunFailedError]) -> Batch | RunFailedError:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, RunFailedError):
            return RunFailedError(str(sample))
        good.append(sample)
    tensors = {name: torch.stack([sample.tensors[name] for sample in good]) for name in good[0].tensors}
    indices = torch.tensor([sample.index for sample in good], dtype=torch.int64)
    return Batch(tensors, indices, tuple(pair for sample in good for pair in sample.bad))


_RUNNING: set[Iterator[Batch | RunFailedError]] = set()
"""Holds what reads from workers until it is closed. If the garbage collector found it in a cycle
(an exception's traceback makes one), it would close the queues before their last message has
left, and torch would wait five seconds for each worker."""


def _raising(stream: Iterator[Batch | RunFailedError]) -> Iterator[Batch]:
    _RUNNING.add(stream)
    try:
        for batch in stream:
            if isinstance(batch, RunFailedError):
                raise batch
            yield batch
    finally:
        _RUNNING.discard(stream)
        del stream  # the last reference: workers end here


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # SIGTERM stays blocked, and a thread looks at who sent it: the loader ends its workers with
    # it, but a scheduler that stops a run sends it to every process, and a worker that dies then
    # takes the run down before it has saved.
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo((signal.SIGTERM,)).si_pid != parent:
        pass
    os._exit(0)
