"""Measure an optimiser step before a run is planned."""

from __future__ import annotations

import time
from contextlib import closing

import torch

from convnextv2.engine import machine
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.engine.precision import autocast
from convnextv2.engine.task import Task


def seconds_per_step(task: Task, settings: LoopSettings, context: DistributedContext) -> float:
    """Measure one optimiser step, reading of its images included; leaves weights and buffers as they were.

    A few micro-batches, more if they are quick, of which the first half warms up; the slowest process counts.
    """
    model, times = task.model.to(context.device).train(), []
    batches = task.batches(0, 12, settings.accumulate, context)
    with closing(batches), machine.buffers_kept(model), machine.memory_advice():
        start = time.perf_counter()
        for batch in batches:
            with autocast(settings.precision, context.device):
                task.step(model, batch.to(context.device)).loss.backward()
            if context.device.type == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            times.append(now - start)
            start = now
            if len(times) == 12 or (len(times) >= 3 and sum(times) > 5):
                break
    model.zero_grad(set_to_none=True)
    warm = times[len(times) // 2 :]
    return max(context.gather(sum(warm) / len(warm))) * settings.accumulate
