"""Format numbers, times and values for a reader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

# An integer of JSON may be larger than any float.
_MOST = 1.7e308
_FOLDED_FROM, _UNFOLDED = 31, 15

TITLES = {"lr": "Learning rate"}
"""Of values that every run logs and whose names are not words; a task titles its own metrics."""


def number(value: float) -> str:
    """Format with four significant digits, thousands apart: 0.4321, 12,500, 1.5e-05."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not -_MOST < value < _MOST:
        return "not a number" if isinstance(value, float) and math.isnan(value) else "infinite"
    if value == 0 or (isinstance(value, int) and abs(value) < 10**15):
        return f"{value:,.0f}"
    if abs(value) >= 1e15 or abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(share: float) -> str:
    """Format a share, 0 to 1, with one decimal: 28.8 %."""
    return f"{100 * share:.1f} %"


def tick(value: float) -> str:
    """Format a label on an axis: short, and never in mathematical markup."""
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):.4g}{letter}"
    if 0 < size < 1e-3:
        digits, power = f"{value:.3e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.5g}"


def plain(value: Any) -> str:
    """Format a setting exactly as it is, without Python's or JSON's punctuation."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {plain(item)}" for name, item in value.items()) or "none"
    return str(value)


def cell(value: Any) -> str:
    """Format a cell of a table of results: numbers rounded, everything else as it is."""
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else plain(value)


def duration(seconds: float) -> str:
    """Format seconds in the unit that reads best: 42 seconds, 3.5 minutes, 2.1 hours, 4.0 days."""
    for unit, name in ((86400 * 2, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= unit:
            return f"{seconds / (86400 if name == 'days' else unit):.1f} {name}"
    return f"{seconds:.0f} seconds"


def date(iso: Any) -> str:
    """Format a time as 23 November 2026, 01:53; what cannot be read as a time stays as it is."""
    try:
        time = datetime.fromisoformat(str(iso))
    except ValueError:
        return str(iso)
    return f"{time.day} {time:%B %Y, %H:%M}"


def count(amount: int, thing: str, things: str = "") -> str:
    """Format an amount: 1 image, 2,000 images, 3 classes."""
    return f"{amount:,} {thing if amount == 1 else things or f'{thing}s'}"


def title(name: str) -> str:
    """Return a metric's or image's name as words: images_per_second is "Images per second".

    Names on disk may say picture.
    """
    spaced = name.replace("_", " ").replace("picture", "image").strip()
    return TITLES.get(name, spaced[:1].upper() + spaced[1:])


def fold(items: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Split a list into what is shown at once and what is folded: of up to 30 nothing, else all but 15."""
    at = len(items) if len(items) < _FOLDED_FROM else _UNFOLDED
    return items[:at], items[at:]
