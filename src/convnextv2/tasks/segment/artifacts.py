"""Final results of a run: scores, tables, and walls of the images that the model does worst and best on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from PIL.Image import Image
from torch import nn

from convnextv2.atomic import write_atomically, write_text_atomically
from convnextv2.data.transforms.display import pictures
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.runlog import RunLog
from convnextv2.figures import confusion_picture
from convnextv2.figures.scenes import scene_wall
from convnextv2.tasks.segment.evaluator import SceneEvaluator, SceneOutputs
from convnextv2.tasks.segment.metrics import METRICS, per_class, score
from convnextv2.text import shown
from convnextv2.weights.model_file import Weights, read_model_file

SHOWN = 8  # images on a wall
_NAMED = 20


def write_artifacts(
    run: Path,
    model: nn.Module,
    evaluators: Mapping[str, SceneEvaluator],
    context: DistributedContext,
    log: RunLog,
    precision: Literal["fp32", "bf16"],
) -> None:
    """Evaluate the run's best weights (else its last), averaged and plain, and write the results to its folder.

    scores.json: everything, for programs.  table*.json, pictures/*.png: for the report. All ranks evaluate, the main
    one writes.
    """
    if not evaluators:
        return
    context.barrier()  # until the last checkpoint is written
    scores: dict[str, dict[str, dict[str, float]]] = {}
    first, outputs, step = next(iter(evaluators)), None, 0
    weights: Weights
    for weights in ("plain", "average"):
        found = read_model_file(run, weights=weights)
        if weights == "average" and not found.averaged:
            continue
        step = found.info.step or 0
        model.load_state_dict(dict(found.tensors))
        for split, evaluator in evaluators.items():
            given = evaluator.outputs(model, context, precision)
            scores.setdefault(split, {})[weights] = score(given.matrix)
            outputs = given if split == first else outputs
    if not context.is_main:
        return
    assert outputs is not None
    for split, evaluator in evaluators.items():
        for index, reason in list(evaluator.bad.items())[:_NAMED]:
            log.say(f"skipped {split} {shown(evaluator.scenes.images.names[index])}: {reason}")
    evaluator = evaluators[first]
    write_text_atomically(run / "scores.json", json.dumps({"step": step, **scores}, indent=1))
    write_text_atomically(run / "table.json", json.dumps(scores_table(scores, step)))
    write_text_atomically(run / "table-classes.json", json.dumps(class_table(outputs, evaluator, first)))
    (run / "pictures").mkdir(exist_ok=True)
    save_pictures(run / "pictures", outputs, evaluator, model, context.device)
    for split, by_weights in scores.items():
        said = ", ".join(f"{_percent(found['miou'])} ({weights} weights)" for weights, found in by_weights.items())
        log.say(f"{split} mean IoU at step {step}: {said}")


def scores_table(scores: Mapping[str, Mapping[str, Mapping[str, float]]], step: int | None = None) -> dict[str, Any]:
    """Return the report's table of scores: one row per split and kind of weights."""
    rows = [
        [f"{split}, {weights} weights", *(_percent(found[name]) for name in METRICS)]
        for split, by_weights in scores.items()
        for weights, found in by_weights.items()
    ]
    columns = ["images", *(metric.title for metric in METRICS.values())]
    note = "" if step is None else f"At step {step}."
    return {"title": "Scores", "columns": columns, "rows": rows, "note": note}


def class_table(outputs: SceneOutputs, evaluator: SceneEvaluator, split: str) -> dict[str, Any]:
    """Return the report's table of classes, the worst first."""
    each = per_class(outputs.matrix, evaluator.scenes.names)
    each.sort(key=lambda one: 2 if one.iou is None else one.iou)
    total = max(1, int(outputs.matrix.sum()))
    rows = [
        [shown(one.name), f"{100 * one.pixels / total:.2f} %", *map(_percent, (one.iou, one.accuracy, one.precision))]
        for one in each
    ]
    columns = ["class", "pixels", "IoU", "found (recall)", "precision"]
    return {"title": f"Classes of {split}, the worst first", "columns": columns, "rows": rows, "note": ""}


def save_pictures(
    folder: Path, outputs: SceneOutputs, evaluator: SceneEvaluator, model: nn.Module, device: torch.device
) -> list[Path]:
    """Write the confusion matrix and the walls as PNG files into an existing folder; returns the files."""
    files = []
    for name, figure in _draw(outputs, evaluator, model, device):
        files.append(folder / f"{name}.png")
        write_atomically(files[-1], lambda partial, figure=figure: figure.save(partial, format="PNG"))
    return files


def _draw(
    outputs: SceneOutputs, evaluator: SceneEvaluator, model: nn.Module, device: torch.device
) -> Iterator[tuple[str, Image]]:
    scenes = evaluator.scenes
    yield "confusion-matrix", confusion_picture(outputs.matrix, scenes.names)
    order = sorted(outputs.miou, key=lambda index: (outputs.miou[index], index))
    scorer = evaluator.scorer(model, device)
    for name, chosen in (("worst-scenes", order[:SHOWN]), ("best-scenes", order[::-1][:SHOWN])):
        rows, captions = [], []
        for index in chosen:
            image, truth = evaluator.read(index)
            rows.append((pictures(image, evaluator.spec.preprocessing), truth, scorer.classes(image)))
            captions.append(f"{shown(scenes.images.names[index])}: IoU {_percent(outputs.miou[index])}")
        if rows:
            yield name, scene_wall(rows, captions, scenes.classes.palette, scenes.names)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
