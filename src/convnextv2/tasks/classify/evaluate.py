"""Evaluate a trained classifier on labelled images: its scores, and the files that show where it errs."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from convnextv2 import notebook
from convnextv2.atomic import write_atomically, write_text_atomically
from convnextv2.data.files.folder import EXTENSIONS
from convnextv2.data.labels.class_folders import split_folders
from convnextv2.data.labels.label_table import read_label_table
from convnextv2.data.labels.labels import LabelledImages
from convnextv2.data.labels.splits import read_labelled
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.engine import distributed
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.new_folder import open_new
from convnextv2.engine.precision import autocast, resolve
from convnextv2.errors import UserError
from convnextv2.inference.loaded import LoadedModel
from convnextv2.inference.reader import as_read, patterns_of
from convnextv2.loading import Backbone
from convnextv2.settings import make
from convnextv2.signatures import verb
from convnextv2.tasks.classify import imagenet
from convnextv2.tasks.classify.artifacts import save_pictures, scores_table
from convnextv2.tasks.classify.evaluate_settings import EvaluateSettings
from convnextv2.tasks.classify.evaluator import EvalOutputs, Evaluator, top_predictions
from convnextv2.tasks.classify.load import load_classifier
from convnextv2.tasks.classify.metrics import confusion, per_class, per_class_multi, score
from convnextv2.text import csv_cell, csv_labels, shown
from convnextv2.weights.model_file import Weights


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate`.

    scores: numbers by name (see `metrics.score`), of the "average" weights, the "plain" ones, or both.
    outputs: logits and labels of the images that could be read, by kind of weights too.
    data: the images, with their labels in the order of the model's classes.
    split: "val", "test" or "train", or "all" of data that is not split.
    bad: (name, reason) of the images that could not be read.
    model_file: the file of the weights.
    how: image size, resize, crop and arithmetic, by name.
    notes: for the user, a line each: what was evaluated, and how.
    files: those written.
    """

    scores: Mapping[str, Mapping[str, float]]
    outputs: Mapping[str, EvalOutputs]
    data: LabelledImages
    split: str
    bad: tuple[tuple[str, str], ...]
    model_file: Path
    how: Mapping[str, Any]
    notes: tuple[str, ...]
    files: tuple[Path, ...] = ()

    def table(self) -> dict[str, Any]:
        """Return the scores as text: `title`, `columns`, `rows` and a `note`."""
        return scores_table({self.split: self.scores})

    def _repr_html_(self) -> str:
        scores = self.table()
        return notebook.table(scores["columns"], scores["rows"], scores["note"], *self.notes)


@verb(EvaluateSettings)
def evaluate(
    run: str | Path, data: str | Path, *, say: Callable[[str], None] = lambda line: None, **settings: Any
) -> Evaluation:
    """Evaluate a trained classifier on labelled images, as `convnextv2 evaluate` does.

    run: a run's folder, or a `model.safetensors`.  data: class folders, split or not, or a CSV file of path and label.
    say: called with a line of progress now and then.

    Raises UserError for a mistake in these or a class that the model does not know, RunFailedError if no image can be
    read or the model's outputs are not finite.
    """
    s = make(EvaluateSettings, "evaluate", settings)
    context = DistributedContext(0, 1, distributed.device_of(s.device))
    first = load_classifier(run, weights="plain" if s.weights == "plain" else "average", checkpoint=s.checkpoint)
    labelled, name, said, odd = _images(Path(data), s, first)
    if s.image_size is not None:
        first.predictor(image_size=s.image_size)
    if s.out is not None:
        open_new(s.out)
    spec = first.input_spec(image_size=s.image_size, crop_pct=s.crop_pct, resize=s.resize)
    spec = as_read(labelled.images, spec, s)
    evaluator = Evaluator(
        labelled,
        spec,
        batch_size=s.batch_size,
        workers=s.workers,
        max_pixels=s.max_pixels,
        keep=s.weights == "both",
        say=say,
    )
    arithmetic, why = resolve(s.precision, context.device)
    with autocast(arithmetic, context.device):
        outputs = {
            "average" if loaded.averaged else "plain": evaluator.outputs(loaded.model, context)
            for loaded in _wanted(first, s.weights)
        }
    fit, bad = spec.fit, evaluator.bad
    notes = [
        f"{said}: {len(labelled)} images" + (f", {len(bad)} of them unreadable" if bad else ""),
        *odd,
        *_seen_before(Path(data), name, first),
        f"weights: {first.file}" + ("" if first.averaged or s.weights == "plain" else ", which holds no EMA"),
        f"input of {spec.image_size} x {spec.image_size} pixels, {_part(fit)}; computed in {arithmetic} ({why})",
    ]
    found = Evaluation(
        scores={kind: score(given.logits, given.labels) for kind, given in outputs.items()},
        outputs=outputs,
        data=labelled,
        split=name,
        bad=tuple((labelled.images.names[index], bad[index]) for index in sorted(bad)),
        model_file=first.file,
        how={
            "image_size": spec.image_size,
            "resize": "whole" if fit.whole else "crop",
            "crop_pct": None if fit.whole else fit.crop_pct,
            "precision": arithmetic,
        },
        notes=tuple(notes),
    )
    return found if s.out is None else replace(found, files=tuple(_write(found, s.out, evaluator)))


