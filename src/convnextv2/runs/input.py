"""How a run reads its files: as pictures of 8 bits, or as the numbers that they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from convnextv2.atomic import write_atomically, write_text_atomically
from convnextv2.data.files.band_files import as_patterns
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.survey import Survey, as_channels, by_name, names_of_picked, picked, survey
from convnextv2.data.loading.statistics import Statistics, chosen, imagenets, read_statistics, same_bands, statistics
from convnextv2.errors import UserError
from convnextv2.figures.statistics import statistics_picture
from convnextv2.records import Bands, Preprocessing, SampleInfo
from convnextv2.runs.settings import ModelSettings
from convnextv2.text import shown

STATISTICS = "stats.json"
"""In the run's folder: the statistics that it made of its images."""

STATISTICS_PICTURE = SampleInfo(
    "statistics",
    "What the numbers of each band are, from the images to train on: the model is shown the values between the two "
    "ends, in units of their standard deviation; the line is their mean. A band whose values crowd at one end has "
    "outliers, or a value for missing data that nobody named (--nodata).",
)
"""What the report shows of them."""


@dataclass(frozen=True)
class Input:
    """preprocessing: of files that are read as numbers; None for pictures.  said: lines for the log.

    statistics: made now, of the images.
    """

    preprocessing: Preprocessing | None = None
    said: tuple[str, ...] = ()
    statistics: Statistics | None = None

    def write(self, folder: Path) -> None:
        """Leave the statistics that were made, if any, in the run's folder."""
        if self.statistics is not None:
            write_text_atomically(folder / STATISTICS, self.statistics.to_json())
            (folder / "pictures").mkdir(exist_ok=True)
            picture = statistics_picture(self.statistics.bands)
            target = folder / "pictures" / f"{STATISTICS_PICTURE.kind}.png"
            write_atomically(target, lambda partial: picture.save(partial, format="PNG"))


PICTURES = Input()


def patterns_of(settings: ModelSettings, held: Preprocessing | None) -> tuple[str, ...]:
    """Return the patterns of files of a band each: as asked, else those of the weights to start from."""
    return as_patterns(settings.bands) or (held.bands.files if held is not None and held.bands is not None else ())


def choose_input(
    images: ImageList, settings: ModelSettings, held: Preprocessing | None, workers: int, most: int
) -> Input:
    """Decide how the files are read, for a new run.

    Pictures, if all that are looked at have 8 bits and nothing else to tell, if --value-range asks for it, or
    --in-chans 3 of files of other bands, or if they are grey or RGB in memory, whose values have a meaning
    (`open_item`). Numbers, if --bands, --channels, --nodata or --stats ask for it, the weights to start from were
    trained on numbers, or the files hold more than pictures do.

    held: of the weights to start from.  workers: processes that read images for statistics.  most: pixels of a file of
    which only the header is read.

    Raises UserError for what does not fit the files.
    """
    s, before = settings, None if held is None else held.bands
    patterns, channels = patterns_of(s, held), as_channels(s.channels)
    asked = bool(patterns or channels or s.nodata is not None or s.stats != "auto")
    ranged = s.value_range is not None or (held is not None and held.value_range is not None)
    if ranged and not asked and before is None:
        return PICTURES
    try:
        found = survey(images, patterns, channels, max_pixels=most)
    except UserError:
        if asked or before is not None:
            raise
        return PICTURES
    meant = found.plain or (images.held is not None and len(found.own) in (1, 3)) or s.in_chans == 3 != len(found.own)
    if meant and not asked and before is None:
        if s.in_chans not in (None, 1, 3):
            raise UserError(f"--in-chans {s.in_chans}: the images give 1 (grey) or 3 (colour)")
        return PICTURES
    bands = _bands(found, channels, patterns, s.nodata, before)
    if s.in_chans not in (None, len(bands.channels)):
        raise UserError(
            f"--in-chans {s.in_chans}: {len(bands.channels)} bands are read; pick {s.in_chans} with --channels, as"
            f" {','.join(str(number + 1) for number in range(min(s.in_chans or 1, found.count)))}"
        )
    chosen_input = _with_statistics(images, s, bands, held, found, workers)
    assert chosen_input.preprocessing is not None
    return replace(chosen_input, preprocessing=_showing(chosen_input.preprocessing, as_channels(s.show)))


