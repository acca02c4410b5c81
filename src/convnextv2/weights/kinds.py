"""Kinds of model files: what they hold besides the encoder, registered by the task that trains such a model.

A file names its kind. A backbone, with or without a head, is known here. Every other kind is a model that holds its
encoder as `encoder`, and the task that trains it registers how it is built (`runs.spec`), so that a new task touches no
file format.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from convnextv2.errors import LoadError, Notice
from convnextv2.models import build_backbone
from convnextv2.models.config import EncoderConfig
from convnextv2.models.create import Shapes, encoder_shapes, shapes_of
from convnextv2.text import listed, one_line

if TYPE_CHECKING:
    from convnextv2.weights.model_file import ModelInfo

T = TypeVar("T")

Builder = Callable[["ModelInfo"], nn.Module]
"""Makes the randomly initialised model that a file's metadata describes."""

BACKBONES = ("encoder", "classifier")
"""Kinds whose tensors have the encoder's own names: a backbone, without a head or with one."""

PLUGINS = "convnextv2.tasks"
"""The package of our tasks, and the entry-point group in which other packages declare theirs."""

Foreign = Callable[[Mapping[str, Tensor]], Mapping[str, Any] | None]
"""Options of a model (`ModelInfo.options`) from the tensors that a file of others has beside the encoder; None if they
are of another kind of model."""

_BUILDERS: dict[str, Builder] = {}
_FOREIGN: dict[str, Foreign] = {}


def register_kind(kind: str, build: Builder, foreign: Foreign | None = None) -> None:
    """Register how the model of a file of `kind` is built; `runs.spec.TaskSpec` has checked the name.

    foreign: reads it from files of others.
    """
    _BUILDERS[kind] = build
    if foreign is not None:
        _FOREIGN[kind] = foreign


def of_others(beside: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Any]]:
    """Return the kind and the options of a model of others, by its tensors (any shapes) outside the encoder.

    Raises LoadError if they are of no kind that is registered.
    """

    def known() -> tuple[str, Mapping[str, Any]] | None:
        found = ((kind, options_of(beside)) for kind, options_of in _FOREIGN.items())
        return next(((kind, options) for kind, options in found if options is not None), None)

    found = discover(known)
    if found is None:
        raise LoadError(f"no installed task knows a model with {listed(beside, 3)} beside its encoder")
    return found


def build(info: ModelInfo) -> nn.Module:
    """Build the model of a file, randomly initialised. Raises LoadError for a kind that is not registered."""
    if info.kind in BACKBONES:
        return build_backbone(info.architecture, num_classes=len(info.classes), image_size=info.image_size)
    builder = _builder(info.kind)
    if builder is None:
        raise LoadError(not_registered(info.kind))
    return builder(info)


def shapes(info: ModelInfo) -> Shapes | None:
    """Return the shapes of the tensors that a file must hold; None if only the model has them (timm, unknown kinds)."""
    if not isinstance(info.architecture, EncoderConfig):
        return None
    if info.kind in BACKBONES:
        return encoder_shapes(info.architecture, len(info.classes))
    builder = _builder(info.kind)
    return None if builder is None else shapes_of(lambda: builder(info))


def discover(known: Callable[[], T | None]) -> T | None:
    """Return what `known` finds, importing tasks until it does: those of this package, then those of others.

    A package that cannot be imported is left out with a warning (Notice): it may not keep others from their files.
    """
    for more in (None, import_own_tasks, _import_plugins):
        if more is not None:
            more()
        found = known()
        if found is not None:
            return found
    return None


@cache
def import_own_tasks() -> None:
    """Import the tasks of this package: the folders below `convnextv2.tasks`."""
    package = importlib.import_module(PLUGINS)
    for found in pkgutil.iter_modules(package.__path__, f"{PLUGINS}."):
        importlib.import_module(f"{found.name}.run")


@cache
def _import_plugins() -> None:
    """Import the tasks that installed packages declare as entry points."""
    for point in entry_points(group=PLUGINS):
        try:
            point.load()
        except Exception as error:  # whatever goes wrong in the code of others
            said = f"{type(error).__name__}: {one_line(error)}"
            warnings.warn(f"the plugin {point.name} ({point.value}) is left out, it fails with {said}", Notice, 2)


def not_registered(kind: str) -> str:
    """Return the error message about a kind that no installed task has registered."""
    return (
        f"no installed task knows models of kind {kind!r}: install the package that trains them, or import its "
        "module that calls register_task"
    )


def _builder(kind: str) -> Builder | None:
    return discover(lambda: _BUILDERS.get(kind))
