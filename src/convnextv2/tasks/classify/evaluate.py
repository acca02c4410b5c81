"""How good a trained classifier is on labelled pictures: its scores, and the files that show where it errs."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from convnextv2.atomic import write_atomically, write_text_atomically
from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.files.folder import EXTENSIONS
from convnextv2.data.labels.class_folders import split_folders
from convnextv2.data.labels.label_table import read_label_table
from convnextv2.data.labels.labels import LabelledImages
from convnextv2.data.labels.splits import read_labelled
from convnextv2.data.transforms.geometry import Resize
from convnextv2.engine import distributed
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.precision import Precision, autocast, resolve
from convnextv2.engine.runfolder import open_new
from convnextv2.errors import UserError
from convnextv2.tasks.classify import imagenet
from convnextv2.tasks.classify.artifacts import save_pictures, scores_table
from convnextv2.tasks.classify.evaluator import EvalOutputs, Evaluator, check_reading, readers, top_predictions
from convnextv2.tasks.classify.metrics import confusion, per_class, per_class_multi, score
from convnextv2.tasks.classify.model_file import Classifier, check_size, load_classifier
from convnextv2.text import shown
from convnextv2.weights.model_file import Weights

Split = Literal["val", "test", "train"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found.

    scores: numbers by name (see `metrics.score`), of the "average" weights, the "plain" ones, or both.
    answers: logits and labels of the pictures that could be read, by kind of weights too.
    data: the pictures, with their labels in the order of the model's classes.
    split: "val", "test" or "train", or "all" of data that is not split.
    bad: (name, reason) of the pictures that could not be read.
    model_file: where the weights came from.
    how: all that was decided about pictures and arithmetic, by name.
    notes: for the user, a line each: what was judged, and what was decided.
    files: what was written.
    """

    scores: Mapping[str, Mapping[str, float]]
    answers: Mapping[str, EvalOutputs]
    data: LabelledImages
    split: str
    bad: tuple[tuple[str, str], ...]
    model_file: Path
    how: Mapping[str, Any]
    notes: tuple[str, ...]
    files: tuple[Path, ...] = ()

    def table(self) -> dict[str, Any]:
        """The scores as text: `title`, `columns`, `rows` and a `note`."""
        return scores_table({self.split: self.scores})


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    split: Split | None = None,
    label_separator: str = ";",
    weights: Weights | Literal["both"] = "average",
    checkpoint: Literal["best", "latest"] | None = None,
    image_size: int | None = None,
    crop_pct: float | None = None,
    resize: Resize = "auto",
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    max_pixels: int = MAX_PIXELS,
    out: str | Path | None = None,
) -> Evaluation:
    """Evaluator a trained classifier on labelled pictures, as `convnextv2 evaluate` does.

    Args:
        run: a run's folder, or a `model.safetensors`.
        data: class folders, split or not, or a CSV file of path and label.
        split: which pictures; by default val, else test, else train; or all of data that is not split.
        label_separator: what stands between the labels of a picture in a CSV file.
        weights: averaged (where the file has them), plain, or both.
        checkpoint: of a run; by default the best where it has one.
        image_size: pixels on a side of what the model sees; by default as trained, as is `crop_pct`.
        crop_pct, resize: see `CenterFit`.
        workers: processes that read pictures; by default one a core, less one, up to 8.
        max_pixels: pictures of more count as unreadable.
        out: a new folder for scores.json, classes.csv, predictions.csv and pictures.

    Raises UserError for a mistake in these or a class that the model does not know, RunFailedError where no picture can be
    read or the model's outputs are not finite.
    """
    check_reading(batch_size, workers, max_pixels)
    _check(image_size, crop_pct, resize)
    context = DistributedContext(0, 1, distributed.init(device).device)
    first = load_classifier(run, weights="plain" if weights == "plain" else "average", which=checkpoint)
    labelled, name, said = _pictures(Path(data), split, label_separator, first)
    size = image_size or first.image_size
    if size != first.image_size:
        check_size(first.model, size, first.image_size, first.file)
    if out is not None:
        open_new(Path(out))
    judge = Evaluator(
        labelled,
        image_size=size,
        channels=first.model.in_chans,
        preprocessing=first.preprocessing,
        crop_pct=None if resize == "whole" else crop_pct or first.crop_pct,
        resize=resize,
        batch_size=batch_size,
        workers=readers(workers, -(-len(labelled) // batch_size)),
        max_pixels=max_pixels,
        keep=weights == "both",
    )
    arithmetic, why = resolve(precision, context.device)
    with autocast(arithmetic, context.device):
        answers = {
            "average" if classifier.averaged else "plain": judge.answers(classifier.model.to(context.device), context)
            for classifier in _wanted(first, weights)
        }
    about = {
        "image_size": size,
        "resize": "whole" if judge.fit.whole else "crop",
        "crop_pct": None if judge.fit.whole else judge.fit.crop_pct,
        "precision": arithmetic,
    }
    notes = [
        f"{said}: {len(labelled)} pictures" + (f", {len(judge.bad)} of them unreadable" if judge.bad else ""),
        *_seen_before(Path(data), name, first),
        f"weights: {first.file}" + ("" if first.averaged or weights == "plain" else ", which holds no averaged ones"),
        f"seen at {size} x {size} pixels, {_part(judge)}; computed in {arithmetic} ({why})",
    ]
    found = Evaluation(
        scores={kind: score(given.logits, given.labels) for kind, given in answers.items()},
        answers=answers,
        data=labelled,
        split=name,
        bad=tuple((labelled.images.names[index], judge.bad[index]) for index in sorted(judge.bad)),
        model_file=first.file,
        how=about,
        notes=tuple(notes),
    )
    return found if out is None else replace(found, files=tuple(_write(found, Path(out), judge)))


def _check(image_size: int | None, crop_pct: float | None, resize: Resize) -> None:
    if image_size is not None and image_size < 8:
        raise UserError(f"--image-size {image_size}: give 8 or more")
    if crop_pct is not None and not 0 < crop_pct <= 1:
        raise UserError(f"--crop-pct {crop_pct:g}: give more than 0 and at most 1")
    if crop_pct is not None and resize == "whole":
        raise UserError("--crop-pct and --resize whole: the whole picture has no crop; give one of them")


def _pictures(
    source: Path, split: Split | None, label_separator: str, classifier: Classifier
) -> tuple[LabelledImages, str, str]:
    """The labelled pictures, the split they are of ("all" if there is none), and in words which they are."""
    several, here = classifier.multi_label, shown(source)
    folders = split_folders(source) if source.is_dir() else {}
    there: Iterable[str] = folders
    if source.is_file() and source.suffix.lower() not in EXTENSIONS:
        read = read_label_table(source, label_separator=label_separator, multi_label=several)
        there = set(read.parts) - {""}
    if not there:
        chosen, name, said = split, "all", f"all of {here}, which is not split"
    else:
        chosen = split or next((known for known in ("val", "test") if known in there), "train")
        name = chosen
        said = f"{name} of {here}" + ("" if split or name != "train" else ", which has no val or test")
    ids = imagenet.ids_in(source / folders.get(chosen or "", ""), classifier.classes)
    labelled = read_labelled(
        source, chosen, ids or classifier.classes, label_separator=label_separator, multi_label=several
    )
    if ids:
        labelled = replace(labelled, classes=classifier.classes)
        said += " (1000 folders of WordNet ids, in order the model's classes)"
    if split and not there:
        raise UserError(
            f"--split {split}: {here} is not split: leave --split out to judge all of it, or name data with a {split}"
            " split"
        )
    return labelled, name, said


def _seen_before(source: Path, split: str, classifier: Classifier) -> list[str]:
    """A note where all of what is called as the training data was is judged: the file knows no more than the name."""
    name = shown(source.resolve().name)
    if split != "all" or name != classifier.trained_on:
        return []
    return [f"the model was trained on data of that name, {name}: most of these may be pictures it was trained on"]


def _part(judge: Evaluator) -> str:
    return "the whole picture" if judge.fit.whole else f"the middle {judge.fit.crop_pct:g} of the shorter side"


def _wanted(first: Classifier, weights: Weights | Literal["both"]) -> Iterator[Classifier]:
    """The first, and the plain weights beside the averaged ones if both are wanted, from the very same file."""
    yield first
    if weights == "both" and first.averaged:
        yield load_classifier(first.file, weights="plain")


def _write(found: Evaluation, folder: Path, judge: Evaluator) -> Iterator[Path]:
    """The files of an evaluation; tables and pictures are of the averaged weights where there are such."""
    answers = next(iter(found.answers.values()))
    summary = {
        "model_file": str(found.model_file),
        "data": str(found.data.images.source),
        "split": found.split,
        "pictures": len(found.data),
        "unreadable": len(found.bad),
        **found.how,
        "scores": found.scores,
    }
    write_text_atomically(folder / "scores.json", json.dumps(summary, indent=1) + "\n")
    yield folder / "scores.json"
    for name, rows in (("classes.csv", _class_rows(answers, found.data)), ("predictions.csv", _rows(answers, found))):
        _write_table(folder / name, rows)
        yield folder / name
    yield from save_pictures(folder, answers, judge)


def _class_rows(answers: EvalOutputs, data: LabelledImages) -> Iterator[list[Any]]:
    """A header, and the numbers of each class in the model's order; empty where one is not defined."""
    if data.multi_label:
        each = per_class_multi(answers.logits, answers.labels, data.classes)
    else:
        each = per_class(confusion(answers.logits, answers.labels, len(data.classes)), data.classes)
    yield [field.name for field in dataclasses.fields(each[0])]
    yield from (list(dataclasses.astuple(scores)) for scores in each)


def _rows(answers: EvalOutputs, found: Evaluation) -> Iterator[list[str]]:
    """A header, and what was said of each picture that could be read; several labels are separated by semicolons."""
    yield ["path", "label", "predicted", "confidence"]
    data = found.data
    spoken = top_predictions(answers.logits, data.classes, multi_label=data.multi_label)
    for index, label, (labels, _) in zip(answers.indices.tolist(), answers.labels, spoken, strict=True):
        true = label.nonzero().flatten().tolist() if data.multi_label else [int(label)]
        yield [
            os.fspath(data.images.path(index)),
            ";".join(data.classes[k] for k in true),
            ";".join(guess.label for guess in labels),
            ";".join(f"{guess.confidence:.6f}" for guess in labels),
        ]


def _write_table(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    def fill(partial: Path) -> None:
        # A name that is no UTF-8 is written as the bytes it has on disk.
        with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    write_atomically(path, fill)