def _showing(preprocessing: Preprocessing, asked: tuple[str, ...]) -> Preprocessing:
    """The same with the channels that figures show: as asked for, else as before, else by the names of colours."""
    bands = preprocessing.bands
    assert bands is not None
    names = [name.casefold() for name in bands.names]
    if asked:
        show = []
        for each in asked:
            number = int(each) - 1 if each.isdecimal() else -1
            named = names.index(each.casefold()) if each.casefold() in names else None
            show.append(bands.channels.index(number) if number in bands.channels else named)
        if None in show or len(show) > 3:
            read = ", ".join(str(band + 1) for band in bands.channels[:20])
            raise UserError(f"--show {','.join(asked)}: give one to three of the bands that are read, {read}")
        return replace(preprocessing, bands=replace(bands, show=tuple(show)))
    colours = ("red", "green", "blue")
    if not bands.show and all(colour in names for colour in colours):
        return replace(preprocessing, bands=replace(bands, show=tuple(map(names.index, colours))))
    return preprocessing


def _bands(
    found: Survey, channels: tuple[str, ...], patterns: tuple[str, ...], nodata: float | None, before: Bands | None
) -> Bands:
    """The bands to read: those that are picked; else those of the weights to start from, by their names or, where the
    files are alike, by their places; else all.
    """
    if before is not None and not channels:
        nodata = before.nodata if nodata is None else nodata
        places = by_name(before.names, found)
        if places is not None:
            return replace(before, count=found.count, channels=places, files=patterns, nodata=nodata)
        if (before.count, before.files) == (found.count, patterns):
            return replace(before, nodata=nodata)
    bands = picked(channels, found)
    return Bands(found.count, bands, names_of_picked(bands, found), patterns, nodata=nodata)


def _with_statistics(
    images: ImageList, settings: ModelSettings, bands: Bands, held: Preprocessing | None, found: Survey, workers: int
) -> Input:
    s = settings
    some = f"{len(bands.channels)} of {found.count}" if len(bands.channels) < found.count else f"{found.count}"
    title = f"{some} band{'s' * (found.count != 1)} of the images are read as numbers"
    if s.stats == "auto" and held is not None and held.bands is not None and same_bands(held.bands, bands):
        own = replace(held.bands, count=bands.count, channels=bands.channels, files=bands.files)
        return Input(replace(held, bands=own), (f"{title}, with the statistics of the weights to start from",))
    if s.stats not in ("auto", "imagenet"):
        given = read_statistics(Path(s.stats))
        own = given.read_as
        if (own.count, own.files) != (bands.count, bands.files):
            raise UserError(
                f"--stats {shown(s.stats)}: its statistics are of {_described(own)}, and the images have"
                f" {_described(bands)}"
            )
        if not s.channels:
            bands = replace(bands, channels=own.channels, names=own.names)
        nodata = own.nodata if s.nodata is None else s.nodata
        fitting = chosen(bands.channels, given)
        return Input(
            replace(fitting, read_as=replace(fitting.read_as, nodata=nodata)).preprocessing,
            (f"{title}, with the statistics of {shown(s.stats)}",),
        )
    made = statistics(images, bands, max_pixels=s.max_pixels, workers=workers)
    if s.stats == "imagenet":
        return Input(imagenets(made.read_as), (f"{title}, with ImageNet's statistics",))
    constant = [band.name for band in made.bands if band.is_constant]
    lines = [f"{title}: {describe(made)}"]
    lines += [f"the same everywhere, so they tell nothing: {', '.join(constant[:10])}"] if constant else []
    return Input(made.preprocessing, tuple(lines), made)


def describe(made: Statistics) -> str:
    """Return a line on the statistics: format, values, missing data, of how many images."""
    low, high = min(band.clip[0] for band in made.bands), max(band.clip[1] for band in made.bands)
    missing = f", {100 * made.missing:.1f} % of the pixels missing" if made.missing else ""
    of = f"{made.read} of {made.images}" if made.read < made.images else f"{made.images}"
    return f"{made.read_as.format}, nearly all values from {low:g} to {high:g}{missing}, in {of} images"


def _described(bands: Bands) -> str:
    files = f" in the files {','.join(bands.files)}" if bands.files else ""
    return f"{bands.count} band{'s' * (bands.count != 1)}{files}"
