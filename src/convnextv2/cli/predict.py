"""`convnextv2 predict`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from convnextv2.cli.early import check_use
from convnextv2.verbs.settings import AnyPredictSettings


def predict(
    *images: str,
    run: str,
    format: Literal["jsonl", "csv", "sheet"] = "jsonl",
    out: Path | None = None,
    settings: Annotated[AnyPredictSettings, Parameter(name="*")] | None = None,
) -> None:
    """Run a trained model on images and write its predictions.

    convnextv2 predict --run run new/ one.jpg list.txt > predictions.jsonl
    convnextv2 predict --run run new/ --format sheet --out predictions.png
    convnextv2 predict --run segmenter new/ --out masks

    Files that cannot be read are named one by one, the others are done, and the exit code is 1. A model of a task from
    another package gives one JSON object per prediction; it takes those of the options below that its task has.

    Parameters
    ----------
    images
        Image files, folders of them, and text files of paths, mixed.
    run
        A run, or any other source of weights (convnextv2 zoo, hf:OWNER/NAME, a file).
    format
        jsonl: one object per image with the likeliest classes; csv: path,label,confidence; sheet: images to look at.
    out
        A new file, there once it is complete; by default the standard output, and predictions.png for a sheet. Of a
        segmenter a new folder, with a mask for each image.
    """
    check_use(run)
    import os
    import sys

    from convnextv2.errors import RunFailedError
    from convnextv2.text import printable, shown
    from convnextv2.verbs.predict import write_predictions

    try:
        done = write_predictions(
            run,
            images,
            format=format,
            out=out,
            say=lambda line: print(printable(line), file=sys.stderr, flush=True),
            **(settings or AnyPredictSettings()).named(),
        )
    except BrokenPipeError:  # `| head` has seen enough; nothing is left to write to, at the end of the process either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    for file in done.files:
        print(shown(file))
    if done.failed:
        raise RunFailedError(f"{done.failed} of {done.pictures} files could not be read; each is named above")
