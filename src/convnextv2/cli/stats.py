"""`convnextv2 stats`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from convnextv2.verbs.stats.settings import StatsSettings


def stats(
    data: Path,
    *,
    out: Path,
    settings: Annotated[StatsSettings, Parameter(name="*")] | None = None,
) -> None:
    """Compute what the numbers of images mean, band by band, for --stats of a training.

    convnextv2 stats images/ --out stats.json
    convnextv2 stats scenes/ --bands '{id}_B02.tif,{id}_B03.tif,{id}_B08.tif' --out stats.json

    Parameters
    ----------
    data
        A folder of images, or a text file of paths.
    out
        The JSON file to write; a picture of the histograms is written beside it (.png).
    """
    from convnextv2.data.files.folder import IMAGES, check_source

    check_source(data, IMAGES)
    from convnextv2.text import printable
    from convnextv2.verbs.stats.stats import stats as run_stats
    from convnextv2.verbs.stats.stats import table

    made = run_stats(data, out, **(settings or StatsSettings()).named())
    for line in table(made):
        print(printable(line))
    read = f"{made.read} of {made.images} images read, {made.read_as.format}"
    missing = f"; {100 * made.missing:.1f} % of the pixels are missing data" if made.missing else ""
    bad = f"; {made.unreadable} could not be read" if made.unreadable else ""
    print(f"{read}{missing}{bad}; written to {out}")
