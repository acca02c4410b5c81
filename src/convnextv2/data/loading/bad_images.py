"""A record of the unreadable files of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from convnextv2.data.files.folder import ImageList
from convnextv2.errors import RunFailedError
from convnextv2.text import shown


class BadImages:
    """The unreadable files found so far, each logged once, and the limit on their number."""

    def __init__(self, images: ImageList, max_fraction: float, log: Callable[[str], None]) -> None:
        """Allow up to `max_fraction` (0 to 1) of `images` to be bad; `log` takes one line per file.

        Of few images up to three may be bad, though no more than a tenth; none if `max_fraction` is 0.
        """
        self._images = images
        self._max_fraction = max_fraction
        self._log = log
        self._few = min(3, len(images) // 10) if max_fraction else 0
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, bad: Iterable[tuple[int, str]]) -> None:
        """Record (index, reason) pairs, such as `Batch.bad`; files already known are not logged again.

        Raises:
            RunFailedError: more than `max_fraction` of the files are bad.
        """
        for index, reason in bad:
            if index not in self._reasons:
                self._reasons[index] = reason
                self._log(f"skipped {self._line(index)}")
        count, total = len(self._reasons), len(self._images)
        if count > max(self._max_fraction * total, self._few):
            examples = "; ".join(self._line(index) for index in list(self._reasons)[:5])
            raise RunFailedError(
                f"{count} of {total} files cannot be read, more than the allowed {self._max_fraction:g}:"
                f" {examples}{'; ...' if count > 5 else ''}."
                f" Repair or remove them, or allow more with --max-bad-fraction"
            )

    def state(self) -> list[tuple[int, str]]:
        """Return (index, reason) of every bad file, in the order they were found."""
        return list(self._reasons.items())

    def load(self, state: Iterable[Iterable[int | str]]) -> None:
        """Restore what `state` returned (also after JSON made lists of its pairs)."""
        pairs = (tuple(pair) for pair in state)
        self._reasons = {int(index): str(reason) for index, reason in pairs}

    def _line(self, index: int) -> str:
        return f"{shown(self._images.names[index])}: {self._reasons[index]}"
