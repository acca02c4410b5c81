"""How far a pass over images has come, said now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 10.0
"""Seconds between two lines."""


class Progress:
    """Says "3,000 of 50,000" through `say`, at most every ten seconds; nothing of a pass that is shorter."""

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self._total, self._say, self._last = total, say, time.monotonic()

    def __call__(self, done: int) -> None:
        """Take in how many images are done."""
        now = time.monotonic()
        if now - self._last > EVERY:
            self._last = now
            self._say(f"  {done:,} of {self._total:,}")
