"""Final results of a run: scores, tables, and figures of its most confident predictions, right and wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import nn

from convnextv2.atomic import write_atomically, write_text_atomically
from convnextv2.data.labels.labels import LabelledImages
from convnextv2.data.transforms.display import pictures
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.precision import autocast
from convnextv2.engine.runlog import RunLog
from convnextv2.figures import confusion_picture, prediction_sheet
from convnextv2.tasks.classify.evaluator import EvalOutputs, Evaluator
from convnextv2.tasks.classify.metrics import METRICS, confusion, main_metric, per_class, per_class_multi, score
from convnextv2.text import shown
from convnextv2.weights.model_file import Weights, read_model_file

SHOWN = 24  # predictions on a sheet
NAMED = 20  # unreadable files of a split that the log names
MANY = 2000  # with more classes there is no table of them and no confusion matrix


def write_artifacts(
    run: Path,
    model: nn.Module,
    evaluators: Mapping[str, Evaluator],
    context: DistributedContext,
    log: RunLog,
    precision: Any,
) -> None:
    """Evaluate the run's best weights (else its last), averaged and plain, and write the results to its folder.

    scores.json: everything, for programs.  table*.json, pictures/*.png: for the report. All ranks evaluate, the main
    one writes.
    """
    if not evaluators:
        return
    context.barrier()  # until the last checkpoint is written
    scores: dict[str, dict[str, dict[str, float]]] = {}
    weights: Weights
    shown_split, outputs = next(iter(evaluators)), None
    for weights in ("plain", "average"):
        found = read_model_file(run, weights=weights)
        if weights == "average" and not found.averaged:
            continue
        model.load_state_dict(dict(found.tensors))
        model.eval()
        for split, evaluator in evaluators.items():
            with autocast(precision, context.device):
                given = evaluator.outputs(model, context)
            scores.setdefault(split, {})[weights] = context.broadcast(
                lambda given=given: score(given.logits, given.labels)
            )
            outputs = given if split == shown_split else outputs
    if not context.is_main:
        return
    step = found.info.step or 0
    assert outputs is not None
    unreadable = {split: len(evaluator.bad) for split, evaluator in evaluators.items() if evaluator.bad}
    for split, evaluator in evaluators.items():
        _tell_unreadable(split, evaluator, log)
    record = {"step": step, **scores} | ({"unreadable": unreadable} if unreadable else {})
    write_text_atomically(run / "scores.json", json.dumps(record, indent=1))
    write_text_atomically(run / "table.json", json.dumps(scores_table(scores, step)))
    data = evaluators[shown_split].data
    if len(data.classes) <= MANY:
        write_text_atomically(run / "table-classes.json", json.dumps(class_table(outputs, data, shown_split)))
    (run / "pictures").mkdir(exist_ok=True)
    save_pictures(run / "pictures", outputs, evaluators[shown_split])
    main = main_metric(data.multi_label)
    for split, by_weights in scores.items():
        said = ", ".join(
            f"{_percent(main, found[main])} ({w} weights)" for w, found in by_weights.items() if main in found
        )
        log.say(f"{split} {METRICS[main].title} at step {step}: {said}")


def _tell_unreadable(split: str, evaluator: Evaluator, log: RunLog) -> None:
    names = [shown(evaluator.data.images.names[index]) for index in sorted(evaluator.bad)]
    for name, index in list(zip(names, sorted(evaluator.bad), strict=True))[:NAMED]:
        log.say(f"skipped {split} {name}: {evaluator.bad[index]}")
    if names:
        log.say(f"{len(names)} of {len(evaluator.data)} {split} images could not be read and are not in the scores")


def scores_table(scores: Mapping[str, Mapping[str, Mapping[str, float]]], step: int | None = None) -> dict[str, Any]:
    """Return the report's table of scores: one row per split and kind of weights."""
    names = list(dict.fromkeys(name for split in scores.values() for found in split.values() for name in found))
    rows = [
        [f"{split}, {weights} weights", *(_percent(name, found[name]) if name in found else "" for name in names)]
        for split, by_weights in scores.items()
        for weights, found in by_weights.items()
    ]
    where = f"At step {step}. " if step is not None else ""
    note = where + "Calibration error: by how much the confidence is off, on average (15 bins)."
    columns = ["images", *(_title(name) for name in names)]
    return {"title": "Scores", "columns": columns, "rows": rows, "note": note}


def class_table(outputs: EvalOutputs, data: LabelledImages, split: str) -> dict[str, Any]:
    """Return the report's table of classes, the worst first."""
    title = f"Classes of {split}, the worst first"
    if data.multi_label:
        each = per_class_multi(outputs.logits, outputs.labels, data.classes)
        columns = ["class", "images with it", "average precision", "AUROC"]
        rows = [[shown(c.name), c.positives, _share(c.average_precision), _number(c.auroc)] for c in each]
        order = [c.average_precision if c.average_precision is not None else 2 for c in each]
    else:
        found = per_class(confusion(outputs.logits, outputs.labels, len(data.classes)), data.classes)
        columns = ["class", "images", "found (recall)", "precision", "most often taken for"]
        rows = [
            [
                shown(c.name),
                c.pictures,
                _share(c.accuracy),
                _share(c.precision),
                f"{shown(c.most_confused_with)} ({c.confused})" if c.most_confused_with else "",
            ]
            for c in found
        ]
        order = [c.accuracy if c.accuracy is not None else 2 for c in found]
    ranked = [row for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]
    return {"title": title, "columns": columns, "rows": ranked, "note": ""}


def save_pictures(folder: Path, outputs: EvalOutputs, evaluator: Evaluator) -> list[Path]:
    """Write the figures of `draw` as PNG files into an existing folder; returns the files."""
    files = []
    for name, figure in draw(outputs, evaluator):
        files.append(folder / f"{name}.png")
        write_atomically(files[-1], lambda partial, figure=figure: figure.save(partial, format="PNG"))
    return files


def draw(outputs: EvalOutputs, evaluator: Evaluator) -> Iterator[tuple[str, Image]]:
    """Yield figures by name: the confusion matrix, and the most confident predictions, right and wrong.

    With several labels per image: the predictions of the lowest and of the highest loss.
    """
    data = evaluator.data
    if not len(outputs.labels):
        return
    if data.multi_label:
        losses = F.binary_cross_entropy_with_logits(outputs.logits, outputs.labels, reduction="none")
        order = losses.mean(1).argsort()
        yield "best-predictions", _sheet(order[:SHOWN], outputs, evaluator)
        yield "worst-predictions", _sheet(order.flip(0)[:SHOWN], outputs, evaluator)
        return
    if len(data.classes) <= MANY:
        matrix = confusion(outputs.logits, outputs.labels, len(data.classes))
        yield "confusion-matrix", confusion_picture(matrix, data.classes)
    sure, predicted = outputs.logits.softmax(1).max(1)
    right = predicted == outputs.labels
    order = sure.argsort(descending=True)
    for name, chosen in (("best-predictions", order[right[order]]), ("worst-predictions", order[~right[order]])):
        if len(chosen):
            yield name, _sheet(chosen[:SHOWN], outputs, evaluator)


def _sheet(chosen: torch.Tensor, outputs: EvalOutputs, evaluator: Evaluator) -> Image:
    rows = chosen.tolist()
    images = torch.stack([evaluator.image(int(outputs.indices[row])) for row in rows])
    images = pictures(images, evaluator.spec.preprocessing)
    captions, good = zip(*(_caption(outputs, evaluator.data, row) for row in rows), strict=True)
    return prediction_sheet(images, captions, good)


def _caption(outputs: EvalOutputs, data: LabelledImages, row: int) -> tuple[list[str], bool]:
    """One or two lines with the true and the predicted labels, and whether the prediction is right."""
    if data.multi_label:
        predicted, true = outputs.logits[row] > 0, outputs.labels[row] > 0.5
        names = [
            ", ".join(shown(c) for c, holds in zip(data.classes, part.tolist(), strict=True) if holds) or "none"
            for part in (true, predicted)
        ]
        return [f"true: {names[0]}", f"predicted: {names[1]}"], bool((predicted == true).all())
    chances, true = outputs.logits[row].softmax(0), int(outputs.labels[row])
    best = int(chances.argmax())
    text = f"{shown(data.classes[best])} {100 * float(chances[best]):.0f} %"
    return ([text] if best == true else [f"predicted: {text}", f"true: {shown(data.classes[true])}"]), best == true


def _title(name: str) -> str:
    return METRICS[name].title if name in METRICS else name


def _percent(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if name in METRICS and METRICS[name].percent else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
