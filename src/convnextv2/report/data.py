"""The labelled images that a run was trained on, as its config.json describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convnextv2.report.run_folder import is_count
from convnextv2.report.words import count

TOLD = frozenset({"pictures_by_class", "notes"})
"""Parts of config.json's data that are shown here."""


@dataclass(frozen=True)
class ClassSize:
    """A class and its training images; `share` of the largest class, in percent."""

    name: str
    images: int
    share: float


@dataclass(frozen=True)
class Labelled:
    """How many images there are, of which classes (the largest first), and what is odd about them."""

    text: str
    classes: list[ClassSize]
    notes: list[str]


def labelled(data: dict[str, Any]) -> Labelled | None:
    """Summarise a run's data; None if it has no classes. Entries of another shape are left out."""
    by_class = data.get("pictures_by_class")
    sizes = {name: n for name, n in by_class.items() if is_count(n)} if isinstance(by_class, dict) else {}
    if not sizes:
        return None
    ranked = sorted(sizes, key=lambda name: -sizes[name])
    most, least = ranked[0], ranked[-1]
    notes = data.get("notes")
    return Labelled(
        text=f"{_parts(data)}{_range(most, least, sizes)}",
        classes=[ClassSize(name, sizes[name], 100 * sizes[name] / max(1, sizes[most])) for name in ranked],
        notes=[str(note) for note in notes] if isinstance(notes, list) else [],
    )


def _parts(data: dict[str, Any]) -> str:
    parts = {"to train": "pictures", "to validate": "validation_pictures", "to test": "test_pictures"}
    amounts = {what: data[name] for what, name in parts.items() if is_count(data.get(name)) and data[name]}
    if not amounts:
        return ""
    (first, amount), *rest = amounts.items()
    return ", ".join([f"{count(amount, 'image')} {first}", *(f"{n:,} {what}" for what, n in rest)]) + ". "


def _range(most: str, least: str, sizes: dict[str, int]) -> str:
    if sizes[most] == sizes[least]:
        return f"Each class has {count(sizes[most], 'training image')}."
    return f"The classes have from {sizes[least]:,} ({least}) to {sizes[most]:,} ({most}) training images."
