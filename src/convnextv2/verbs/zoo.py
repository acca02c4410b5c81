"""Published weights: what there is, and what is here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from convnextv2 import notebook
from convnextv2.signatures import verb
from convnextv2.weights.licences import terms
from convnextv2.weights.load import fetch_published
from convnextv2.weights.sources.download import cache_folder
from convnextv2.weights.sources.published import PUBLISHED, Published, published


class Zoo(tuple[Published, ...]):
    """Published weights.  files: by name, where those that are on this machine lie."""

    files: Mapping[str, Path]

    def __new__(cls, entries: Iterable[Published], files: Mapping[str, Path]) -> Zoo:
        """Make it of both."""
        made = super().__new__(cls, entries)
        made.files = files
        return made

    @property
    def terms(self) -> tuple[str, ...]:
        """What their licences ask, a line each."""
        licences = dict.fromkeys(entry.licence for entry in self)
        return tuple(f"{licence}: {terms(licence)}" for licence in licences if terms(licence))

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row of text for each: name, stage, pixels, top-1 in per cent, licence, whether it is here."""
        return [
            (
                entry.name,
                entry.stage,
                str(entry.image_size),
                "" if entry.top1 is None else f"{entry.top1:.1f}",
                entry.licence,
                "yes" if entry.name in self.files else "",
            )
            for entry in self
        ]

    def _repr_html_(self) -> str:
        return notebook.table(COLUMNS, self.rows(), *self.terms)


COLUMNS = ("name", "stage", "pixels", "top-1, %", "licence", "here")


@verb()
def zoo(*names: str) -> Zoo:
    """List all published weights, or download those named, as `convnextv2 zoo` does.

    names: as in the list, "convnextv2_tiny.fcmae". They are kept in $CONVNEXTV2_CACHE (by default
    ~/.cache/convnextv2), or in the hub's own cache; `load` and `init=` take the names too.

    Raises UserError for an unknown name, with the nearest, and if a file cannot be downloaded.
    """
    if names:
        entries = [published(name) for name in names]
        return Zoo(entries, {entry.name: fetch_published(entry) for entry in entries})
    here = {name: cache_folder() / entry.file for name, entry in PUBLISHED.items() if entry.file}
    return Zoo(PUBLISHED.values(), {name: file for name, file in here.items() if file.is_file()})
