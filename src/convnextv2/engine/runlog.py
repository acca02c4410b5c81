"""The output of a run: console, log.txt, metrics.jsonl, and TensorBoard if it is installed."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from convnextv2.atomic import open_to_append
from convnextv2.engine.metrics_file import MetricsFile
from convnextv2.engine.tensorboard import open_board
from convnextv2.errors import spelled
from convnextv2.notebook import ProgressLine, in_notebook
from convnextv2.text import printable

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.5  # of a line in a notebook


class RunLog:
    """The log files and console output of one run. Only the main process has one that writes (`quiet` otherwise)."""

    def __init__(self, run: Path, *, quiet: bool = False) -> None:
        self.run, self.quiet = run, quiet
        self._line = ProgressLine() if in_notebook() else None
        self.console = Console(
            stderr=self._line is None,
            quiet=quiet,
            highlight=False,
            force_jupyter=False,
            no_color=self._line is not None,
        )
        self._progress: Progress | None = None
        self._console_is_gone = False
        self._last_line = -math.inf
        self._board: Any = None
        self._metrics: MetricsFile | None = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._show(self._progress.stop)
        for file in (self._metrics, self._board):
            if file is not None:
                file.close()

    def say(self, text: str) -> None:
        """Write one line to the console and to log.txt."""
        if self.quiet:
            return
        text = printable(spelled(text))
        self._show(lambda: self.console.print(text, markup=False, soft_wrap=True))
        self.note(text)

    def warn(self, text: str) -> None:
        """Write a line as `say`, on the console also from quiet processes: no warning is lost."""
        if self.quiet:
            self._show(lambda: print(printable(text), file=sys.stderr, flush=True))
        self.say(text)

    def note(self, text: str) -> None:
        """Write one line to log.txt only."""
        if self.quiet:
            return
        with open_to_append(self.run / "log.txt") as file:
            file.write(f"{datetime.now().isoformat(timespec='seconds')} {printable(text)}\n")

    def metrics(self, step: int, epoch: float, phase: str, seconds: float, values: Mapping[str, float]) -> None:
        """Write one object to metrics.jsonl, and its values to TensorBoard as `phase/name`."""
        if self.quiet:
            return
        if self._metrics is None:
            self._metrics = MetricsFile(self.run)
            self._board = open_board(self.run)
        line = {"step": step, "epoch": round(epoch, 4), "phase": phase, "time": round(seconds, 2), **values}
        self._metrics.write(json.dumps(line))
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{phase}/{name}", value, step)

    def mark(self) -> tuple[int, str] | None:
        """Return the bytes of metrics.jsonl so far and their hash, for a checkpoint; None before the first line."""
        return None if self._metrics is None else self._metrics.mark()

    def progress(self, step: int, total: int, epoch: float, loss: float, rate: float) -> None:
        """Show a bar on a terminal or in a notebook; elsewhere a plain line now and then, and always the last.

        step: optimiser steps done of `total`.  rate: images a second, over all processes.
        """
        if self.quiet:
            return
        if self.console.is_terminal and self._line is None:
            text = f"epoch {epoch:.1f}  loss {loss:.4f}  {speed(rate)}"
            self._show(lambda: self._bar(total).update(self._task, completed=step, text=text))
            return
        now = time.monotonic()
        pause = _SECONDS_BETWEEN_LINES if self._line is None else _SECONDS_BETWEEN_UPDATES
        if step < total and now - self._last_line < pause:
            return
        if self._last_line == -math.inf:
            self._first = (now, step)
        started, first = self._first
        pace = (now - started) / (step - first) if step > first else math.nan
        left = f"  {duration(pace * (total - step))} left" if step < total and math.isfinite(pace) else ""
        self._last_line = now
        line = f"step {step}/{total}  epoch {epoch:.1f}  loss {loss:.4f}  {speed(rate)}{left}"
        if self._line is not None:
            self._line.show(step, total, line)
            return
        self._show(lambda: print(line, file=sys.stderr, flush=True))

    def _show(self, show: Callable[[], object]) -> None:
        """Write to the console until it is gone: a terminal that closes must not keep a run from saving."""
        if not self._console_is_gone:
            try:
                show()
            except OSError:
                self._console_is_gone = True

    def _bar(self, total: int) -> Progress:
        if self._progress is None:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
            self._progress = Progress(*columns, console=self.console)
            self._task = self._progress.add_task("training", total=total, text="")
            self._progress.start()
        return self._progress


def duration(seconds: float) -> str:
    """Return a length of time as text: `40 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


def speed(images_per_second: float) -> str:
    """Return a rate as text, with two digits at least: `110 images/s`, `2.4 images/s`, `0.031 images/s`."""
    if images_per_second >= 10:
        return f"{images_per_second:.0f} images/s"
    return f"{images_per_second:#.2g} images/s"
