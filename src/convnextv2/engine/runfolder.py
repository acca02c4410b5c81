"""A run's folder: who may write into it, and its config.json."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convnextv2 import seal
from convnextv2.atomic import open_unshared, tidy, write_text_atomically
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.new_folder import BEFORE_CONFIG
from convnextv2.engine.parts import read_state
from convnextv2.errors import LoadError, UserError
from convnextv2.text import shown
from convnextv2.weights.files import checkpoints_in

_SECTIONS = ("settings", "given", "data", "model")


@contextlib.contextmanager
def locked(run: Path, context: DistributedContext) -> Iterator[None]:
    """Lock the run: inside, no other command works on it. A killed process holds no lock, and what it left is removed.

    Raises UserError on every rank if another command does.
    """
    with contextlib.ExitStack() as held:
        context.broadcast(lambda: _lock(run, held))
        yield


def _lock(run: Path, held: contextlib.ExitStack) -> None:
    file = held.enter_context(open_unshared(run / ".lock"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UserError(f"another process is working on {run}; wait for it, or name another --out") from error
    # A process that reads images and outlives the run for a moment has the file open, too, and would hold the lock.
    held.callback(fcntl.flock, file, fcntl.LOCK_UN)
    tidy(run)
    tidy(run / "pictures")


def abandon(run: Path) -> None:
    """Remove the folder of a run that never started, so that a corrected command can use it."""
    if not (run / "config.json").exists():
        for name in BEFORE_CONFIG:
            (run / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            run.rmdir()


def write_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write config.json, whole or not at all; with a hash of its content if it has a `run`, the run's identity."""
    written = seal.sealed(config) if "run" in config else config
    write_text_atomically(run / "config.json", json.dumps(written, indent=1, default=str) + "\n")


def read_config(path: Path, *, edited: bool = False) -> dict[str, Any]:
    """Read a run's config.json.

    edited: whether one whose hash was taken out is fine: for the settings of another run.

    Raises UserError if it is missing, damaged, or no longer as the run wrote it, with the settings that differ, as far
    as the newest checkpoint tells, and with what to type instead.
    """
    if not path.is_file():
        raise UserError(f"no run at {path.parent}: it has no config.json")
    try:
        config = seal.parse(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}{_remedy(path, None)}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is damaged: it holds no object{_remedy(path, None)}")
    if (seal.KEY in config or ("run" in config and not edited)) and not seal.holds(config):
        raise UserError(f"{path} is not as its run wrote it{_remedy(path, config)}")
    for name in _SECTIONS:
        if not isinstance(config.get(name), dict):
            raise UserError(f"{path} is not the config.json of a run: its {name!r} is no object")
    return config


def restore_config(run: Path) -> str | None:
    """Write a config.json that was lost anew from the newest checkpoint; return that one's name, or None without any.

    Only for a run that is resumed.
    """
    found = _saved_config(run)
    if (run / "config.json").exists() or found is None:
        return None
    checkpoint, config = found
    write_config(run, config)
    return checkpoint


def _saved_config(run: Path) -> tuple[str, dict[str, Any]] | None:
    """The newest checkpoint that has a copy of config.json, and the copy."""
    for name in reversed(checkpoints_in(run / "checkpoints")):
        with contextlib.suppress(LoadError):
            config = read_state(run / "checkpoints" / name).get("config")
            if isinstance(config, dict) and "run" in config:
                return name, config
    return None


def _remedy(path: Path, config: Mapping[str, Any] | None) -> str:
    """What differs from the copy in a checkpoint, and what to type instead."""
    as_options = "give other settings as options beside --config, as --lr 0.001 --out NEW"
    found = _saved_config(path.parent)
    if found is None:
        if config is None:
            return "; start another run, with --out NEW"
        return f": it is damaged, or was edited; {as_options}" + (
            f", or take out its line {seal.KEY!r} to start another run from it as it is" if seal.KEY in config else ""
        )
    checkpoint, saved = found
    differ = [] if config is None else _differences(config, saved)
    said = f" ({'; '.join(differ[:3])})" if differ else ""
    return f"{said}: remove it, and --resume restores it from {checkpoint}; for another run, {as_options}"


def _differences(config: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    """The settings that differ, else the parts that do."""
    now, then = config.get("settings"), saved.get("settings")
    if isinstance(now, dict) and isinstance(then, dict):
        names = [name for name in then if now.get(name, now) != then[name]]
        if names:
            return [f"{name} is {shown(str(now.get(name)))[:60]}, was {shown(str(then[name]))[:60]}" for name in names]
    return [f"{shown(name)[:40]} differs" for name in saved if name != seal.KEY and config.get(name) != saved[name]]
