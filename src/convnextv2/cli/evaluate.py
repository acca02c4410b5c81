"""`convnextv2 evaluate`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from convnextv2.cli.early import check_use
from convnextv2.verbs.settings import AnyEvaluateSettings

if TYPE_CHECKING:
    from rich.console import Console

    from convnextv2.tasks.classify.evaluate import Evaluation


def evaluate(
    *, run: str, data: Path, settings: Annotated[AnyEvaluateSettings, Parameter(name="*")] | None = None
) -> None:
    """Evaluate a trained model on labelled images.

    convnextv2 evaluate --run run --data images/ --out scores
    convnextv2 evaluate --run model.safetensors --data labels.csv --split test --weights both

    Of a segmenter --data holds images and masks, as for `convnextv2 segment`. A model of any task takes those of the
    options below that its task has.

    Parameters
    ----------
    run
        A run, or any other source of weights (convnextv2 zoo, hf:OWNER/NAME, a file).
    data
        A folder with val/ or test/ of class folders, a folder of class folders, or a CSV of path,label.
    """
    from convnextv2.data.files.folder import LABELLED

    check_use(run, data, LABELLED)
    import sys

    from rich.console import Console
    from rich.table import Table

    from convnextv2.tasks.classify.evaluate import Evaluation
    from convnextv2.text import printable, printable_lines
    from convnextv2.verbs.evaluate import evaluate as run_evaluate
    from convnextv2.verbs.evaluate import score_rows

    found = run_evaluate(
        run,
        data,
        say=lambda line: print(printable(line), file=sys.stderr, flush=True),
        **(settings or AnyEvaluateSettings()).named(),
    )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    if not isinstance(found, Evaluation):  # of a task from another package
        rows = score_rows(found)
        if rows is None:
            print(printable_lines(str(found)))
            return
        table = Table("measure", "value")
        for row in rows:
            table.add_row(*row)
        console.print(table, markup=False)
        return
    _print(found, console)


def _print(found: Evaluation, console: Console) -> None:
    """The scores of a classifier."""
    from rich.table import Table

    from convnextv2.text import printable, shown

    for name, reason in found.bad:
        print(printable(f"skipped {shown(name)}: {reason}"))
    for note in found.notes:
        print(printable(note))
    scores = found.table()
    table = Table(*scores["columns"], caption=scores["note"], caption_justify="left")
    for row in scores["rows"]:
        table.add_row(*row)
    console.print(table)
    if found.files:
        print(f"written to {shown(found.files[0].parent)}: {', '.join(file.name for file in found.files)}")
