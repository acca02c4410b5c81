"""`metrics.jsonl` as columns: one series of numbers for every name of every phase.

The file is written by a process that may be killed at any byte and resumed from an earlier step, so a torn
last line is ordinary, and lines that a resumed run wrote again replace the ones they repeat.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESERVED = frozenset({"step", "epoch", "phase", "time"})
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """The finite values of one name in one phase; `lost` counts the ones that were NaN or infinite."""

    name: str
    phase: str
    step: Floats
    epoch: Floats
    values: Floats
    lost: int = 0


@dataclass(frozen=True)
class Metrics:
    """The content of `metrics.jsonl`.

    `end` is the last line of all if its phase is "end", so a finished run that was then trained further is
    not taken for finished. `words` holds the latest value of every name that is not a number; `unreadable` the
    numbers of damaged lines, from 1.
    """

    series: tuple[Series, ...] = ()
    words: dict[tuple[str, str], Any] = field(default_factory=dict)
    step: int = 0
    epoch: float = float("nan")
    seconds: float = float("nan")
    end: dict[str, Any] | None = None
    unreadable: tuple[int, ...] = ()

    def find(self, name: str, phase: str = "train") -> Series | None:
        """Return the series of that name and phase, or None if nothing finite was recorded."""
        return next((s for s in self.series if (s.name, s.phase) == (name, phase) and len(s.values)), None)


class _Phase:
    """The columns of one phase while the file is read; each value comes with its line."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.step: list[float] = []
        self.epoch: list[float] = []
        self.columns: dict[str, tuple[list[int], list[float]]] = {}

    def add(self, order: int, step: float, record: dict[str, Any]) -> dict[str, Any]:
        """Add the record's numbers; returns the rest."""
        row = len(self.step)
        self.order.append(order)
        self.step.append(step)
        self.epoch.append(_number(record.get("epoch")))
        rest: dict[str, Any] = {}
        for name, value in record.items():
            if name in RESERVED:
                continue
            if value is not None and not isinstance(value, (int, float)):
                rest[name] = value
                continue
            column = self.columns.get(name)
            if column is None:
                column = self.columns[name] = ([], [])
            column[0].append(row)
            column[1].append(_number(value))
        return rest

    def series(self, phase: str, rewound: Floats) -> list[Series]:
        """Return the columns as arrays, without the lines that a resumed run has gone back behind."""
        step, epoch = np.array(self.step), np.array(self.epoch)
        kept = step <= rewound[np.array(self.order)]
        # Within a phase the same step written twice is a repeat; the later one holds.
        kept[:-1] &= step[:-1] < np.minimum.accumulate(step[::-1])[::-1][1:]
        if not np.isfinite(epoch[kept]).all():
            epoch = np.full_like(epoch, np.nan)
        found = []
        for name, (rows, numbers) in self.columns.items():
            row, values = np.array(rows), np.array(numbers)
            row, values = row[kept[row]], values[kept[row]]
            finite = np.isfinite(values)
            row, lost = row[finite], int((~finite).sum())
            found.append(Series(name, phase, step[row], epoch[row], values[finite], lost))
        return found


def read_metrics(path: Path) -> Metrics:
    """Read the metrics in `path`; empty if there is no such file yet."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Metrics()
    lines = data.split(b"\n")
    torn = lines.pop()
    phases: dict[str, _Phase] = {}
    words: dict[tuple[str, str], Any] = {}
    steps: list[float] = []
    last: dict[str, Any] = {}
    damaged: list[int] = []
    for number, line in enumerate((*lines, torn), 1):
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            if number <= len(lines):  # what follows the last newline is a line still being written, not damage
                damaged.append(number)
            continue
        phase, step = str(record.get("phase", "train")), float(record["step"])
        rest = phases.setdefault(phase, _Phase()).add(len(steps), step, record)
        words.update(((phase, name), value) for name, value in rest.items())
        steps.append(step)
        last = record
    if not steps:
        return Metrics(unreadable=tuple(damaged))
    # The smallest step written on any later line (or the line itself): a line above it was rewound.
    rewound = np.minimum.accumulate(np.array(steps)[::-1])[::-1]
    return Metrics(
        series=tuple(s for phase, lines_of in phases.items() for s in lines_of.series(phase, rewound)),
        words=words,
        step=int(steps[-1]),
        epoch=_number(last.get("epoch")),
        seconds=_number(last.get("time")),
        end=last if last.get("phase") == "end" else None,
        unreadable=tuple(damaged),
    )


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not np.isfinite(_number(record.get("step"))):
        return None
    return record


def _number(value: Any) -> float:
    """`value` as a float; NaN for everything that is not a number."""
    if type(value) is float:
        return value
    if not isinstance(value, (int, float)):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")
