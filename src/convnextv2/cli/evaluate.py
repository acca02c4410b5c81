"""`convnextv2 evaluate`"""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def evaluate(
    *,
    run: Path,
    data: Path,
    split: Literal["val", "test", "train"] | None = None,
    label_separator: str = ";",
    weights: Literal["average", "plain", "both"] = "average",
    checkpoint: Literal["best", "latest"] | None = None,
    image_size: int | None = None,
    crop_pct: float | None = None,
    resize: Literal["auto", "crop", "whole"] = "auto",
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    max_pixels: int = 100_000_000,
    out: Path | None = None,
) -> None:
    """Evaluator a trained classifier on labelled pictures.

    convnextv2 evaluate --run run --data pictures/ --out judged
    convnextv2 evaluate --run run/model.safetensors --data labels.csv --split test --weights both

    Parameters
    ----------
    run
        The folder of a classifier's run, or its model.safetensors.
    data
        A folder with val/ or test/ of class folders, a folder of class folders, or a CSV of path,label.
    split
        Which pictures; by default val, else test, else train or all.
    label_separator
        What stands between the labels of a picture in a CSV.
    weights
        The averaged weights (where the file has them), those of the last step, or both for comparison.
    checkpoint
        Of a run; by default the best where it has one.
    image_size
        Pixels on a side of what the model sees; by default as in training.
    crop_pct
        Part of a resized picture's side that is seen; by default as in training.
    resize
        crop resizes the shorter side and cuts out the middle, whole resizes to the square; auto is whole from 384 on.
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
    out
        A new folder for scores.json, classes.csv, predictions.csv, the confusion matrix and the surest predictions.
    """
    from rich.console import Console
    from rich.table import Table

    from convnextv2.tasks.classify.evaluate import evaluate as judge
    from convnextv2.text import shown

    found = judge(
        run,
        data,
        split=split,
        label_separator=label_separator,
        weights=weights,
        checkpoint=checkpoint,
        image_size=image_size,
        crop_pct=crop_pct,
        resize=resize,
        batch_size=batch_size,
        workers=workers,
        device=device,
        precision=precision,
        max_pixels=max_pixels,
        out=out,
    )
    for name, reason in found.bad:
        print(f"skipped {shown(name)}: {reason}")
    for note in found.notes:
        print(note)
    scores = found.table()
    table = Table(*scores["columns"], caption=scores["note"], caption_justify="left")
    for row in scores["rows"]:
        table.add_row(*row)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    if found.files:
        print(f"written to {shown(found.files[0].parent)}: {', '.join(file.name for file in found.files)}")
