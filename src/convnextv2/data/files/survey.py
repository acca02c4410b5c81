"""What bands the images of a list have, from a few dozen of them, and which are picked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.look import FILES
from convnextv2.data.files.raster import Layout
from convnextv2.errors import BadImageError, UserError
from convnextv2.text import shown


@dataclass(frozen=True)
class Survey:
    """count, names, own: see `Layout`; of images that all have the same bands.

    plain: whether all are grey or colour pictures of 8 bits with nothing else to tell, which need no numbers.
    """

    count: int
    names: tuple[str, ...]
    own: tuple[int, ...]
    plain: bool


def survey(
    images: ImageList, patterns: Sequence[str] = (), channels: Sequence[str] = (), *, max_pixels: int = MAX_PIXELS
) -> Survey:
    """Look at the headers of some images of a list, the same ones every time; unreadable ones are left out.

    patterns: where every band lies in a file of its own.  channels: as asked for, see `as_channels`: files that have
    no band of such a number do not count.

    Raises UserError if none can be read, or they do not all have the same number of bands.
    """
    count = min(FILES, len(images))
    found: dict[int, tuple[Layout, str]] = {}
    least = max((int(channel) for channel in channels if channel.isdecimal()), default=0)
    plain, reason, fewer = True, "", ""
    for index in sorted({number * len(images) // count for number in range(count)}):
        try:
            with images.open(index, max_pixels) as image:
                seen = image.layout()
                if not patterns and seen.count < least:
                    fewer = fewer or f"--channels {least}: {shown(images.names[index])} has {_bands(seen.count)}"
                    continue
                # Pages that are no bands are smaller copies of the image.
                plain &= replace(image.about(), pages=1).plain and len(seen.own) in (1, 3)
        except BadImageError as error:
            reason = reason or f": {error.reason} ({shown(error.path)})"
            continue
        found.setdefault(seen.count, (seen, images.names[index]))
    if not found and fewer:
        raise UserError(fewer)
    if not found:
        raise UserError(f"none of the {count} files looked at in {shown(images.source)} can be read{reason}")
    if patterns:
        return Survey(len(patterns), names_of(patterns), tuple(range(len(patterns))), plain=False)
    if len(found) > 1 and not plain:
        (one, (_, first)), (two, (_, second)) = list(found.items())[:2]
        raise UserError(
            f"{shown(first)} has {_bands(one)} and {shown(second)} {_bands(two)}: give a folder of one kind, or with"
            " --channels the bands that all have"
        )
    layout = next(iter(found.values()))[0]
    return Survey(layout.count, layout.names, layout.own, plain)


def _bands(count: int) -> str:
    return f"{count} band{'s' * (count != 1)}"


def names_of(patterns: Sequence[str]) -> tuple[str, ...]:
    """Return names of bands by what tells their patterns apart: D and F of `{id}_D.tif` and `{id}_F.tif`."""
    words = [re.split(r"[^\w{}]+|_", pattern) for pattern in patterns]
    shared = set.intersection(*map(set, words))
    return tuple(" ".join(word for word in each if word and word not in shared) for each in words)


def as_channels(given: str | Sequence[str | int] | None) -> tuple[str, ...]:
    """Return the entries of `--channels`, numbers from 1 or names, as text; from text with commas or a sequence."""
    if given is None:
        return ()
    parts = given.split(",") if isinstance(given, str) else given
    found = tuple(str(part).strip() for part in parts)
    if not found or not all(found):
        raise UserError(f"--channels {given!r}: give numbers of bands, from 1, or their names, as 4,3,2")
    return found


def picked(channels: Sequence[str], found: Survey) -> tuple[int, ...]:
    """Return the bands, from 0, that `--channels` names. Raises UserError for one that there is not."""
    if not channels:
        return found.own
    by_name = {name.casefold(): band for band, name in enumerate(found.names) if name}
    bands: list[int] = []
    for channel in channels:
        band = int(channel) - 1 if channel.isdecimal() else by_name.get(channel.casefold(), -1)
        if not 0 <= band < found.count:
            named = f", named {', '.join(filter(None, found.names))[:200]}" if any(found.names) else ""
            raise UserError(f"--channels {shown(channel)}: the images have bands 1 to {found.count}{named}")
        bands.append(band)
    return tuple(bands)


def by_name(names: Sequence[str], found: Survey) -> tuple[int, ...] | None:
    """Return the bands, from 0, that have these names; None if one has none, or is not there, or twice."""
    there = [name.casefold() for name in found.names]
    wanted = [name.casefold() for name in names]
    if not wanted or not all(there.count(name) == 1 for name in wanted):
        return None
    return tuple(map(there.index, wanted))


def names_of_picked(bands: Sequence[int], found: Survey) -> tuple[str, ...]:
    """Return the names of some bands; empty if they have none."""
    names = tuple(found.names[band] for band in bands) if found.names else ()
    return names if any(names) else ()
