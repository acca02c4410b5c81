"""Predict with a trained model, as the task that trained it does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from convnextv2.errors import UserError
from convnextv2.runs.spec import task_of_kind
from convnextv2.weights.load import kind_of

Given = str | os.PathLike[str]


def predict(run: str | Path, images: Given | Iterable[Given], **settings: Any) -> Iterator[Any]:
    """Run a trained model on images, in the order given, batch by batch while one iterates.

    run: a run's folder, or any other source of weights that `load` takes.
    images: image files, folders of them, and text files of paths, mixed.
    settings: of the task: for a classifier `tasks.classify.predict.PredictSettings`, by name.

    Yields what the task yields: for a classifier `tasks.classify.predict.Prediction`. Raises UserError if models of
    this kind do not predict, and as the task does.
    """
    kind = kind_of(run)
    task = task_of_kind("classifier" if kind == "encoder" else kind)
    if task.predict is None:
        raise UserError(
            f"{run} is {task.model_title or task.kind}, which does not predict by itself: train a classifier with "
            f"`convnextv2 classify --init {run} --data DIR --out RUN`"
        )
    return task.predict(run, images, **settings)
