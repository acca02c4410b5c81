"""What a trained classifier says of pictures: one by one, as lines of text, or on a sheet to look at."""

from __future__ import annotations

import csv
import io
import json
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

from convnextv2.checkpoints.files import write_atomically
from convnextv2.checkpoints.own import Weights
from convnextv2.data.colour import normalise
from convnextv2.data.decode import MAX_PIXELS
from convnextv2.data.folder import EXTENSIONS, ImageList, list_images, shown
from convnextv2.data.geometry import CenterFit
from convnextv2.data.loader import ImageSet, Sample, make_loader
from convnextv2.engine import distributed
from convnextv2.engine.precision import Precision, autocast, resolve
from convnextv2.errors import BadImage, RunFailed, UserError
from convnextv2.tasks.classify.judge import Guess, check_reading, in_words, readers
from convnextv2.tasks.classify.model_file import Classifier, load_classifier
from convnextv2.tasks.classify.pictures import prediction_sheet
from convnextv2.zoo.embed import make_room

Format = Literal["jsonl", "csv", "sheet"]
Given = str | os.PathLike[str]

SHEET = 240  # pictures on one sheet
_TILE = CenterFit(160, resize="whole")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture.

    path: as given, or joined to the folder or the text file that named it.
    labels: the likeliest class; of a model of several labels a picture all above the threshold, surest first.
    top: the likeliest classes, surest first.
    error: why the file could not be read; there are then no labels.
    """

    path: str
    labels: tuple[Guess, ...] = ()
    top: tuple[Guess, ...] = ()
    error: str | None = None


_Batch = list[tuple[Prediction, Tensor | None]]


@dataclass(frozen=True)
class Written:
    """pictures: how many were asked about.  failed: how many could not be read.  files: as written."""

    pictures: int
    failed: int
    files: tuple[Path, ...]


def predict(
    run: str | Path,
    images: Given | Iterable[Given],
    *,
    top: int = 5,
    weights: Weights = "average",
    threshold: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Prediction]:
    """What a run's classifier says of each picture, in the order given, batch by batch while one iterates.

    Args:
        run: a run's folder (its best checkpoint where it has one), or a `model.safetensors`.
        images: picture files, folders of them, and text files of paths, mixed.
        top: how many of the likeliest classes to name.
        threshold: of a model of several labels a picture, the probability above which a label is given; by default 0.5.
        workers: processes that read pictures; by default one a core, less one, up to 8.
        max_pixels: pictures of more count as unreadable.

    A file that cannot be read gives a `Prediction` with its `error`.

    Raises UserError at once for a mistake in these; RunFailed (while iterating) where outputs are not finite.
    """
    work = _prepare(
        run,
        images,
        top=top,
        weights=weights,
        threshold=threshold,
        batch_size=batch_size,
        workers=workers,
        device=device,
        precision=precision,
        max_pixels=max_pixels,
    )
    return (prediction for batch in work.batches() for prediction, _ in batch)


def write_predictions(
    run: str | Path,
    images: Given | Iterable[Given],
    *,
    format: Format = "jsonl",
    out: Path | None = None,
    say: Callable[[str], None],
    **options: Any,
) -> Written:
    """Write what `predict` gives, with its `options`, batch by batch.

    format: "jsonl" has an object a picture, {path, label, confidence, top} or {path, labels, top} where a picture may
    have several labels, or {path, error}; "csv" has path, label, confidence of the readable ones, several labels
    separated by semicolons; "sheet" is a picture of up to 240 pictures, then another one (-2, -3, ... after its name).
    out: a new file; by default the standard output, and predictions.png for a sheet.
    say: takes a line for each file that cannot be read.

    Raises as `predict`, and UserError where `out` is there already: nothing is overwritten.
    """
    if format == "sheet":
        out = out or Path("predictions.png")
        if out.suffix.lower() != ".png":
            raise UserError(f"--out {shown(out)}: a sheet is a PNG picture; name a file that ends in .png")
    if out is not None:
        make_room(out)
    work = _prepare(run, images, **{**(predict.__kwdefaults__ or {}), **options})
    failed: list[str] = []

    def answered() -> Iterator[_Batch]:
        for batch in work.batches():
            for prediction, _ in batch:
                if prediction.error is not None:
                    failed.append(prediction.path)
                    say(f"skipped {shown(prediction.path)}: {prediction.error}")
            yield batch

    if format == "sheet":
        assert out is not None
        make_room(*(_sheet_name(out, number) for number in range(-(-len(work.names) // SHEET))))
        files = _write_sheets(answered(), out)
    else:
        with _opened(out) as file:
            _write_lines(answered(), file, format, work.classifier.multi_label)
        files = [] if out is None else [out]
    return Written(len(work.names), len(failed), tuple(files))


@dataclass(frozen=True)
class _Work:
    """All that is decided before the first picture is opened."""

    classifier: Classifier
    names: tuple[str, ...]
    top: int
    threshold: float
    batch_size: int
    workers: int
    device: torch.device
    precision: Literal["fp32", "bf16"]
    max_pixels: int

    def batches(self) -> Iterator[_Batch]:
        """Predictions in order, each with its picture as the model saw it, uint8 (C, size, size), if it has one."""
        pictures = _EachItself(ImageList(Path(), self.names, Path()), self.classifier, self.max_pixels)
        self.classifier.model.to(self.device)
        portions = _portions(len(self.names), self.batch_size)
        number = 0
        for batch in make_loader(pictures, portions, workers=self.workers, pin_memory=self.device.type == "cuda"):
            reasons, images = dict(batch.bad), batch.tensors["images"]
            logits = self._logits(images)
            said = in_words(
                logits,
                self.classifier.classes,
                multi_label=self.classifier.multi_label,
                top=self.top,
                threshold=self.threshold,
            )
            answered: _Batch = []
            for image, finite, (labels, top) in zip(images, logits.isfinite().all(1).tolist(), said, strict=True):
                path = self.names[number]
                if number in reasons:
                    answered.append((Prediction(path, error=reasons[number]), None))
                elif finite:
                    answered.append((Prediction(path, labels, top), image))
                else:
                    raise RunFailed(f"the model's outputs for {shown(path)} are not finite: try --precision fp32")
                number += 1
            yield answered

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        batch = normalise(images.to(self.device, non_blocking=True), self.classifier.preprocessing)
        with autocast(self.precision, self.device):
            return self.classifier.model(batch).float().cpu()


class _EachItself(ImageSet):
    """The pictures as the classifier sees them. One that cannot be read is blank: no other stands in for it."""

    def __init__(self, images: ImageList, classifier: Classifier, max_pixels: int) -> None:
        size, channels = classifier.image_size, classifier.model.in_chans
        fit = CenterFit(size, crop_pct=classifier.crop_pct)
        super().__init__(images, lambda picture: {"images": fit(picture)}, channels=channels, max_pixels=max_pixels)
        self._blank = torch.zeros(channels, size, size, dtype=torch.uint8)
        self._see = fit

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index = key[1]
        try:
            return Sample({"images": self._see(self.read(index))}, index)
        except BadImage as error:
            return Sample({"images": self._blank}, index, ((index, error.reason),))


def _prepare(
    run: str | Path,
    images: Given | Iterable[Given],
    *,
    top: int,
    weights: Weights,
    threshold: float | None,
    batch_size: int,
    workers: int | None,
    device: str,
    precision: Precision,
    max_pixels: int,
) -> _Work:
    """Raises UserError for whatever is wrong with what was asked, before any picture is opened."""
    check_reading(batch_size, workers, max_pixels)
    if top < 1:
        raise UserError(f"--top {top}: give 1 or more")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"--threshold {threshold:g}: give a probability from 0 to 1")
    names = tuple(_names([images] if isinstance(images, str | os.PathLike) else images))
    if not names:
        raise UserError("no pictures given: name picture files, folders of them, or text files of paths")
    where = distributed.join(device).device
    classifier = load_classifier(run, weights=weights)
    if threshold is not None and not classifier.multi_label:
        raise UserError(
            f"--threshold {threshold:g} is for models of several labels a picture, and {classifier.file} gives one:"
            " leave it out"
        )
    return _Work(
        classifier=classifier,
        names=names,
        top=top,
        threshold=0.5 if threshold is None else threshold,
        batch_size=batch_size,
        workers=readers(workers, -(-len(names) // batch_size)),
        device=where,
        precision=resolve(precision, where)[0],
        max_pixels=max_pixels,
    )


def _names(given: Iterable[Given]) -> Iterator[str]:
    """The paths of all pictures. What ends as a picture, or holds a zero byte near its start, is no list of paths."""
    for each in given:
        path = os.fspath(each)
        if os.path.isdir(path):
            yield from (os.path.join(path, name) for name in list_images(path).names)
        elif not os.path.lexists(path):
            raise UserError(
                f"there is nothing at {shown(path)}: name picture files, folders of them, or text files of paths"
            )
        elif path.lower().endswith(EXTENSIONS) or _is_binary(path):
            yield path
        else:
            yield from (os.path.join(os.path.dirname(path), name) for name in list_images(path).names)


def _is_binary(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return b"\0" in file.read(4096)
    except OSError:
        return False


def _portions(count: int, size: int) -> Iterator[list[tuple[int, int]]]:
    """What to read, batch by batch, without a list of it all."""
    for start in range(0, count, size):
        yield [(0, index) for index in range(start, min(start + size, count))]


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """A new file, or the standard output; a path that is no UTF-8 is written as the bytes it has on disk."""
    if out is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        yield sys.stdout
        return
    with out.open("x", encoding="utf-8", errors="surrogateescape") as file:
        yield file


def _write_lines(batches: Iterable[_Batch], file: TextIO, format: Format, several: bool) -> None:
    table = csv.writer(file, lineterminator="\n")
    if format == "csv":
        table.writerow(["path", "label", "confidence"])
    for batch in batches:
        for prediction, _ in batch:
            if format == "jsonl":
                file.write(json.dumps(_as_object(prediction, several)) + "\n")
            elif prediction.error is None:
                names = ";".join(guess.label for guess in prediction.labels)
                table.writerow([prediction.path, names, ";".join(f"{g.confidence:.6f}" for g in prediction.labels)])
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


def _write_sheets(batches: Iterable[_Batch], out: Path) -> list[Path]:
    """One sheet after the other as pictures come; the files."""
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


def _sheet(seen: list[tuple[Prediction, Tensor]]) -> Image:
    """Pictures with what was said of them, and what they are called."""
    captions = []
    for prediction, _ in seen:
        said = ", ".join(f"{shown(guess.label)} {100 * guess.confidence:.0f} %" for guess in prediction.labels)
        captions.append([said or "none", shown(os.path.basename(prediction.path))])
    columns = min(max(6, math.ceil(math.sqrt(len(captions)))), 15)
    return prediction_sheet(torch.stack([image for _, image in seen]), captions, columns=columns)
