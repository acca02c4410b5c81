"""Signals that stop a run: training finishes its step, all else ends at once; what was trained is saved.

SIGTERM is what schedulers and `kill` send, SIGINT is Ctrl-C, SIGHUP a terminal or connection that closes; SIGUSR1 or
SIGUSR2 is what SLURM sends before the time is up (`#SBATCH --signal=USR1@120`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from convnextv2.errors import command_line

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SAME_PRESS = 1.0  # seconds in which more Ctrl-C count as one


class Interrupted(KeyboardInterrupt):  # not an Exception: whatever handles those must not keep a run from stopping
    """Raised by the first of `STOPPING`, wherever the process is, while nothing must be finished first."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class StopRequest:
    """The first signal, and what is done about it.

    signal: the first of `STOPPING` that came, or None.  at_once: whether it raises `Interrupted`; else it waits for the
    step, and another Ctrl-C raises KeyboardInterrupt.  ending: nothing is waited for any more, so that is not needed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_once = False
        self.ending = False
        self._since = 0.0
        self._before: dict[int, object] = {}

    def listen(self) -> None:
        """Handle the signals from now on. One that is ignored stays so: SIGHUP under `nohup`."""
        if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there
            return
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)
        # torch raises out of its handler of this signal, in the midst of a save as anywhere; a worker that dies is
        # found where its batch is awaited (data/loading/loader.py).
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def leave(self) -> None:
        """Put back what handled the signals before. A command that was stopped ends without hearing more of Ctrl-C."""
        for number, handler in self._before.items():
            if number == signal.SIGINT and self.signal is not None and command_line():
                handler = signal.SIG_IGN
            if handler is not None:  # else one that Python knows nothing of
                signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def check(self) -> None:
        """Raise `Interrupted` if a signal came and need not wait."""
        if self.at_once and self.signal is not None:
            self.ending = True
            raise Interrupted(self.signal)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
            then = "" if self.at_once else " after this step; press Ctrl-C again to stop without saving"
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, f"\nstopping{then}\n".encode())
            self.check()
        elif number == signal.SIGINT and not self.ending and time.monotonic() - self._since > _SAME_PRESS:
            self.ending = True
            raise KeyboardInterrupt


_active: StopRequest | None = None


@contextlib.contextmanager
def stoppable(*, at_once: bool) -> Iterator[StopRequest]:
    """Inside, a signal stops the run: `at_once` by an `Interrupted`, else when the caller sees it in the request.

    Blocks may lie in each other; the outermost handles the signals.
    """
    global _active
    outer, request = _active, _active or StopRequest()
    before = request.at_once
    try:
        if outer is None:
            _active = request
            request.listen()
        request.at_once = at_once
        request.check()
        yield request
        request.at_once = before
        if outer is not None:
            request.check()
    finally:
        request.at_once = before
        if outer is None:
            request.leave()
            _active = None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, a signal that stops the run acts at once; nothing changes outside of a run."""
    if _active is None:
        yield
    else:
        with stoppable(at_once=True):
            yield
