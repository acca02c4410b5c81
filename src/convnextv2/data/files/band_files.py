"""Images whose bands lie in files of their own, such as `{id}_B02.tif`, `{id}_B03.tif`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from convnextv2.data.files.folder import ImageList
from convnextv2.errors import UserError
from convnextv2.text import listed, shown

_ID = "{id}"


def as_patterns(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the patterns of `--bands`, one a band: from text with commas, or from a sequence.

    Raises UserError unless each holds `{id}` once and they differ.
    """
    if given is None:
        return ()
    parts = tuple(part.strip() for part in (given.split(",") if isinstance(given, str) else given))
    if not parts or len(set(parts)) != len(parts) or not all(part.count(_ID) == 1 for part in parts):
        said = ",".join(parts)
        raise UserError(f"--bands {shown(said)}: give a pattern for each band, as '{_ID}_B02.tif,{_ID}_B03.tif'")
    return parts


def images_of_bands(images: ImageList, patterns: Sequence[str]) -> ImageList:
    """Return one name for each image of a list of files, that of its first band; the list itself without patterns.

    Files that fit no pattern are left out and counted. Raises UserError as `first_bands`.
    """
    if not patterns:
        return images
    kept = images.subset(first_bands(images, patterns))
    rest = len(images) - len(kept) * len(patterns)
    passed_over = {**images.ignored, **({"files of no pattern of --bands": rest} if rest > 0 else {})}
    return replace(kept, ignored=passed_over)


def first_bands(images: ImageList, patterns: Sequence[str]) -> NDArray[np.int64]:
    """Return which files of a list are the first band of an image, int64, in ascending order.

    Raises UserError if no file fits the first pattern, or images lack bands.
    """
    if images.held is not None:
        raise UserError("--bands is for files, and the images are in memory: stack the bands of each image there")
    here = set(images.names)
    first = matcher(patterns[0])
    found = [index for index, name in enumerate(images.names) if first.fullmatch(name)]
    if not found:
        raise UserError(
            f"--bands {shown(patterns[0])}: no file in {shown(images.source)} is named so (the first is"
            f" {shown(images.names[0])})"
        )
    missing = [
        other
        for index in found
        for channel in range(1, len(patterns))
        if (other := name_of_band(images.names[index], patterns, channel)) not in here
        and not os.path.exists(images.root / other)
    ]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"--bands: {listed([shown(name) for name in missing[:3]])}{more} not in {shown(images.source)}")
    return np.array(found, np.int64)


def name_of_band(name: str, patterns: Sequence[str], channel: int) -> str:
    """Return the name of the file of a band, 0 to len(patterns) - 1, of the image that its first band names."""
    found = matcher(patterns[0]).fullmatch(name)
    assert found is not None
    return found[1] + patterns[channel].replace(_ID, found[2])


@lru_cache(maxsize=64)
def matcher(pattern: str) -> re.Pattern[str]:
    """Return what matches the names of a pattern: folders before it, and what stands for `{id}`."""
    before, after = pattern.split(_ID)
    inside = "" if "/" in before else "(?:.*/)?"
    return re.compile(f"({inside}){re.escape(before)}(.+){re.escape(after)}", re.DOTALL)
