"""Signals that stop a run: it finishes the step, saves, and says where; a second Ctrl-C stops at once.

SIGTERM is what schedulers and `kill` send, SIGINT is Ctrl-C, SIGHUP a terminal or connection that closes; SIGUSR1 or
SIGUSR2 is what SLURM sends before the time is up (`#SBATCH --signal=USR1@120`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """While entered, records the first of `STOPPING` in `signal` instead of ending the process.

    A signal that is ignored stays so: SIGHUP under `nohup`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            for number in STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, b"\nstopping after this step; press Ctrl-C again to stop without saving\n")
