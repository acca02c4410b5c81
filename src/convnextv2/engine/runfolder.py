"""A run's folder: who may write into it, and its config.json."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnextv2.checkpoints.files import write_text_atomically
from convnextv2.errors import UserError


def open_new(run: Path) -> None:
    """Make the folder of a new run. UserError where it holds anything: nothing is ever overwritten."""
    if run.exists() and not run.is_dir():
        raise UserError(f"--out {run} is a file; name a new folder")
    if run.is_dir() and any(run.iterdir()):
        hint = "add --resume to go on with that run, or" if (run / "config.json").exists() else "please"
        raise UserError(f"--out {run} is not empty; {hint} name a new folder")
    run.mkdir(parents=True, exist_ok=True)


def abandon(run: Path) -> None:
    """Take back the folder of a run that never began, so that the same command can be typed again, mended."""
    if not (run / "config.json").exists():
        (run / "log.txt").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            run.rmdir()


def write_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write config.json, whole or not at all."""
    write_text_atomically(run / "config.json", json.dumps(config, indent=1, default=str) + "\n")


def read_config(path: Path) -> dict[str, Any]:
    """A run's config.json. UserError where it is missing or damaged."""
    if not path.is_file():
        raise UserError(f"no run at {path.parent}: it has no config.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
