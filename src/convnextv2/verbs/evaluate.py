"""Evaluate a trained model, as the task that trained it does."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from convnextv2.errors import UserError
from convnextv2.runs.spec import TaskSpec, check_settings, task_of_kind
from convnextv2.signatures import verb
from convnextv2.text import shown
from convnextv2.verbs.settings import AnyEvaluateSettings
from convnextv2.weights.load import kind_of


@verb(AnyEvaluateSettings)
def evaluate(
    run: str | Path, data: str | Path, *, say: Callable[[str], None] = lambda line: None, **settings: Any
) -> Any:
    """Evaluate a trained model on labelled images, as `convnextv2 evaluate` does.

    run: a run's folder, or any other source of weights that `load` takes.  data: as the task reads it.
    say: called with a line of progress now and then, if the task has any.

    The settings are those of all tasks, and each refuses what it does not have; a task of another package has its own.
    Returns what the task returns: for a classifier `Evaluation`, for a segmenter `SceneEvaluation`. Raises UserError if
    models of this kind are not evaluated, and as the task does.
    """
    task = task_of(run)
    if task.evaluate is None:
        raise UserError(
            f"{run} is {task.title}, which is not evaluated by itself: try `convnextv2 probe`, "
            f"or train a classifier with `convnextv2 classify --init {run} --data DIR --out RUN`"
        )
    check_settings("evaluate", task.evaluate, settings)
    telling = {"say": say} if "say" in inspect.signature(task.evaluate).parameters else {}
    return task.evaluate(run, data, **telling, **settings)


def task_of(run: str | Path) -> TaskSpec[Any]:
    """Return the task that a trained model is of; a file of only an encoder is refused by classification, with advice.

    Raises UserError if there is no such source, or no installed task knows its kind.
    """
    kind = kind_of(run)
    return task_of_kind("classifier" if kind == "encoder" else kind)


def score_rows(result: Any) -> list[tuple[str, str]] | None:
    """Return the result of any task's evaluation as names and values for a table; None if it is printed as it is.

    result: a mapping, or a dataclass without a `__str__` of its own. Numbers get four digits, and the names of records
    inside others are joined by spaces.
    """
    record = _record(result)
    if record is None or type(result).__str__ is not object.__str__:
        return None
    return list(_rows(record, ""))


def _rows(record: Mapping[Any, Any], before: str) -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        title, inside = f"{before}{shown(str(name))}", _record(value)
        if inside is not None:
            yield from _rows(inside, f"{title} ")
        elif isinstance(value, Real) and not isinstance(value, Integral):
            yield title, f"{float(value):.4g}"
        else:
            yield title, shown(str(value))


def _record(value: Any) -> Mapping[Any, Any] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value if isinstance(value, Mapping) else None
