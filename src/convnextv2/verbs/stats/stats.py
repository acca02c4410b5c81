"""Statistics of a folder of images, band by band, in a small file that training takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from convnextv2.atomic import make_room, write_atomically, write_text_atomically
from convnextv2.data.files.band_files import as_patterns, images_of_bands
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.given import Images, images_of, is_path
from convnextv2.data.files.parts import paged
from convnextv2.data.files.reading import ANY
from convnextv2.data.files.survey import as_channels, names_of_picked, picked, survey
from convnextv2.data.loading.statistics import Statistics, statistics
from convnextv2.engine import machine
from convnextv2.errors import UserError
from convnextv2.figures.statistics import statistics_picture
from convnextv2.records import Bands
from convnextv2.settings import StrPath, make
from convnextv2.signatures import verb
from convnextv2.verbs.stats.settings import StatsSettings


@verb(StatsSettings, unchecked=("data", "say"))
def stats(
    data: Images, out: StrPath | None = None, say: Callable[[str], None] = lambda line: None, **settings: Any
) -> Statistics:
    """Compute what the numbers of images mean, band by band, as `convnextv2 stats` does.

    Mean, standard deviation, smallest and largest value are of all existing pixels of the images that are read, in
    float64 and the same for any number of workers (of a TIFF of more than 16 megapixels, of 16 parts spread over it);
    percentiles and what a model is shown of a sample of about 262,000 pixels, spread evenly.

    data: a folder of images, or a text file of paths; or several paths, arrays, tensors, PIL images, or a map-style
    dataset, see `data.files.given.Images`.  out: a new JSON file for `--stats`, beside which a picture of the
    histograms is written (.png); None to write nothing.  say: called
    with lines of progress.

    Raises UserError for a mistake in these, images of different bands, or data that is all missing.
    """
    s = make(StatsSettings, "stats", settings)
    target = None if out is None else Path(out)
    if target is not None:
        if target.suffix != ".json":
            raise UserError(f"--out {target}: name a file that ends in .json")
        make_room(target)
    listed = list_images(Path(data)) if is_path(data) else images_of(data)
    patterns, channels = as_patterns(s.bands), as_channels(s.channels)
    listed = images_of_bands(listed, patterns)
    listed = paged(listed, ANY) if s.pages == "images" and listed.held is None else listed
    found = survey(listed, patterns, channels, max_pixels=ANY)
    chosen = picked(channels, found)
    bands = Bands(found.count, chosen, names_of_picked(chosen, found), patterns, nodata=s.nodata)
    workers = min(max(1, machine.processors() - 1), 8) if s.workers is None else s.workers
    most = None if s.images == "all" else s.images
    total, done = len(listed) if most is None else min(most, len(listed)), 0

    def seen(count: int) -> None:
        nonlocal done
        done += count
        say(f"{done} of {total} images")

    made = statistics(listed, bands, most=most, max_pixels=s.max_pixels, workers=workers, seen=seen)
    if target is not None:
        write_text_atomically(target, made.to_json())
        picture = statistics_picture(made.bands)
        write_atomically(target.with_suffix(".png"), lambda partial: picture.save(partial, format="PNG"))
    return made


def table(made: Statistics) -> Iterator[str]:
    """Yield the lines of a table of the bands: their name, mean, spread, range, and what a model is shown of it."""
    wide = max(4, *(len(band.name) for band in made.bands))
    yield f"{'band':{wide}}{'mean':>12}{'std':>12}{'min':>12}{'max':>12}   a model is shown"
    for band in made.bands:
        numbers = "".join(f"{value:>12.6g}" for value in (band.mean, band.std, band.min, band.max))
        note = ", all the same" if band.is_constant else ""
        yield f"{band.name:{wide}}{numbers}   {band.clip[0]:.6g} to {band.clip[1]:.6g}{note}"
