"""Predict with a trained model, as the task that trained it does."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from convnextv2.atomic import make_room, write_text_atomically
from convnextv2.data.files.given import Images
from convnextv2.errors import UserError
from convnextv2.runs.spec import TaskSpec, check_settings
from convnextv2.signatures import verb
from convnextv2.tasks.classify import prediction_files
from convnextv2.tasks.classify.prediction_files import Format, Written
from convnextv2.text import json_line, shown
from convnextv2.verbs.evaluate import task_of
from convnextv2.verbs.settings import AnyPredictSettings


@verb(AnyPredictSettings, unchecked=("images",))
def predict(run: str | Path, images: Images, **settings: Any) -> Iterator[Any]:
    """Run a trained model on images, in the order given, batch by batch while one iterates.

    run: a run's folder, or any other source of weights that `load` takes.
    images: image files, folders of them, and text files of paths, mixed; or arrays, tensors, PIL images, or a map-style
    dataset, see `data.files.given.Images`.

    The settings are those of all tasks, and each refuses what it does not have; a task of another package has its own.
    Yields what the task yields: for a classifier `Prediction`, for a segmenter `ScenePrediction`. Raises UserError if
    models of this kind do not predict, and as the task does.
    """
    return _predict(task_of(run), run, images, settings)


def write_predictions(
    run: str | Path,
    images: Images,
    *,
    format: Format = "jsonl",
    out: Path | None = None,
    say: Callable[[str], None],
    **settings: Any,
) -> Written:
    """Write the predictions of `predict`, as `convnextv2 predict` does.

    Those of a classifier as `tasks.classify.prediction_files.write_predictions`. Each prediction of another task, a
    dataclass or a mapping, is one line of JSON; one with an `error` is of a file that could not be read.
    A task may write files of its own instead, as a segmenter does: a mask for each image into a folder.
    out: a new file, there once it is complete; by default the standard output. Of a segmenter a new folder.
    say: called with a line for each file that cannot be read.

    Raises UserError if `out` exists or another task is asked for another format than "jsonl", and as `predict`.
    """
    task = task_of(run)
    if task.kind == "classifier":
        return prediction_files.write_predictions(run, images, format=format, out=out, say=say, **settings)
    if format != "jsonl":
        raise UserError(f"--format {format} is for classifiers, and {run} is {task.title}: give --format jsonl")
    if task.write is not None and task.predict is not None:
        check_settings("predict", task.predict, settings)
        done = task.write(run, images, out=out, say=say, **settings)
        return Written(done.pictures, done.failed, done.files)
    if out is not None:
        make_room(out)
    predictions = _predict(task, run, images, settings)
    read: list[bool] = []  # whether it could be, of each file

    def lines() -> Iterator[str]:
        for prediction in predictions:
            record = _as_json(prediction)
            about = record if isinstance(record, dict) else {}
            read.append(not about.get("error"))
            if not read[-1]:
                say(f"skipped {shown(str(about.get('path', len(read))))}: {about['error']}")
            yield json_line(record, _as_json) + "\n"

    if out is not None:
        write_text_atomically(out, "".join(lines()))
        return Written(len(read), read.count(False), (out,))
    for line in lines():
        sys.stdout.write(line)
        sys.stdout.flush()
    return Written(len(read), read.count(False), ())


def _predict(task: TaskSpec[Any], run: str | Path, images: Images, settings: Mapping[str, Any]) -> Iterator[Any]:
    if task.predict is None:
        raise UserError(
            f"{run} is {task.title}, which does not predict by itself: train a classifier with "
            f"`convnextv2 classify --init {run} --data DIR --out RUN`"
        )
    check_settings("predict", task.predict, settings)
    return task.predict(run, images, **settings)


def _as_json(value: Any) -> Any:
    """What JSON has in place of a record, a tensor, an array, or anything else that it does not know."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if value is None or isinstance(value, str | int | float | list | tuple):
        return value
    to_list = getattr(value, "tolist", None)
    return str(value) if to_list is None else to_list()