def _images(
    source: Path, settings: EvaluateSettings, classifier: LoadedModel[Backbone]
) -> tuple[LabelledImages, str, str, tuple[str, ...]]:
    """The labelled images, the name of their split ("all" if there is none), a description, and notes on a table."""
    several, here, split = classifier.info.multi_label, shown(source), settings.split
    separator, column = settings.label_separator, settings.label_column
    folders = split_folders(source) if source.is_dir() else {}
    there: Iterable[str] = folders
    odd: tuple[str, ...] = ()
    if source.is_file() and source.suffix.lower() not in EXTENSIONS:
        read = read_label_table(source, label_separator=separator, multi_label=several, label_column=column)
        there, odd = set(read.parts) - {""}, read.notes
    if not there:
        chosen, name, said = split, "all", f"all of {here}, which is not split"
    else:
        chosen = split or next((known for known in ("val", "test") if known in there), "train")
        name = chosen
        said = f"{name} of {here}" + ("" if split or name != "train" else ", which has no val or test")
    ids = imagenet.ids_in(source / folders.get(chosen or "", ""), classifier.classes)
    labelled = read_labelled(
        source,
        chosen,
        ids or classifier.classes,
        label_separator=separator,
        label_column=column,
        multi_label=several,
        bands=patterns_of(classifier.preprocessing, settings),
    )
    if ids:
        labelled = replace(labelled, classes=classifier.classes)
        said += " (1000 folders of WordNet ids, in order the model's classes)"
    if split and not there:
        raise UserError(
            f"--split {split}: {here} is not split: leave out --split to evaluate on all of it, or name data with "
            f"a {split} split"
        )
    return labelled, name, said, odd


def _seen_before(source: Path, split: str, classifier: LoadedModel[Backbone]) -> list[str]:
    """A note if all of the data is used and has the name of the training data: a model file records only that name."""
    name = shown(source.resolve().name)
    if split != "all" or name != (classifier.info.trained_on or ""):
        return []
    return [f"the model was trained on data of that name, {name}: most of these may be images it was trained on"]


def _part(fit: CenterFit) -> str:
    return "the whole image" if fit.whole else f"the middle {fit.crop_pct:g} of the shorter side"


def _wanted(first: LoadedModel[Backbone], weights: Weights | Literal["both"]) -> Iterator[LoadedModel[Backbone]]:
    """The first, and the plain weights beside the averaged ones if both are requested, from the very same file."""
    yield first
    if weights == "both" and first.averaged:
        yield load_classifier(first.file, weights="plain")


def _write(found: Evaluation, folder: Path, evaluator: Evaluator) -> Iterator[Path]:
    """The files of an evaluation; tables and figures are of the averaged weights if there are any."""
    outputs = next(iter(found.outputs.values()))
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
    for name, rows in (("classes.csv", _class_rows(outputs, found.data)), ("predictions.csv", _rows(outputs, found))):
        _write_table(folder / name, rows)
        yield folder / name
    yield from save_pictures(folder, outputs, evaluator)


def _class_rows(outputs: EvalOutputs, data: LabelledImages) -> Iterator[list[Any]]:
    """A header, and the numbers of each class in the model's order; empty if one is not defined."""
    if data.multi_label:
        each = per_class_multi(outputs.logits, outputs.labels, data.classes)
    else:
        each = per_class(confusion(outputs.logits, outputs.labels, len(data.classes)), data.classes)
    yield [field.name for field in dataclasses.fields(each[0])]
    for scores in each:
        yield [csv_cell(value) if isinstance(value, str) else value for value in dataclasses.astuple(scores)]


def _rows(outputs: EvalOutputs, found: Evaluation) -> Iterator[list[str]]:
    """A header, and the predictions for each image that could be read; several labels are separated by semicolons."""
    yield ["path", "label", "predicted", "confidence"]
    data = found.data
    predictions = top_predictions(outputs.logits, data.classes, multi_label=data.multi_label)
    for index, label, (labels, _) in zip(outputs.indices.tolist(), outputs.labels, predictions, strict=True):
        true = label.nonzero().flatten().tolist() if data.multi_label else [int(label)]
        yield [
            csv_cell(os.fspath(data.images.path(index))),
            csv_labels([data.classes[k] for k in true]),
            csv_labels([guess.label for guess in labels]),
            ";".join(f"{guess.confidence:.6f}" for guess in labels),
        ]


def _write_table(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    def fill(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    write_atomically(path, fill)
