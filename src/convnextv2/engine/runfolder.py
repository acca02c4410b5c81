"""A run's folder: who may write into it, and its config.json."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convnextv2.atomic import write_text_atomically
from convnextv2.engine.distributed import DistributedContext
from convnextv2.errors import UserError

# What a run writes before it has its config.json: a folder that holds no more never was a run.
_BEFORE_CONFIG = {"log.txt", ".lock", ".config.json.partial"}


def open_new(run: Path, *, resume: bool | None = None) -> None:
    """Make a new folder. Raises UserError if it holds anything: nothing is ever overwritten.

    resume: for the folder of a run, whether the user requested to resume it, and there is none; None for any other.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        held = {path.name for path in run.iterdir()} - _BEFORE_CONFIG
    except OSError as error:
        raise UserError(f"--out {run}: {error.strerror or error}; name a new folder that can be written") from error
    if held and resume:
        raise UserError(f"--resume: {run} holds files but no config.json, so it is no run; name a new --out")
    if held:
        hint = "add --resume to continue that run, or " if "config.json" in held and resume is not None else ""
        raise UserError(f"--out {run} is not empty; {hint}name a new folder")


@contextlib.contextmanager
def locked(run: Path, context: DistributedContext) -> Iterator[None]:
    """Lock the run: inside, no other command works on it. A killed process holds no lock.

    Raises UserError on every rank if another command does.
    """
    with contextlib.ExitStack() as held:
        context.broadcast(lambda: _lock(run, held))
        yield


def _lock(run: Path, held: contextlib.ExitStack) -> None:
    file = held.enter_context((run / ".lock").open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UserError(f"another process is working on {run}; wait for it, or name another --out") from error


def abandon(run: Path) -> None:
    """Remove the folder of a run that never started, so that a corrected command can use it."""
    if not (run / "config.json").exists():
        for name in _BEFORE_CONFIG:
            (run / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            run.rmdir()


def write_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write config.json, whole or not at all."""
    write_text_atomically(run / "config.json", json.dumps(config, indent=1, default=str) + "\n")


def read_config(path: Path) -> dict[str, Any]:
    """Read a run's config.json. Raises UserError if it is missing or damaged."""
    if not path.is_file():
        raise UserError(f"no run at {path.parent}: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is damaged: it holds no object")
    return config
