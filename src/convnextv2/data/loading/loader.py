"""Batches made by worker processes, in order; signals do not end the workers before the run has saved.

A worker that dies is a RunFailedError where its batch is awaited, and nowhere else.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from types import FrameType

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from convnextv2.data.files.folder import ImageList
from convnextv2.data.loading.batch import Batch, Sample, Unreadable, collate
from convnextv2.errors import RunFailedError
from convnextv2.text import shown

__all__ = ["make_loader"]


def make_loader(
    dataset: Dataset[Sample] | Dataset[Sample | Unreadable],
    batches: Iterable[list[tuple[int, int]]],
    *,
    workers: int,
    pin_memory: bool = False,
    images: ImageList | None = None,
) -> Iterator[Batch]:
    """Yield the batches of `batches`, in one pass, in order.

    Args:
        dataset: what turns (epoch, index) into a sample, such as `ImageSet`.
        batches: which samples, (epoch, index), in which order; such as `GlobalBatches`.
        workers: processes that decode, started at once; 0 decodes in this process. Workers survive
            the signals that stop a run (`_SIGNALS`), sent to the whole group, so that this process
            can finish its step and save; they end with the iterator, or with this process.
        pin_memory: put the tensors in page-locked memory, for a GPU.
        images: the files behind the indices; names the one that a worker read when it died.

    Raises:
        RunFailedError: (while iterating) none of the images can be read, or a worker has died.
    """
    reading = memoryview(mmap.mmap(-1, 8 * max(1, workers))).cast("q")
    loader = DataLoader(
        _FailuresAsValues(dataset, reading),
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
    others = {process.pid for process in multiprocessing.active_children()}
    try:
        with _handler_kept(signal.SIGCHLD):
            stream = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    started = [process for process in multiprocessing.active_children() if process.pid not in others]
    return _raising(stream, _Workers(started if workers else [], reading, images))


_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SIGNALS = (*_IGNORED, signal.SIGTERM)


class _FailuresAsValues(Dataset[Sample | Unreadable | RunFailedError]):
    """A worker's exception would arrive with a traceback in its message; its value arrives clean.

    reading: shared memory, int64 (workers,), in which each notes which image it reads.
    """

    def __init__(self, dataset: Dataset[Sample] | Dataset[Sample | Unreadable], reading: memoryview) -> None:
        self._dataset, self._reading = dataset, reading

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable | RunFailedError:
        worker = get_worker_info()
        if worker is not None:
            self._reading[worker.id] = key[1] // getattr(self._dataset, "crops", 1) + 1
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


def _raising(stream: Iterator[Batch | RunFailedError], workers: _Workers) -> Iterator[Batch]:
    _RUNNING.add(stream)
    try:
        while True:
            try:
                with workers.watched():
                    batch = next(stream)
            except StopIteration:
                return
            except Exception as error:
                died = workers.died(wait=isinstance(error, OSError | EOFError))
                if died is None:
                    raise
                raise died from error
            except BaseException:  # a signal: what the workers are at is not awaited
                workers.kill()
                raise
            if isinstance(batch, RunFailedError):
                raise batch
            yield batch
    finally:
        hurry = threading.Timer(_PATIENCE, workers.kill)
        with contextlib.suppress(RuntimeError):  # at the end of Python no thread starts
            hurry.start()
        _RUNNING.discard(stream)
        del stream  # the last reference: workers end here
        hurry.cancel()


_PATIENCE = 1.0
"""Seconds in which workers end when they are no longer needed; torch would wait five for each that is busy."""


@dataclass(frozen=True)
class _Workers:
    """processes: in the order of their numbers.  reading: of each the image that it reads, from 1; 0 for none yet."""

    processes: Sequence[BaseProcess]
    reading: memoryview
    images: ImageList | None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Raise RuntimeError, in the main thread, as soon as a worker dies; torch looks only every five seconds."""
        if not self.processes or threading.current_thread() is not threading.main_thread():
            yield
            return

        def look(number: int, frame: FrameType | None) -> None:
            if any(process.exitcode for process in self.processes):
                raise RuntimeError("a worker has died")

        with _handler_kept(signal.SIGCHLD):
            signal.signal(signal.SIGCHLD, look)
            look(signal.SIGCHLD, None)
            yield

    def died(self, *, wait: bool) -> RunFailedError | None:
        """Return what to say of the worker that died, None if none did, and end the others.

        wait: for a moment: what a process held is closed before it counts as ended.
        """
        until = time.monotonic() + (2.0 if wait else 0.0)
        while not (dead := [n for n, process in enumerate(self.processes) if process.exitcode is not None]):
            if time.monotonic() >= until:
                return None
            time.sleep(0.01)
        self.kill()  # the others may wait forever for what the dead one held
        worker = next((n for n in dead if self.processes[n].exitcode), dead[0])
        return RunFailedError(self._cause(worker))

    def kill(self) -> None:
        """End all workers now."""
        for process in self.processes:
            process.kill()

    def _cause(self, worker: int) -> str:
        code, number, count = self.processes[worker].exitcode or 0, self.reading[worker], len(self.processes)
        file = f" while it read {shown(self.images.names[number - 1])}" if self.images and number else ""
        fewer = f"--workers {count // 2}"
        if code >= 0:
            how, why = f"ended with exit code {code}", f"try {fewer}"
        else:
            try:
                how = f"was killed by {signal.Signals(-code).name}"
            except ValueError:
                how = f"was killed by signal {-code}"
            why = _CAUSES.get(-code, "something outside of this command ended it; try again").format(fewer=fewer)
        return f"worker {worker + 1} of {count}, a process that reads images, {how}{file}: {why}"


_CRASHED = "a decoder crashed, most likely on that file: convert or remove it"
_CAUSES: dict[int, str] = {
    signal.SIGKILL: "most likely the machine, or the job's limit, ran out of memory: give more of it, or fewer workers "
    "({fewer}), and in training --no-cache or a smaller --max-pixels",
    signal.SIGBUS: "most likely /dev/shm is full: make it larger (docker run --shm-size 8g), or give fewer workers "
    "({fewer})",
    **dict.fromkeys((signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE), _CRASHED),
}


@contextlib.contextmanager
def _handler_kept(number: int) -> Iterator[None]:
    """Afterwards a signal is handled as before: torch's loader leaves a handler that raises at any moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if before is not None:  # not one of Python's
            signal.signal(number, before)


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
