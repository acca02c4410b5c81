"""Checkpoints of a run: complete or absent, the newest two kept, and the best.

checkpoints/step-00001200/model.safetensors       the weights that users pass around, and their average
checkpoints/step-00001200/optimizer.safetensors   the state of the optimiser
checkpoints/step-00001200/state.json              the state of the loop
checkpoints/latest                                the name of the newest, moved last
checkpoints/best                                  the name of the best, if the task has a metric for it
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnextv2.atomic import flush_to_disk, write_text_atomically
from convnextv2.errors import LoadError
from convnextv2.weights.files import EMA_PREFIX, checkpoints_in, load_tensors, save_tensors

KEPT = 2


@dataclass(frozen=True)
class LoopState:
    """The progress of a run.

    step: optimiser steps done.  seconds: of training so far.  best, best_step: the highest value so far of the
    metric that selects the best checkpoint, and its step.  stale: evaluations since then.  averaged: updates of the
    average.  meter: sums since the last line of the log.
    """

    step: int
    seconds: float
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    averaged: int = 0
    meter: dict[str, Any] = field(default_factory=dict)


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: LoopState,
    metadata: Mapping[str, str],
    average: nn.Module | None = None,
) -> Path:
    """Write a checkpoint below `folder` (the run's `checkpoints/`); return its own folder.

    average: the model with averaged weights, saved beside the plain ones under names that begin with `ema/`.
    """
    name = name_of(state.step)
    partial, final = folder / f".{name}.partial", folder / name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = dict(model.state_dict())
    if average is not None:
        weights |= {EMA_PREFIX + name: value for name, value in average.state_dict().items()}
    save_tensors(partial / "model.safetensors", weights, {**metadata, "step": str(state.step)})
    save_tensors(partial / "optimizer.safetensors", _flatten(model, optimizer))
    write_text_atomically(partial / "state.json", json.dumps(asdict(state)))
    flush_to_disk(partial)
    shutil.rmtree(final, ignore_errors=True)  # only ever one that `latest` does not name
    os.replace(partial, final)
    flush_to_disk(folder)
    write_text_atomically(folder / "latest", name)
    best = point_to_best(folder, state)
    kept = [other for other in checkpoints_in(folder) if other <= name][
        -KEPT:
    ]  # later ones are of a run that was rewound
    for other in set(checkpoints_in(folder)) - {*kept, best}:
        shutil.rmtree(folder / other, ignore_errors=True)
    return final


def name_of(step: int) -> str:
    """Return the name of a checkpoint's folder."""
    return f"step-{step:08d}"


def point_to_best(folder: Path, state: LoopState) -> str | None:
    """Point `best` to the best checkpoint of `state`, and return its name. Only for the process that owns the run."""
    if state.best is None or not (folder / name_of(state.best_step)).is_dir():
        (folder / "best").unlink(missing_ok=True)
        return None
    write_text_atomically(folder / "best", name_of(state.best_step))
    return name_of(state.best_step)


def repair(folder: Path) -> None:
    """Remove what a killed process left half-written. Only for the process that owns the run."""
    for partial in folder.glob(".*.partial"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink()


def load(
    checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None = None
) -> LoopState:
    """Fill model, optimiser and average from a checkpoint's folder; return the progress of the run."""
    weights, _ = load_tensors(checkpoint / "model.safetensors")
    model.load_state_dict({name: value for name, value in weights.items() if not name.startswith(EMA_PREFIX)})
    if average is not None:
        found = {name: value for name, value in weights.items() if name.startswith(EMA_PREFIX)}
        average.load_state_dict({name.removeprefix(EMA_PREFIX): value for name, value in found.items()})
    flat, _ = load_tensors(checkpoint / "optimizer.safetensors")
    names = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for key, value in flat.items():
        name, _, field = key.rpartition("/")
        parameter = names[name]
        # AdamW keeps its count of steps on the CPU unless the fused kernel needs it on the device.
        optimizer.state[parameter][field] = value.to(parameter.device)
    try:
        state = LoopState(**json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LoadError(f"{checkpoint / 'state.json'} is damaged: {error}") from error
    return state


def _flatten(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{field}": value
        for name, parameter in model.named_parameters()
        for field, value in optimizer.state.get(parameter, {}).items()
    }
