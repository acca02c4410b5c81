"""Checkpoints of a run: complete or absent, the newest two kept.

checkpoints/step-00001200/model.safetensors       the weights that users pass around
checkpoints/step-00001200/optimizer.safetensors   what the optimiser remembers
checkpoints/step-00001200/state.json              where the loop stood
checkpoints/latest                                the name of the newest, moved last
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from convnextv2.checkpoints.files import flush_to_disk, load_tensors, save_tensors, write_text_atomically
from convnextv2.errors import LoadError

KEPT = 2


@dataclass(frozen=True)
class LoopState:
    """Where a run stands: optimiser steps done, and seconds of training so far."""

    step: int
    seconds: float


def save(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: LoopState, metadata: Mapping[str, str]
) -> Path:
    """Write a checkpoint below `folder` (the run's `checkpoints/`); returns its own folder."""
    name = f"step-{state.step:08d}"
    partial, final = folder / f".{name}.partial", folder / name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_tensors(partial / "model.safetensors", model.state_dict(), {**metadata, "step": str(state.step)})
    save_tensors(partial / "optimizer.safetensors", _flatten(model, optimizer))
    write_text_atomically(partial / "state.json", json.dumps(asdict(state)))
    flush_to_disk(partial)
    shutil.rmtree(final, ignore_errors=True)  # only ever one that `latest` does not name
    os.replace(partial, final)
    flush_to_disk(folder)
    write_text_atomically(folder / "latest", name)
    kept = [other for other in _complete(folder) if other <= name][-KEPT:]  # later ones are of a run gone back on
    for other in set(_complete(folder)) - set(kept):
        shutil.rmtree(folder / other, ignore_errors=True)
    return final


def repair(folder: Path) -> None:
    """Remove what a killed process left half-written. Only for the process that owns the run."""
    for partial in folder.glob(".*.partial"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink()


def latest(folder: Path) -> Path | None:
    """The newest checkpoint below `folder`, or None."""
    pointer = folder / "latest"
    if not pointer.is_file():
        return None
    found = folder / pointer.read_text(encoding="utf-8").strip()
    if not found.is_dir():
        raise LoadError(f"{pointer} names {found.name}, which is not there; name one of {_complete(folder)} in it")
    return found


def load(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> LoopState:
    """Fill model and optimiser from a checkpoint's folder; returns where the run stood."""
    weights, _ = load_tensors(checkpoint / "model.safetensors")
    model.load_state_dict(weights)
    flat, _ = load_tensors(checkpoint / "optimizer.safetensors")
    names = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for key, value in flat.items():
        name, _, field = key.rpartition("/")
        parameter = names[name]
        # AdamW keeps its count of steps on the CPU unless the fused kernel wants it on the device.
        optimizer.state[parameter][field] = value.to(parameter.device)
    try:
        return LoopState(**json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LoadError(f"{checkpoint / 'state.json'} is damaged: {error}") from error


def _flatten(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{field}": value
        for name, parameter in model.named_parameters()
        for field, value in optimizer.state.get(parameter, {}).items()
    }


def _complete(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*") if path.is_dir())
