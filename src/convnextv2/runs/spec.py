"""What a task adds to the package: one record that the command, the runner and the model files look up."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import nn

from convnextv2.errors import UserError
from convnextv2.runs.settings import ModelSettings
from convnextv2.settings import check_names
from convnextv2.weights import kinds
from convnextv2.weights.model_file import FORMAT, RESERVED, ModelInfo

if TYPE_CHECKING:
    from convnextv2.runs.task_run import TaskRun

S = TypeVar("S", bound=ModelSettings)


@dataclass(frozen=True, kw_only=True)
class TaskSpec(Generic[S]):
    """A task: its verb, its settings, its run, and what can be done with a model that it trained.

    verb: the command that trains.  kind: of the model files that it writes (`ModelInfo.kind`).
    settings: what a user can set.  run: the run's parts.  needs_data: the error message if no data is given.
    build: makes the model that a file of this kind describes; None for a plain backbone (`weights.kinds.BACKBONES`).
    foreign: reads such models from files of others; None if there are none.
    model_title, training_title: what such a model and its training are called on a model's card, as "a segmenter" and
    "segmentation".
    evaluate, predict: called as `evaluate(run, data, **settings)` and `predict(run, images, **settings)`; None if such
    a model does not support it. The commands print what they return, see docs/extend.md.
    write: writes predictions as files, called as `write(run, images, out=..., say=..., **settings)`; it returns a
    record with `pictures`, `failed` and `files`. None if each prediction is a line of JSON.
    follows: names of settings that are computed again if another one is given beside a --config.  replaced: those of
    them that are, even if the user of that config had given them.

    Raises UserError for a kind that a model file cannot have, and for a missing `build`.
    """

    verb: str
    kind: str
    settings: type[S]
    run: type[TaskRun[S]]
    needs_data: str
    model_title: str = ""
    training_title: str = "training"
    build: Callable[[ModelInfo], nn.Module] | None = None
    foreign: kinds.Foreign | None = None
    evaluate: Callable[..., Any] | None = None
    predict: Callable[..., Any] | None = None
    write: Callable[..., Any] | None = None
    follows: Mapping[str, frozenset[str]] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check what would otherwise show only when a file of this kind is read."""
        if self.kind in kinds.BACKBONES:
            if self.build is not None:
                raise UserError(
                    f"task {self.verb!r}: kind {self.kind!r} is a plain backbone, which the package builds itself: "
                    f"leave out build, or give the kind of your model a name of its own, as {_proposed(self.verb)!r}"
                )
            return
        if not FORMAT.fullmatch(f"convnextv2.{self.kind}.1"):
            raise UserError(
                f"task {self.verb!r}: kind {self.kind!r} is no name for a model file: give lower-case letters, digits "
                f"and hyphens, a letter first, as {_proposed(self.kind)!r}"
            )
        if self.kind in RESERVED:
            raise UserError(
                f"task {self.verb!r}: kind {self.kind!r} is the name of an entry in every model file: give another, as "
                f"{_proposed(f'{self.kind}-model')!r}"
            )
        if self.build is None:
            raise UserError(
                f"task {self.verb!r}: kind {self.kind!r} needs build, which makes its model from a ModelInfo; only "
                f"{' and '.join(kinds.BACKBONES)} go without"
            )

    @property
    def title(self) -> str:
        """What a model of this kind is called, "a segmenter"."""
        return self.model_title or f"a model of kind {self.kind}"


_TASKS: dict[str, TaskSpec[Any]] = {}


def register_task(spec: TaskSpec[S]) -> TaskSpec[S]:
    """Make a task known to the package, under its verb and for files of its kind; returns it.

    Tasks of this package lie in `convnextv2.tasks`; another package names its own in the entry-point group
    `convnextv2.tasks`, or calls this before it uses one. The same task may be registered again, by a module that is
    reloaded. Raises UserError if another task has its verb or its kind.
    """
    if not _is_own(spec):
        kinds.import_own_tasks()  # so that a name that is taken is an error here, and not in theirs
    for known in list(_TASKS.values()):
        if known.verb != spec.verb and known.kind != spec.kind:
            continue
        if _parts(known) != _parts(spec):
            what, name = ("verb", spec.verb) if known.verb == spec.verb else ("kind", spec.kind)
            raise UserError(
                f"task {spec.verb!r} of {spec.run.__module__}: {what} {name!r} is that of {known.run.__module__} "
                f"already; give it another, as {f'my-{name}'!r}"
            )
        del _TASKS[known.verb]
    _TASKS[spec.verb] = spec
    if spec.build is not None:
        kinds.register_kind(spec.kind, spec.build, spec.foreign)
    return spec


def task_of_kind(kind: str) -> TaskSpec[Any]:
    """Return the task that writes model files of this kind. Raises UserError if no installed task does."""
    found = kinds.discover(lambda: next((spec for spec in _TASKS.values() if spec.kind == kind), None))
    if found is None:
        known = ", ".join(sorted(spec.kind for spec in _TASKS.values()))
        raise UserError(f"{kinds.not_registered(kind)}; known are {known}")
    return found


def check_settings(verb: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Check that a task's `evaluate` or `predict` takes settings of these names, as far as its signature says.

    Raises UserError for one that it does not have.
    """
    own = list(inspect.signature(function).parameters.values())[2:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
        return  # it checks them itself
    names = [parameter.name for parameter in own if parameter.kind is not parameter.VAR_POSITIONAL]
    check_names(verb, settings, names)


def _is_own(spec: TaskSpec[Any]) -> bool:
    """Whether it is a task of this package."""
    return all(part.__module__.startswith(f"{kinds.PLUGINS}.") for part in (spec.run, spec.settings))


def _parts(spec: TaskSpec[Any]) -> list[tuple[str, str]]:
    """The names of what a task is made of: a module that is reloaded makes new objects of the same names."""
    parts = (spec.run, spec.settings, spec.build, spec.evaluate, spec.predict)
    return [(getattr(part, "__module__", ""), getattr(part, "__qualname__", "")) for part in parts]


def _proposed(name: str) -> str:
    """The nearest name that a kind can have."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
    near = "-".join(words)
    return near if re.match("[a-z]", near) else f"kind-{near}".rstrip("-")
