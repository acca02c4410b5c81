"""A run's curves for TensorBoard, if that is installed: one file of events, however often the run was resumed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NO_CURVE = ("step", "epoch", "phase", "time")


def open_board(run: Path) -> Any:
    """Return a writer to which the lines of metrics.jsonl have been written, in place of the files of earlier starts.

    None without TensorBoard.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportPrivateImportUsage]
    except ImportError:
        return None
    folder = run / "tensorboard"
    before = sorted(folder.glob("events.out.tfevents.*")) if folder.is_dir() else []
    board = SummaryWriter(str(folder))
    for line in _lines(run / "metrics.jsonl"):
        for name, value in line.items():
            if name not in _NO_CURVE and isinstance(value, int | float):
                board.add_scalar(f"{line['phase']}/{name}", value, line["step"])
    board.flush()
    for path in before:
        path.unlink(missing_ok=True)
    return board


def _lines(metrics: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a metrics.jsonl, without one that a killed process left half-written."""
    for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, AttributeError):
            found = json.loads(line)
            if {"step", "phase"} <= found.keys():
                yield found
