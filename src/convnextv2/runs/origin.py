"""What a run records of the weights it starts from, so that it can only go on from the same."""

from __future__ import annotations

from pathlib import Path

from convnextv2.engine.runfolder import read_config
from convnextv2.errors import UserError


def recorded(source: Path | str | None, sha256: str | None) -> dict[str, str | None]:
    """For config.json: where the weights come from, and the hash of what came, or None of both."""
    return {"from": "random weights" if sha256 is None else str(source), "from_sha256": sha256}


def check_same(file: Path, sha256: str, run: Path) -> None:
    """UserError unless these are the weights that a run began with, which was stopped before it saved anything."""
    if read_config(run / "config.json")["model"]["from_sha256"] != sha256:
        raise UserError(f"--resume: {file} is not what the run began with; name the weights with --init, a new --out")
