"""Evaluate a trained segmenter on images with masks."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from convnextv2.atomic import write_text_atomically
from convnextv2.data.masks.scenes import SceneRequest, Scenes, read_scene_split
from convnextv2.engine import distributed
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.new_folder import open_new
from convnextv2.engine.precision import resolve
from convnextv2.errors import UserError
from convnextv2.inference.reader import as_read, patterns_of
from convnextv2.settings import make
from convnextv2.signatures import verb
from convnextv2.tasks.segment.artifacts import save_pictures
from convnextv2.tasks.segment.evaluate_settings import SegmentEvaluateSettings
from convnextv2.tasks.segment.evaluator import SceneEvaluator
from convnextv2.tasks.segment.metrics import ClassScores, per_class, score
from convnextv2.tasks.segment.model import load_segmenter, scene_classes
from convnextv2.tasks.segment.use import window_settings
from convnextv2.text import csv_cell, shown


@dataclass(frozen=True, eq=False)
class SceneEvaluation:
    """The result of evaluating a segmenter.

    scores: "miou", "pixel_accuracy" and "mean_accuracy", 0 to 1.  classes: the numbers of each class.
    matrix: int64 (K, K), pixels by true and predicted class.  miou: of each image by name.
    scenes: the images.  split: its name, "all" of data that is not split.  bad: (name, reason) of images that could not
    be read.  model_file: the file of the weights.  notes: for the user, a line each.  files: those written.
    """

    scores: Mapping[str, float]
    classes: tuple[ClassScores, ...]
    matrix: Tensor
    miou: Mapping[str, float]
    scenes: Scenes
    split: str
    bad: tuple[tuple[str, str], ...]
    model_file: Path
    notes: tuple[str, ...]
    files: tuple[Path, ...] = ()

    def __str__(self) -> str:
        """Return the scores as text, a line each."""
        width = max(len(shown(each.name)) for each in self.classes)
        lines = [
            *self.notes,
            *(f"{name.replace('_', ' ')}: {100 * value:.2f} %" for name, value in self.scores.items()),
        ]
        lines += [f"  {shown(each.name):{width}}  IoU {_percent(each.iou)}" for each in self.classes]
        lines += [f"skipped {shown(name)}: {reason}" for name, reason in self.bad]
        if self.files:
            lines.append(f"written to {shown(self.files[0].parent)}: {', '.join(file.name for file in self.files)}")
        return "\n".join(lines)


@verb(SegmentEvaluateSettings)
def evaluate(
    run: str | Path, data: str | Path, *, say: Callable[[str], None] = lambda line: None, **settings: Any
) -> SceneEvaluation:
    """Evaluate a trained segmenter on images with masks, as `convnextv2 evaluate` does.

    run: a run's folder, or a `model.safetensors`.  data: images and masks, split or not, see `convnextv2 segment`.
    say: called with a line of progress now and then.

    Logits are brought to the size of each image before the class is chosen. Raises UserError for a mistake in these or
    a class that the model does not know, RunFailedError if too many masks are at fault or no image can be read.
    """
    s = make(SegmentEvaluateSettings, "evaluate", settings)
    if s.weights == "both":
        raise UserError("--weights both is for classifiers: evaluate a segmenter with --weights average, then plain")
    context = DistributedContext(0, 1, distributed.device_of(s.device))
    loaded = load_segmenter(run, weights=s.weights, checkpoint=s.checkpoint)
    patterns_of(loaded.preprocessing, s)
    request = SceneRequest(
        max_bad_fraction=s.max_bad_fraction, max_pixels=s.max_pixels, known=scene_classes(loaded), say=say
    )
    scenes, name, notes = read_scene_split(Path(data), s.split, request)
    if s.out is not None:
        open_new(s.out)
    spec = as_read(scenes.images, loaded.input_spec(), s)
    evaluator = SceneEvaluator(scenes, spec, window_settings(loaded, s), workers=s.workers, say=say)
    precision, why = resolve(s.precision, context.device)
    outputs = evaluator.outputs(loaded.model, context, precision)
    found = SceneEvaluation(
        scores=score(outputs.matrix),
        classes=tuple(per_class(outputs.matrix, scenes.names)),
        matrix=outputs.matrix,
        miou={scenes.images.names[index]: value for index, value in outputs.miou.items()},
        scenes=scenes,
        split=name,
        bad=tuple((scenes.images.names[index], reason) for index, reason in sorted(evaluator.bad.items())),
        model_file=loaded.file,
        notes=(
            f"{name} of {shown(data)}: {len(scenes)} images",
            *notes,
            f"weights: {loaded.file}; computed in {precision} ({why})",
        ),
    )
    if s.out is None:
        return found
    files = _write(found, s.out) + save_pictures(s.out, outputs, evaluator, loaded.model, context.device)
    return replace(found, files=tuple(files))


def _write(found: SceneEvaluation, folder: Path) -> list[Path]:
    summary = {
        **{name: None if math.isnan(value) else value for name, value in found.scores.items()},
        "iou": {each.name: each.iou for each in found.classes},
        "accuracy": {each.name: each.accuracy for each in found.classes},
        "split": found.split,
        "pictures": len(found.scenes),
        "unreadable": len(found.bad),
        "model_file": str(found.model_file),
        "data": str(found.scenes.images.source),
        "confusion": found.matrix.tolist(),
    }
    write_text_atomically(folder / "scores.json", json.dumps(summary, indent=1) + "\n")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in dataclasses.fields(ClassScores)])
    for each in found.classes:
        table.writerow([csv_cell(v) if isinstance(v, str) else v for v in dataclasses.astuple(each)])
    write_text_atomically(folder / "classes.csv", text.getvalue())
    return [folder / "scores.json", folder / "classes.csv"]


def _percent(value: float | None) -> str:
    return "   -" if value is None else f"{100 * value:6.2f} %"
