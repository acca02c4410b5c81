"""What a task adds to the package: one record that the command, the runner and the model files look up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import nn

from convnextv2.errors import UserError
from convnextv2.runs.settings import ModelSettings
from convnextv2.weights import kinds
from convnextv2.weights.model_file import ModelInfo

if TYPE_CHECKING:
    from convnextv2.runs.task_run import TaskRun

S = TypeVar("S", bound=ModelSettings)


@dataclass(frozen=True, kw_only=True)
class TaskSpec(Generic[S]):
    """A task: its verb, its settings, its run, and what can be done with a model that it trained.

    verb: the command that trains.  kind: of the model files that it writes (`ModelInfo.kind`).
    settings: what a user can set.  run: the run's parts.  needs_data: the error message if no data is given.
    build: makes the model that a file of this kind describes; None for a plain backbone.
    model_title, training_title: what such a model and its training are called on a model's card, as "a segmenter" and
    "segmentation".
    evaluate, predict: called as `evaluate(run, data, **settings)` and `predict(run, images, **settings)`; None if such
    a model does not support it.
    follows: names of settings that are computed again if another one is given beside a --config.  replaced: those of
    them that are, even if the user of that config had given them.
    """

    verb: str
    kind: str
    settings: type[S]
    run: type[TaskRun[S]]
    needs_data: str
    model_title: str = ""
    training_title: str = "training"
    build: Callable[[ModelInfo], nn.Module] | None = None
    evaluate: Callable[..., Any] | None = None
    predict: Callable[..., Any] | None = None
    follows: Mapping[str, frozenset[str]] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()


_TASKS: dict[str, TaskSpec[Any]] = {}


def register_task(spec: TaskSpec[S]) -> TaskSpec[S]:
    """Make a task known to the package, under its verb and for files of its kind; returns it.

    Tasks of this package lie in `convnextv2.tasks`; another package names its own in the entry-point group
    `convnextv2.tasks`, or calls this before it uses one.
    """
    _TASKS[spec.verb] = spec
    if spec.build is not None:
        kinds.register_kind(spec.kind, spec.build)
    return spec


def task_of_kind(kind: str) -> TaskSpec[Any]:
    """Return the task that writes model files of this kind. Raises UserError if no installed task does."""
    found = _find(kind)
    if found is None:
        kinds.discover()
        found = _find(kind)
    if found is None:
        known = ", ".join(sorted(spec.kind for spec in _TASKS.values()))
        raise UserError(f"no installed task knows models of kind {kind!r}; known are {known}")
    return found


def _find(kind: str) -> TaskSpec[Any] | None:
    return next((spec for spec in _TASKS.values() if spec.kind == kind), None)
