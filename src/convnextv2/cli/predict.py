"""`convnextv2 predict`"""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def predict(
    *images: str,
    run: Path,
    format: Literal["jsonl", "csv", "sheet"] = "jsonl",
    out: Path | None = None,
    top: int = 5,
    weights: Literal["average", "plain"] = "average",
    threshold: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    max_pixels: int = 100_000_000,
) -> None:
    """Say what is on pictures, with a trained classifier.

    convnextv2 predict --run run new/ one.jpg list.txt > predictions.jsonl
    convnextv2 predict --run run new/ --format sheet --out predictions.png

    Files that cannot be read are named one by one, the others are done, and the exit code is 1.

    Parameters
    ----------
    images
        Pictures, folders of them, and text files of paths, mixed.
    run
        The folder of a classifier's run, or its model.safetensors.
    format
        jsonl: an object a picture with the likeliest classes; csv: path,label,confidence; sheet: pictures to look at.
    out
        A new file, there once it is whole; by default the standard output, and predictions.png for a sheet.
    top
        How many of the likeliest classes an object holds.
    weights
        The averaged weights (where the file has them), or those of the last step.
    threshold
        For models of several labels a picture: the probability above which a label is given; by default 0.5.
    batch_size
        Pictures at a time.
    workers
        Processes that read pictures; by default as many as the processor has cores, less one, up to 8.
    device
        auto, cpu, cuda or cuda:N.
    precision
        auto takes bf16 autocast where the machine computes in it.
    max_pixels
        Pictures of more pixels count as unreadable (decompression bombs).
    """
    import os
    import sys

    from convnextv2.errors import RunFailedError
    from convnextv2.tasks.classify.prediction_files import write_predictions
    from convnextv2.text import shown

    try:
        done = write_predictions(
            run,
            images,
            format=format,
            out=out,
            say=lambda line: print(line, file=sys.stderr, flush=True),
            top=top,
            weights=weights,
            threshold=threshold,
            batch_size=batch_size,
            workers=workers,
            device=device,
            precision=precision,
            max_pixels=max_pixels,
        )
    except BrokenPipeError:  # `| head` has seen enough; nothing is left to write to, at the end of the process either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    for file in done.files:
        print(shown(file))
    if done.failed:
        raise RunFailedError(f"{done.failed} of {done.pictures} files could not be read; each is named above")
