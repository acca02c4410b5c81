"""The settings that every run has, whatever its task."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convnextv2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of any run. A task's settings derive from it, say what `data` is, and add their own.

    What is None is chosen by the task and told before the run starts.
    """

    data: Path | None = None
    """What the run learns from."""
    out: Path | None = None
    """The run's folder: checkpoints, metrics, pictures and report. Must be new or empty, but for --resume."""
    resume: bool = False
    """Go on with the run in --out from its newest checkpoint, bit for bit."""
    config: Path | None = None
    """The config.json of another run: start with its settings; what is given besides takes precedence."""

    epochs: float | None = None
    """Passes over the pictures."""
    minutes: float | None = None
    """In place of --epochs: as many as fit into this time by a measurement at the start, not counting evaluations."""
    batch_size: int | None = None
    """Pictures of one optimiser step, over all processes."""
    micro_batch: int | None = None
    """Pictures that one process works on at a time; the step adds up as many as it needs (accumulation)."""
    lr: float | None = None
    """Highest learning rate, as used (not a base rate)."""
    warmup_epochs: float | None = None
    """Epochs of linear warm-up."""
    weight_decay: float | None = None
    """Of AdamW; on the weights of convolutions and linear maps alone."""
    clip_grad: float | None = None
    """Largest norm of the gradient; none by default, as in the paper."""

    seed: int = 0
    """Of everything random: weights, order, augmentation."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 autocast where the machine computes in it."""
    compile: bool = False
    """Compile the model with torch.compile."""
    workers: int | None = None
    """Processes that read pictures; by default as many as the processor has cores, less one, up to 8."""
    max_pixels: int = 100_000_000
    """Pictures of more pixels count as broken (decompression bombs)."""
    max_bad_fraction: float = 0.01
    """The run stops when more than this part of the files cannot be read."""
    cache: bool = True
    """Decode all pictures once into memory where they fit into a quarter of what is free."""

    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; the last step is always saved."""
    checkpoint_every: int = 0
    """Also save after every so many steps; 0 for by the clock alone."""
    log_every: int | None = None
    """Steps between two lines of metrics.jsonl."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and "Path" in str(field.type) and not isinstance(value, Path):
                object.__setattr__(self, field.name, Path(value))
            elif isinstance(value, list):  # as JSON has it
                object.__setattr__(self, field.name, tuple(value))
        for holds, message in self.rules():
            if not holds:
                raise UserError(message)

    def rules(self) -> Iterator[tuple[bool, str]]:
        """(whether it holds, what to say if not), checked when the settings are made; a task adds its own."""
        yield self.epochs is None or self.minutes is None, "give --epochs or --minutes, not both"
        for name in ("epochs", "minutes", "lr", "clip_grad"):
            yield from self.in_range(name, 0, math.inf, low_open=True, high_open=True)
        for name in ("batch_size", "micro_batch", "log_every", "max_pixels"):
            yield from self.in_range(name, 1, math.inf)
        for name in ("warmup_epochs", "weight_decay", "workers", "checkpoint_every"):
            yield from self.in_range(name, 0, math.inf)
        yield from self.in_range("max_bad_fraction", 0, 1)
        yield from self.in_range("checkpoint_minutes", 0, math.inf, low_open=True)
        yield from self.in_range("seed", 0, 2**63, high_open=True)

    def in_range(
        self, name: str, low: float, high: float, *, low_open: bool = False, high_open: bool = False
    ) -> Iterator[tuple[bool, str]]:
        """The rule that a number, if given, lies in a range; ends count unless open."""
        value = getattr(self, name)
        if value is None:
            return
        above = value > low if low_open else value >= low
        below = value < high if high_open else value <= high
        wanted = [f"more than {low:g}" if low_open else f"{low:g} or more"] if low > -math.inf else []
        if high < math.inf:
            wanted.append(f"below {high:g}" if high_open else f"at most {high:g}")
        elif high_open:
            wanted.append("finite")
        yield above and below, f"--{name.replace('_', '-')} {value}: give {' and '.join(wanted)}"


def names(settings: type[RunSettings]) -> tuple[str, ...]:
    """The names of the settings of a task."""
    return tuple(field.name for field in dataclasses.fields(settings))
