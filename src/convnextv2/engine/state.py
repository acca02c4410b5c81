"""Checkpoints of a run: complete or absent, the newest two kept, and the best.

checkpoints/step-00001200/model.safetensors       the weights that users pass around, and their average
checkpoints/step-00001200/optimizer.safetensors   the state of the optimiser
checkpoints/step-00001200/state.json              the state of the loop, and what binds the three (`engine.parts`)
checkpoints/latest                                the name of the newest, moved last
checkpoints/best                                  the name of the best, if the task has a metric for it

Only folders with exactly these names and files, and of this run, are ever removed; links are left alone.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnextv2.atomic import flush_to_disk, partial_name, tidy, write_text_atomically
from convnextv2.engine.parts import (
    MODEL,
    OPTIMIZER,
    STATE,
    advising,
    check,
    is_own,
    name_of,
    optimizer_metadata,
    state_text,
)
from convnextv2.errors import LoadError
from convnextv2.settings import converted
from convnextv2.weights import strict
from convnextv2.weights.files import EMA_PREFIX, checkpoints_in, load_tensors, save_tensors

KEPT = 2
_PARTIAL = re.compile(r"\.(step-\d{8,}|latest|best)(\.[0-9a-f]{12})?\.partial")


@dataclass(frozen=True)
class LoopState:
    """The progress of a run.

    step: optimiser steps done.  seconds: of training so far.  best, best_step: the highest value so far of the
    metric that selects the best checkpoint, and its step.  stale: evaluations since then.  averaged: updates of the
    average.  meter: sums since the last line of the log.  logged: bytes of the log, and their hash (`RunLog.mark`).
    looked: whether the evaluation due at this step is done.
    """

    step: int
    seconds: float
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    averaged: int = 0
    meter: dict[str, Any] = field(default_factory=dict)
    logged: tuple[int, str] | None = None
    looked: bool = True

    @staticmethod
    def of(saved: Mapping[str, Any], path: Path) -> LoopState:
        """Return what a state.json holds. Raises LoadError, naming `path`, if a value is missing or of another type."""
        hints = typing.get_type_hints(LoopState)
        names = [entry.name for entry in fields(LoopState) if entry.name in saved]
        try:
            found = LoopState(**{name: converted(name, saved[name], hints[name]) for name in names})
            if min(found.step, found.best_step, found.stale, found.averaged) < 0 or not _is_meter(found.meter):
                raise ValueError("a count is below 0, or the sums since the last line of the log are no numbers")
        except (TypeError, ValueError) as error:
            said = error.args[0] if error.args else type(error).__name__
            raise LoadError(f"{path} is damaged: {said}") from error
        return found


def _is_meter(saved: object) -> bool:
    """Whether it is what the loop sums up between two lines of the log."""
    if not isinstance(saved, dict) or not saved.keys() <= {"steps", "seconds", "sums"}:
        return False
    sums = saved.get("sums", {})
    numbers = [saved.get("steps", 0), saved.get("seconds", 0), *(sums.values() if isinstance(sums, dict) else [None])]
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: LoopState,
    metadata: Mapping[str, str],
    average: nn.Module | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Path:
    """Write a checkpoint below `folder` (the run's `checkpoints/`); return its own folder.

    average: the model with averaged weights, saved beside the plain ones under names that begin with `ema/`.
    config: the run's config.json, which the checkpoint is bound to.  tell: called with a line if a folder of somebody
    else's has the name of the checkpoint and is moved aside.
    """
    name = name_of(state.step)
    final = folder / name
    run = None if config is None else config.get("run")
    folder.mkdir(parents=True, exist_ok=True)
    weights = dict(model.state_dict())
    if average is not None:
        weights |= {EMA_PREFIX + name: value for name, value in average.state_dict().items()}
    partial = partial_name(final)
    try:
        _write_parts(partial, weights, _flatten(model, optimizer), state, metadata, config)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if os.path.lexists(final):  # a folder that `latest` does not name
        _make_way(final, run, tell)
    os.replace(partial, final)
    flush_to_disk(folder)
    write_text_atomically(folder / "latest", name)
    best = point_to_best(folder, state)
    own = [other for other in checkpoints_in(folder) if is_own(folder / other, run)]
    kept = [other for other in own if other <= name][-KEPT:]  # later ones are of a run that was rewound
    for other in set(own) - {*kept, best}:
        _remove(folder / other)
    return final


def _write_parts(
    folder: Path,
    weights: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    state: LoopState,
    metadata: Mapping[str, str],
    config: Mapping[str, Any] | None,
) -> None:
    """Write the files of a checkpoint to a new folder, and wait until they are on the disk."""
    folder.mkdir()
    hashes = {MODEL: save_tensors(folder / MODEL, weights, {**metadata, "step": str(state.step)}, running=True)}
    about = optimizer_metadata(state.step, hashes[MODEL])
    hashes[OPTIMIZER] = save_tensors(folder / OPTIMIZER, optimizer, about, running=True)
    write_text_atomically(folder / STATE, state_text(asdict(state), hashes, config))
    flush_to_disk(folder)


def _make_way(final: Path, run: str | None, tell: Callable[[str], object]) -> None:
    """Free the name of a checkpoint: an earlier one of this run is removed, anything else is renamed."""
    if is_own(final, run):
        _remove(final)
        return
    aside = final.with_name(f"{final.name}-kept-{secrets.token_hex(3)}")
    final.rename(aside)
    tell(f"{final} was no checkpoint of this run: it is kept as {aside.name}")


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; a process that is killed meanwhile leaves a partial folder, not half a checkpoint."""
    partial = partial_name(checkpoint)
    checkpoint.rename(partial)
    shutil.rmtree(partial, ignore_errors=True)


def point_to_best(folder: Path, state: LoopState) -> str | None:
    """Point `best` to the best checkpoint of `state`, and return its name. Only for the process that owns the run."""
    if state.best is None or name_of(state.best_step) not in checkpoints_in(folder):
        (folder / "best").unlink(missing_ok=True)
        return None
    write_text_atomically(folder / "best", name_of(state.best_step))
    return name_of(state.best_step)


def repair(folder: Path) -> None:
    """Remove what a killed process left half-written. Only for the process that owns the run."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for partial in folder.iterdir():
        if _PARTIAL.fullmatch(partial.name) and not partial.is_symlink():
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink()
    tidy(folder)


def load(
    checkpoint: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None = None,
    *,
    run: str | None = None,
) -> LoopState:
    """Fill model, optimiser and average from a checkpoint's folder; return the progress of the run.

    run: the identity in config.json. Raises LoadError as `parts.check`, for a damaged part with its tensor, and for
    tensors that are missing or of another shape, with what to type instead; then nothing is filled.
    """
    with advising(checkpoint, run):
        saved = check(checkpoint, run)
        state = LoopState.of(saved, checkpoint / STATE)
        weights, _ = load_tensors(checkpoint / MODEL)
        flat, _ = load_tensors(checkpoint / OPTIMIZER)
        for part, prefix in ((model, ""), (average, EMA_PREFIX)):
            if part is not None:
                _check_tensors(checkpoint / MODEL, _below(weights, prefix), part.state_dict())
        _check_optimizer(checkpoint / OPTIMIZER, flat, model, state, complete="parts" in saved)
    model.load_state_dict(_below(weights, ""))
    if average is not None:
        average.load_state_dict(_below(weights, EMA_PREFIX))
    names = dict(model.named_parameters())
    for key, value in flat.items():
        name, _, entry = key.rpartition("/")
        parameter = names[name]
        # AdamW keeps its count of steps on the CPU unless the fused kernel needs it on the device.
        optimizer.state[parameter][entry] = value.to(parameter.device)
    return state


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The averaged tensors under their own names, or the plain ones."""
    if prefix:
        return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    return {name: value for name, value in weights.items() if not name.startswith(EMA_PREFIX)}


def _check_tensors(path: Path, found: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in needed.items()}
    strict.check(shapes, found, what=str(path), advice="It is not what this run saved")


def _check_optimizer(
    path: Path, flat: Mapping[str, Tensor], model: nn.Module, state: LoopState, *, complete: bool
) -> None:
    """Raise LoadError unless AdamW's state is there for every parameter.

    complete: the file is known to be as it was saved; a parameter that has no state then had none.
    """
    needed: dict[str, tuple[int, ...]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not (complete and f"{name}/step" not in flat):
            shape = tuple(parameter.shape)
            needed |= {f"{name}/step": (), f"{name}/exp_avg": shape, f"{name}/exp_avg_sq": shape}
    strict.check(needed, flat, what=str(path), advice="It is not what this run saved", floats=True)
    steps = {int(value) for name, value in flat.items() if name.endswith("/step")}
    if not complete and steps and max(steps) != state.step:
        raise LoadError(f"{path} is of step {max(steps)}, and the rest of {path.parent.name} is not")


def _flatten(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{entry}": value
        for name, parameter in model.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }
