"""The files of a run folder, read once and leniently: only `config.json` has to exist and be whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from convnextv2 import seal
from convnextv2.errors import UserError
from convnextv2.report.metrics import Metrics, read_metrics
from convnextv2.text import listed

T = TypeVar("T")

LOG_LINES = 30
_LOG_BYTES = 256 * 1024
_NAME = re.compile(r"step-(\d+)-(.+)")
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


@dataclass(frozen=True)
class Table:
    """A small table of results in the run folder.

    better: whether they are clearly better than those of a model that learned nothing; None if they do not tell.
    step: of the weights that they are of; None if it is not said.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""
    better: bool | None = None
    step: int | None = None


@dataclass(frozen=True)
class StoredImage:
    """An image file of the run: what it shows (`kind`) and after which step; -1 if the name has none."""

    path: Path
    step: int
    kind: str


@dataclass(frozen=True)
class RunFolder:
    """Everything the page is made of."""

    path: Path
    config: dict[str, Any]
    metrics: Metrics
    images: tuple[StoredImage, ...] = ()
    log: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    scores: dict[str, Any] = field(default_factory=dict)
    touched: float = 0.0
    notices: tuple[str, ...] = field(default=())

    @property
    def verb(self) -> str:
        """The command that made the run; empty if not recorded."""
        return str(self.config.get("verb") or "")

    @property
    def advice(self) -> list[str]:
        """What the run told its user before it began: too few steps, too little data."""
        told = self.config.get("advice")
        return [line for line in told if isinstance(line, str)] if isinstance(told, list) else []

    def section(self, name: str) -> dict[str, Any]:
        """Return a part of `config.json` that should be an object; empty if it is missing or something else."""
        part = self.config.get(name)
        return part if isinstance(part, dict) else {}


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether a value is a finite number below 1e300 in size, no boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


def is_count(value: Any) -> TypeGuard[int]:
    """Return whether a value is an integer of 0 or more, no boolean."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_run(run: Path) -> RunFolder:
    """Read the run folder `run`. Raises UserError if it is not one."""
    if not run.is_dir():
        raise UserError(f"{run} is not a folder; give the run folder that --out named when the run was started")
    config = _read_config(run / "config.json")
    metrics = read_metrics(run / "metrics.jsonl")
    notices = []
    if metrics.unreadable:
        where = listed(map(str, metrics.unreadable))
        notices.append(
            f"{len(metrics.unreadable)} damaged lines of metrics.jsonl were left out. They are numbers {where}."
        )
    if seal.KEY in config and not seal.holds(config):
        notices.append("config.json is not as the run wrote it: what this page says of settings and data may be wrong.")
    tables = [_read_or_note(path, _table, notices) for path in (run / "table.json", *sorted(run.glob("table-*.json")))]
    log = _tail(run / "log.txt")
    warnings = tuple(dict.fromkeys(line for line in log if "warning" in line.lower()))[-5:]
    return RunFolder(
        path=run.resolve(),
        config=config,
        metrics=metrics,
        images=_images(run / "pictures"),
        log=log[-LOG_LINES:],
        warnings=warnings,
        tables=tuple(table for table in tables if table is not None),
        scores=_read_or_note(run / "scores.json", _scores, notices) or {},
        touched=_touched(run),
        notices=tuple(notices),
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} is not a run folder: it has no config.json") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} should hold a JSON object, not {type(config).__name__}")
    return config


def _read_or_note(path: Path, make: Callable[[Any], T], notices: list[str]) -> T | None:
    """What `make` returns for a JSON file that need not exist; a damaged one is named in `notices`."""
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        notices.append(f"{path.name} is damaged and was left out.")
        return None


def _table(table: Any) -> Table:
    return Table(
        title=str(table.get("title") or "Results") if isinstance(table, dict) else "Results",
        columns=tuple(str(column) for column in table["columns"]),
        rows=tuple(tuple(row) for row in table["rows"]),
        note=str(table.get("note") or ""),
        better=table["better"] if isinstance(table.get("better"), bool) else None,
        step=table["step"] if is_count(table.get("step")) else None,
    )


def _scores(scores: Any) -> dict[str, Any]:
    if not isinstance(scores, dict):
        raise TypeError
    return scores


def _images(folder: Path) -> tuple[StoredImage, ...]:
    """All images, oldest first."""
    if not folder.is_dir():
        return ()
    found = []
    for path in folder.iterdir():
        # A name with a leading dot is an image still being written.
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        match = _NAME.fullmatch(path.stem)
        found.append(StoredImage(path, int(match[1]), match[2]) if match else StoredImage(path, -1, path.stem))
    return tuple(sorted(found, key=lambda image: (image.step, image.path.name)))


def _tail(path: Path) -> tuple[str, ...]:
    """The last lines of a log that may be very long."""
    try:
        with path.open("rb") as file:
            start = max(0, path.stat().st_size - _LOG_BYTES)
            file.seek(start)
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(line for line in (lines[1:] if start else lines) if line.strip())


def _touched(run: Path) -> float:
    """When the run last wrote something, in seconds since 1970."""
    names = ("config.json", "metrics.jsonl", "log.txt", "checkpoints", "pictures")
    return max(path.stat().st_mtime for name in names if (path := run / name).exists())
