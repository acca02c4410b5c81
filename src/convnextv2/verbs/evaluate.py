"""Evaluate a trained model, as the task that trained it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convnextv2.errors import UserError
from convnextv2.runs.spec import task_of_kind
from convnextv2.weights.load import kind_of


def evaluate(run: str | Path, data: str | Path, **settings: Any) -> Any:
    """Evaluate a trained model on labelled images, as `convnextv2 evaluate` does.

    run: a run's folder, or any other source of weights that `load` takes.  data: as the task reads it.
    settings: of the task: for a classifier `tasks.classify.evaluate.EvaluateSettings`, by name.

    Returns what the task returns: for a classifier `tasks.classify.evaluate.Evaluation`. Raises UserError if models of
    this kind are not evaluated, and as the task does.
    """
    task = task_of_kind(_trained(kind_of(run)))
    if task.evaluate is None:
        raise UserError(
            f"{run} is {task.model_title or task.kind}, which is not evaluated by itself: try `convnextv2 probe`, "
            f"or train a classifier with `convnextv2 classify --init {run} --data DIR --out RUN`"
        )
    return task.evaluate(run, data, **settings)


def _trained(kind: str) -> str:
    """The kind to evaluate as: a file of only an encoder is refused by classification, with what to type."""
    return "classifier" if kind == "encoder" else kind
