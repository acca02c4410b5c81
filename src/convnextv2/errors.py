"""Every exception this package raises, in one tree.

ConvNeXtV2Error
├── UserError               a mistake in a call or a command: one line, exit code 2
│   └── LoadError           weights that do not fit the model they were meant for
├── BadImageError           one file that is not a readable image (skipped and counted)
├── RunFailedError          a run that had to stop: exit code 1
└── StoppedError            a run that was asked to stop and saved first: exit code 128 + signal

Messages are written with options as the command spells them (`--mask-ratio 0.6`). A caller in Python reads them in
Python's spelling (`mask_ratio=0.6`); the command line asks for its own with `spelled_for_command`.
"""

from __future__ import annotations

import re
import signal as _signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_command = ""  # of the whole process: worker threads and forked workers spell as the command does


@contextmanager
def spelled_for_command(command: str = "convnextv2") -> Iterator[None]:
    """Inside, errors name options as the command spells them.  command: the whole line, see `command_line`."""
    global _command
    before, _command = _command, command
    try:
        yield
    finally:
        _command = before


def command_line() -> str:
    """Return the command that is running; empty for a call from Python."""
    return _command


def spelled(message: str) -> str:
    """Return a message with the options in it as the caller spells them, in Python or in the command."""
    return message if _command else spelled_for_python(message)


# A command in backquotes stays; else an option, and what follows it up to a punctuation mark or a space.
_OPTION = re.compile(r"`[^`]*`|(?<![^\s(])--([a-z][a-z0-9-]*)(?: (\([^()]*\)|(?!--)[^\s`()]+?)(?=([:;,)]*)(?:\s|$)))?")


def spelled_for_python(message: str) -> str:
    """Return a message with the options in it as Python spells them: `--image-size 96` becomes `image_size=96`.

    A word after an option is its value if it is a number, a tuple, a placeholder in capitals, or ends a clause; so a
    message says "leave out --split", and not "leave --split out".
    """

    def spell(found: re.Match[str]) -> str:
        option, value, mark = found.groups()
        if option is None:
            return found[0]
        name = option.replace("-", "_")
        if name.startswith("no_"):
            return f"{name.removeprefix('no_')}=False" + (f" {value}" if value else "")
        if value is None:
            return name
        if re.fullmatch(r"-?(\d[\d.e+-]*|inf|nan)|[A-Z]+|\(.*\)", value):
            return f"{name}={value}"
        return f"{name}={value!r}" if mark or found.end() == len(message) else f"{name} {value}"

    return _OPTION.sub(spell, message)


class ConvNeXtV2Error(Exception):
    """Base of every exception raised by convnextv2.

    everywhere: whether all processes of a run raise it alike, so that only the first needs to say it.
    """

    everywhere = False

    def __str__(self) -> str:
        return spelled(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the one line, as the command does."""
        return [f"{type(self).__name__}: {self}"]


class UserError(ConvNeXtV2Error, ValueError):
    """A user's mistake: what is wrong, where, and what to type instead."""


class LoadError(UserError):
    """Weights that could not be loaded: names what is missing, unexpected or misshaped."""


class BadImageError(ConvNeXtV2Error):
    """A file that cannot be read as an image."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = spelled(reason)

    def __reduce__(self) -> tuple[type[BadImageError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class RunFailedError(ConvNeXtV2Error, RuntimeError):
    """A run that cannot go on, with the reason and the place."""


class Notice(UserWarning):
    """A warning about weights: nothing is wrong, but the user should know."""


class StoppedError(ConvNeXtV2Error):
    """A run that was asked to stop by a signal, and saved a checkpoint if it had trained.

    signal: its number.  saved: the checkpoint's folder; None if there is nothing to save.
    """

    def __init__(self, signal: int, saved: Path | None, then: str = "continue with --resume") -> None:
        what = "before the first step" if saved is None else f"saved {saved}"
        super().__init__(f"stopped by {_signal.Signals(signal).name}; {what}; {then}")
        self.everywhere = True
        self.signal = signal
        self.saved = saved
        self.then = then

    def __reduce__(self) -> tuple[type[StoppedError], tuple[int, Path | None, str]]:
        return type(self), (self.signal, self.saved, self.then)
