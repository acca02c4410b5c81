"""All that the training loop needs to know, as one record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from convnextv2.engine.schedule import Decay


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """All that the loop needs to know; every number resolved.

    batch_size: images of one optimiser step over all processes.  accumulate: micro-batches of a process per step.
    decay: of the rate after the warm-up, see `schedule.Schedule`.
    lr_scales: factor on the rate by parameter name, for layer-wise decay.  ema_decay: of the average of weights.
    log_every: in steps.  eval_every, samples_every: in steps, 0 for only at the end.
    checkpoint_every: in steps, or 0 for time-based only.  planned_seconds: of all steps; the log says so if they will
    take much longer.
    best: name of the evaluated value, the higher the better, whose best checkpoint is kept; of the average's
    evaluation if there is an average.  patience: evaluations without a new best after which the run ends; 0
    for never.
    """

    total_steps: int
    steps_per_epoch: int
    batch_size: int
    accumulate: int = 1
    lr: float
    min_lr: float = 0.0
    warmup_steps: int = 0
    decay: Decay = "cosine"
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    lr_scales: Mapping[str, float] = field(default_factory=dict)
    ema_decay: float | None = None
    ema_warmup: bool = False
    clip_grad: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    seed: int = 0
    log_every: int = 1
    eval_every: int = 0
    samples_every: int = 0
    best: str | None = None
    patience: int = 0
    checkpoint_every: int = 0
    checkpoint_minutes: float = 5.0
    planned_seconds: float = math.inf
