"""Write the predictions of a classifier: line by line, or as a contact sheet."""

from __future__ import annotations

import csv
import fcntl
import io
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import torch
from PIL.Image import Image
from torch import Tensor

from convnextv2.atomic import make_room, open_to_append, write_atomically
from convnextv2.data.files.given import Images
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.errors import UserError
from convnextv2.figures import prediction_sheet
from convnextv2.settings import make
from convnextv2.tasks.classify.predict import Answered, Prediction, prepare
from convnextv2.tasks.classify.predict_settings import PredictSettings
from convnextv2.text import csv_cell, csv_labels, json_line, shown

Format = Literal["jsonl", "csv", "sheet"]

SHEET = 240  # images on one sheet
_TILE = CenterFit(160, resize="whole")


@dataclass(frozen=True)
class Written:
    """pictures: number of images given.  failed: number that could not be read.  files: as written."""

    pictures: int
    failed: int
    files: tuple[Path, ...]


def write_predictions(
    run: str | Path,
    images: Images,
    *,
    format: Format = "jsonl",
    out: Path | None = None,
    say: Callable[[str], None],
    **options: Any,
) -> Written:
    """Write the predictions of `predict`, with its `options`, batch by batch.

    format: "jsonl" has an object per image, {path, label, confidence, top} or {path, labels, top} if an image may have
    several labels, or {path, error}; "csv" has path, label, confidence of the readable ones, several labels
    separated by semicolons, in cells as `text.csv_labels` writes them; "sheet" is a figure of up to 240 images, then
    another one (-2, -3, ... after its name).
    out: a new file, which appears once it is complete; until then `.NAME.partial` beside it grows, and is removed if
    something fails. By default the standard output, and predictions.png for a sheet.
    say: called with a line for each file that cannot be read.

    Raises as `predict`, and UserError if `out` exists: nothing is overwritten.
    """
    if format == "sheet":
        out = out or Path("predictions.png")
        if out.suffix.lower() != ".png":
            raise UserError(f"--out {shown(out)}: a sheet is a PNG image; name a file that ends in .png")
    if out is not None:
        make_room(out)
    work = prepare(run, images, make(PredictSettings, "predict", options))
    failed: list[str] = []

    def answered() -> Iterator[Answered]:
        for batch in work.batches():
            for prediction, _ in batch:
                if prediction.error is not None:
                    failed.append(prediction.path)
                    say(f"skipped {shown(prediction.path)}: {prediction.error}")
            yield batch

    if format == "sheet":
        assert out is not None
        make_room(*(_sheet_name(out, number) for number in range(-(-len(work.images) // SHEET))))
        files = _write_sheets(answered(), out)
    else:

        def fill(partial: Path) -> None:
            with _alone_in(partial) as file:
                _write_lines(answered(), file, format, work.classifier.info.multi_label)

        if out is None:
            _write_lines(answered(), _standard_output(), format, work.classifier.info.multi_label)
        else:
            write_atomically(out, fill, partial=out.with_name(f".{out.name}.partial"))
        files = [] if out is None else [out]
    return Written(len(work.images), len(failed), tuple(files))


def _standard_output() -> TextIO:
    """Standard output, in UTF-8 as a file is."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    return sys.stdout


@contextmanager
def _alone_in(partial: Path) -> Iterator[TextIO]:
    """An empty file that no other process writes; remains of a killed one are removed, and after an error the file."""
    with open_to_append(partial) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another process is writing {shown(partial)}: wait for it, or name another --out"
            ) from error
        try:
            file.truncate(0)
            yield file
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _write_lines(batches: Iterable[Answered], file: TextIO, format: Format, several: bool) -> None:
    table = csv.writer(file, lineterminator="\n")
    if format == "csv":
        table.writerow(["path", "label", "confidence"])
    for batch in batches:
        for prediction, _ in batch:
            if format == "jsonl":
                file.write(json_line(_as_object(prediction, several)) + "\n")
            elif prediction.error is None:
                names = csv_labels([guess.label for guess in prediction.labels])
                sure = ";".join(f"{guess.confidence:.6f}" for guess in prediction.labels)
                table.writerow([csv_cell(prediction.path), names, sure])
        file.flush()


def _as_object(prediction: Prediction, several: bool) -> dict[str, Any]:
    if prediction.error is not None:
        return {"path": prediction.path, "error": prediction.error}
    labels, top = (
        [{"label": guess.label, "confidence": round(guess.confidence, 6)} for guess in guesses]
        for guesses in (prediction.labels, prediction.top)
    )
    return {"path": prediction.path, **({"labels": labels} if several else labels[0]), "top": top}


def _sheet_name(out: Path, number: int) -> Path:
    return out.with_name(f"{out.stem}-{number + 1}{out.suffix}") if number else out


def _write_sheets(batches: Iterable[Answered], out: Path) -> list[Path]:
    """Write one sheet after the other as images arrive; returns the files."""
    files: list[Path] = []
    waiting: list[tuple[Prediction, Tensor]] = []

    def draw() -> None:
        sheet = _sheet(waiting)
        files.append(_sheet_name(out, len(files)))
        write_atomically(files[-1], lambda partial: sheet.save(partial, format="PNG"))
        waiting.clear()

    for batch in batches:
        for prediction, image in batch:
            if image is not None:
                waiting.append((prediction, _TILE(image) if image.shape[-1] > _TILE.size[0] else image.clone()))
            if len(waiting) == SHEET:
                draw()
    if waiting:
        draw()
    return files


def _sheet(shown_images: list[tuple[Prediction, Tensor]]) -> Image:
    """Images with their predicted labels and their file names."""
    captions = []
    for prediction, _ in shown_images:
        labels = ", ".join(f"{shown(guess.label)} {100 * guess.confidence:.0f} %" for guess in prediction.labels)
        captions.append([labels or "none", shown(os.path.basename(prediction.path))])
    columns = min(max(6, math.ceil(math.sqrt(len(captions)))), 15)
    return prediction_sheet(torch.stack([image for _, image in shown_images]), captions, columns=columns)
