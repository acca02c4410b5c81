"""`convnextv2 probe`"""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def probe(
    *,
    run: Path,
    data: Path,
    label_fraction: float = 1.0,
    labels_per_class: int | None = None,
    draws: int = 3,
    against: str = "random",
    split: Literal["val", "test"] | None = None,
    val_fraction: float | None = None,
    group_column: str | None = None,
    group_pattern: str | None = None,
    multi_label: bool = False,
    label_separator: str = ";",
    image_size: int | None = None,
    neighbours: int = 20,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Evaluator a pre-training in minutes: linear probe and k-NN on frozen features, beside random weights.

    convnextv2 probe --run run --data pictures/
    convnextv2 probe --run run --data labels.csv --labels-per-class 10 --out probe.json

    Parameters
    ----------
    run
        The folder of a run of pretrain or classify, or its model.safetensors.
    data
        Labelled pictures: a folder with train/ and val/ of class folders, a folder of class folders, or a CSV.
    label_fraction
        Use only this part of the labels of each class, drawn several times.
    labels_per_class
        Or so many labels of each class.
    draws
        How often these are drawn: the mean and the standard deviation are told.
    against
        Another run or file to compare with; random weights of the same architecture are always beside it.
    split
        The pictures to judge on: val, or test; by default test only where there is no val.
    val_fraction
        Part of the pictures to judge on, where the data has no val; by default a fifth, or a tenth of train/.
    group_column
        Column of the CSV whose equal values (a patient, a site) must not be on both sides of the split.
    group_pattern
        The same for folders: a regular expression; what it matches in the path below --data, as 'patient(\\d+)', is
        the group.
    multi_label
        Several labels a picture, each judged by itself; also chosen where a CSV has several in a cell.
    label_separator
        What stands between the labels of a picture in a CSV.
    image_size
        Pixels on a side; by default that of the run.
    neighbours
        k of k-NN.
    batch_size
        Pictures at a time.
    workers
        Processes that read pictures; by default as many as the processor has cores, less one, up to 8.
    device
        auto, cpu, cuda or cuda:N.
    seed
        Of what is drawn: labels, val, random weights.
    out
        A new JSON file for all of the result.
    """
    import sys

    from rich.console import Console
    from rich.table import Table

    from convnextv2.verbs.probe.probe import probe as judge

    result = judge(
        run,
        data,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        label_fraction=label_fraction,
        labels_per_class=labels_per_class,
        draws=draws,
        against=against,
        split=split,
        val_fraction=val_fraction,
        group_column=group_column,
        group_pattern=group_pattern,
        multi_label=multi_label,
        label_separator=label_separator,
        image_size=image_size,
        neighbours=neighbours,
        batch_size=batch_size,
        workers=workers,
        device=device,
        seed=seed,
        out=out,
    )
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    table = Table("features", "linear probe", *([f"k-NN (k={result.neighbours})"] if result.rows[0].knn else []))
    for row in result.rows:
        table.add_row(row.name, str(row.linear), *([str(row.knn)] if row.knn else []))
    print(result.title)
    Console().print(table)
    print(result.sentence)
