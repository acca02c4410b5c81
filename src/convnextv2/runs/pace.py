"""How fast a run is on this machine: the seconds of a step, and the threads and workers that make it fastest."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import torch

from convnextv2.engine import machine
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.engine.step_time import seconds_per_step
from convnextv2.engine.task import Task
from convnextv2.runs.task_run import Chosen, TaskRun

_CLEARLY = 0.95  # of the time so far: what is faster by less could be chance


def measure(run: TaskRun[Any], task: Task, loop: LoopSettings, workers: int) -> tuple[Task, float, Chosen]:
    """Return the task as it is fastest, the seconds of an optimiser step, and what was chosen.

    task: with `workers` processes that read images. With `--threads auto` on a CPU other numbers of threads are
    measured, then other numbers of workers if those were not given; the fastest of each stays in force.
    """
    if run.cache is not None:
        _read_ahead(task, loop, run.context)
    seconds = seconds_per_step(task, loop, run.context)
    if run.settings.threads != "auto" or run.context.device.type != "cpu":
        return task, seconds, []
    threads, tried = torch.get_num_threads(), 1
    share = run.context.local_share(machine.processors())
    for number in sorted({share, max(1, share - 1), max(1, share // 2), 1} - {threads}, reverse=True):
        torch.set_num_threads(number)
        found, tried = seconds_per_step(task, loop, run.context), tried + 1
        if found < _CLEARLY * seconds:
            seconds, threads = found, number
    torch.set_num_threads(threads)
    for number in () if run.settings.workers is not None else sorted({0, 1, 2 * workers} - {workers}):
        other = run.make_task(number)
        found, tried = seconds_per_step(other, loop, run.context), tried + 1
        if found < _CLEARLY * seconds:
            seconds, workers, task = found, number, other
    why = f"the fastest of {tried} settings measured"
    return task, seconds, [("threads", threads, why), ("workers", workers, why)]


def _read_ahead(task: Task, loop: LoopSettings, context: DistributedContext) -> None:
    """Read what `seconds_per_step` reads, so that it finds the images in the cache, as most steps of a run do."""
    started = time.perf_counter()
    with closing(task.batches(0, 12, loop.accumulate, context)) as batches:
        for number, _ in enumerate(batches, start=1):
            if number == 12 or (number >= 3 and time.perf_counter() - started > 5):
                break
