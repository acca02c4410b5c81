"""`convnextv2 probe`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from convnextv2.cli.early import check_use
from convnextv2.verbs.probe.settings import ProbeSettings


def probe(*, run: str, data: Path, settings: Annotated[ProbeSettings, Parameter(name="*")] | None = None) -> None:
    """Evaluate frozen features: linear probe and k-NN.

    convnextv2 probe --run run --data images/
    convnextv2 probe --run run --data labels.csv --labels-per-class 10 --out probe.json

    Random weights of the same architecture are always beside it.

    Parameters
    ----------
    run
        A run of pretrain or classify, or any other source of weights (convnextv2 zoo, hf:OWNER/NAME, a file).
    data
        Labelled images: a folder with train/ and val/ of class folders, a folder of class folders, or a CSV.
    """
    from convnextv2.data.files.folder import LABELLED

    check_use(run, data, LABELLED)
    import sys

    from rich.console import Console
    from rich.table import Table

    from convnextv2.text import printable
    from convnextv2.verbs.probe.probe import probe as run_probe

    result = run_probe(
        run,
        data,
        say=lambda line: print(printable(line), file=sys.stderr, flush=True),
        **(settings or ProbeSettings()).named(),
    )
    for note in result.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    columns, rows = result.table()
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    print(printable(result.title))
    Console().print(table)
    print(printable(result.sentence))
