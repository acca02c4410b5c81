"""Every exception this package raises, in one tree.

ConvNeXtV2Error
├── UserError          a mistake in what was asked for: one line, exit code 2
│   └── LoadError      weights that do not fit the model they were meant for
├── BadImageError           one file that is not a readable picture (skipped and counted)
├── RunFailedError          a run that had to stop: exit code 1
└── StoppedError            a run that was asked to stop and saved first: exit code 128 + signal
"""

from __future__ import annotations

import signal as _signal
from pathlib import Path


class ConvNeXtV2Error(Exception):
    """Base of every exception raised by convnextv2."""


class UserError(ConvNeXtV2Error, ValueError):
    """A user's mistake: says what was wrong, where, and what to type instead."""


class LoadError(UserError):
    """Weights that could not be loaded: names what is missing, unexpected or misshaped."""


class BadImageError(ConvNeXtV2Error):
    """A file that cannot be read as a picture."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class RunFailedError(ConvNeXtV2Error, RuntimeError):
    """A run that cannot go on, with the reason and the place."""


class Notice(UserWarning):
    """No error: something about the weights that the user should know, as a warning."""


class StoppedError(ConvNeXtV2Error):
    """A run that was asked to stop by a signal, finished its step and saved a checkpoint."""

    def __init__(self, signal: int, saved: Path) -> None:
        super().__init__(f"stopped by {_signal.Signals(signal).name}; saved {saved}; go on with --resume")
        self.signal = signal
        self.saved = saved
