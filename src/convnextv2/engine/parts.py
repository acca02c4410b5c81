"""The parts of a checkpoint, bound together and to their run: none of another step or another run is ever taken.

state.json names the hashes of both tensor files and the run (`config.json: run`), and carries a hash of its own
(`seal`) and a copy of config.json; the optimiser's file names the step and the hash of the weights. So of three parts
the odd one out is known. Checkpoints of earlier versions have none of it, and are checked by their steps.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from convnextv2 import seal
from convnextv2.errors import LoadError, UserError
from convnextv2.weights.files import HASH_KEY, checkpoints_in, is_checkpoint_name, load_metadata, load_tensors

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_WEIGHTS = "model"  # entry of the optimiser's metadata


def name_of(step: int) -> str:
    """Return the name of a checkpoint's folder."""
    return f"step-{step:08d}"


def optimizer_metadata(step: int, weights: str) -> dict[str, str]:
    """Return the metadata of an optimiser's file.  weights: hash of the weights that it belongs to."""
    return {"step": str(step), _WEIGHTS: weights}


def state_text(state: Mapping[str, Any], hashes: Mapping[str, str], config: Mapping[str, Any] | None) -> str:
    """Return the content of state.json.  hashes: of the two tensor files.  config: of the run, if it has one."""
    run = None if config is None else config.get("run")
    return json.dumps(seal.sealed({**state, "parts": dict(hashes), "run": run, "config": config}))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint's state.json holds. Raises LoadError if it is missing or damaged."""
    path = checkpoint / STATE
    try:
        state = seal.parse(path.read_bytes())
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise LoadError(f"{path} is damaged: {error}") from error
    if not isinstance(state, dict) or ((seal.KEY in state or "parts" in state) and not seal.holds(state)):
        raise LoadError(f"{path} is damaged: its content does not match the hash it was saved with")
    return state


def check(checkpoint: Path, run: str | None = None) -> dict[str, Any]:
    """Check that all parts of a checkpoint are there and belong together, by their headers; return its state.

    run: the identity in config.json, if it has one; the checkpoint must be of that run then.

    Raises LoadError with the name of the part that is damaged, or of another step or run.
    """
    state = read_state(checkpoint)
    weights, optimizer = (load_metadata(checkpoint / name) for name in (MODEL, OPTIMIZER))
    steps = {STATE: str(state.get("step")), MODEL: weights.get("step"), OPTIMIZER: optimizer.get("step")}
    others = {name: step for name, step in steps.items() if step is not None and name_of_text(step) != checkpoint.name}
    if len(others) == sum(step is not None for step in steps.values()):
        raise LoadError(f"{checkpoint} is not what its name says: all of it is of step {steps[STATE]}")
    for name, step in others.items():
        raise LoadError(f"{checkpoint / name} is of step {step[:20]}, and the rest of {checkpoint.name} is not")
    if odd := _odd_one(state, weights, optimizer):
        raise LoadError(f"{checkpoint / odd} does not belong to the rest of {checkpoint.name}: it is of another run")
    if "parts" in state and run is not None and state.get("run") != run:
        _refuse_run(checkpoint, run)
    return state


def _refuse_run(checkpoint: Path, run: str) -> None:
    """Raise LoadError for a checkpoint of another run; UserError if it is rather config.json that is of another."""
    folder, others = checkpoint.parent, []
    for name in checkpoints_in(folder):
        with suppress(LoadError):
            others += [read_state(folder / name).get("run")] if name != checkpoint.name else []
    if run in others:
        raise LoadError(f"{checkpoint} is of another run than this one")
    raise UserError(
        f"{folder.parent / 'config.json'} is of another run than {checkpoint.name}: remove it, and --resume restores "
        f"the one that {checkpoint.name} was saved with"
    )


def name_of_text(step: str) -> str:
    """Return the name of a checkpoint's folder; one of no checkpoint if the step is no number."""
    return name_of(int(step)) if step.isascii() and step.isdigit() and len(step) < 16 else ""


def _odd_one(state: Mapping[str, Any], weights: Mapping[str, str], optimizer: Mapping[str, str]) -> str | None:
    """Return the part that does not belong to the other two; None if all do, as far as their version tells."""
    parts, named = state.get("parts"), optimizer.get(_WEIGHTS)
    agree = named == weights.get(HASH_KEY)
    if not isinstance(parts, dict):
        return None if named is None else STATE if agree else OPTIMIZER
    wrong = [name for name, said in ((MODEL, weights), (OPTIMIZER, optimizer)) if parts.get(name) != said.get(HASH_KEY)]
    if len(wrong) == 2:
        return STATE if agree else " and ".join(wrong)
    return wrong[0] if wrong else None


@contextmanager
def advising(checkpoint: Path, run: str | None = None) -> Iterator[None]:
    """Add to a LoadError what to type instead: how to go on from another checkpoint of the run that is whole."""
    try:
        yield
    except LoadError as error:
        raise LoadError(f"{error.args[0]}. {_advice(checkpoint, run)}") from error


def _advice(checkpoint: Path, run: str | None) -> str:
    folder = checkpoint.parent
    others = (folder / name for name in reversed(checkpoints_in(folder)) if name != checkpoint.name)
    found = next((other for other in others if _is_whole(other, run)), None)
    if found is not None:
        command = f"`echo {found.name} > {shlex.quote(str(folder / 'latest'))}`"
        return f"{found.name} is whole: to go on from there, {command} and then --resume"
    return "No other checkpoint of the run is whole: start another run, with --out NEW"


def _is_whole(checkpoint: Path, run: str | None) -> bool:
    try:
        check(checkpoint, run)
        for name in (MODEL, OPTIMIZER):
            load_tensors(checkpoint / name)
    except LoadError:
        return False
    return True


def is_own(checkpoint: Path, run: str | None) -> bool:
    """Whether a folder is a checkpoint of this run and nothing else, so that it may be removed."""
    if not is_checkpoint_name(checkpoint.name) or checkpoint.is_symlink() or not checkpoint.is_dir():
        return False
    if set(os.listdir(checkpoint)) != {MODEL, OPTIMIZER, STATE}:
        return False
    try:
        return read_state(checkpoint).get("run") == run
    except LoadError:
        return True  # a damaged one
