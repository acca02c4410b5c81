"""Batches made by worker processes, in order; signals do not end the workers before the run has saved."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterable, Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from convnextv2.data.loading.batch import Batch, Sample, Unreadable, collate
from convnextv2.errors import RunFailedError

__all__ = ["make_loader"]


def make_loader(
    dataset: Dataset[Sample] | Dataset[Sample | Unreadable],
    batches: Iterable[list[tuple[int, int]]],
    *,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of `batches`, in one pass, in order.

    Args:
        dataset: what turns (epoch, index) into a sample, such as `ImageSet`.
        batches: which samples, (epoch, index), in which order; such as `GlobalBatches`.
        workers: processes that decode, started at once; 0 decodes in this process. Workers survive
            the signals that stop a run (`_SIGNALS`), sent to the whole group, so that this process
            can finish its step and save; they end with the iterator, or with this process.
        pin_memory: put the tensors in page-locked memory, for a GPU.

    Raises:
        RunFailedError: (while iterating) none of the images can be read.
    """
    loader = DataLoader(
        _FailuresAsValues(dataset),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate_or_fail,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers else None,
        # The loader draws a seed for its workers, which use none: not from the global generator,
        # which must not depend on how often a run was resumed.
        generator=torch.Generator(),
    )
    # Workers inherit the blocked signals, so none is hit before it could arrange for them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        stream = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return _raising(stream)


_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SIGNALS = (*_IGNORED, signal.SIGTERM)


class _FailuresAsValues(Dataset[Sample | Unreadable | RunFailedError]):
    """A worker's exception would arrive with a traceback in its message; its value arrives clean."""

    def __init__(self, dataset: Dataset[Sample] | Dataset[Sample | Unreadable]) -> None:
        self._dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable | RunFailedError:
        try:
            return self._dataset[key]
        except RunFailedError as error:
            return error


def _collate_or_fail(samples: list[Sample | Unreadable | RunFailedError]) -> Batch | RunFailedError:
    made: list[Sample | Unreadable] = []
    for sample in samples:
        if isinstance(sample, RunFailedError):
            return RunFailedError(str(sample))
        made.append(sample)
    return collate(made)


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
    gc.freeze()  # what was inherited lives on: to look through it would copy the pages that it lies on
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # SIGTERM stays blocked, and a thread checks its sender: the loader ends its workers with
    # it, but a scheduler that stops a run sends it to every process, and a worker that dies then
    # takes the run down before it has saved.
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo((signal.SIGTERM,)).si_pid != parent:
        pass
    os._exit(0)
