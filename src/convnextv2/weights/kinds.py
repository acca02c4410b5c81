"""Kinds of model files: what they hold besides the encoder, registered by the task that trains such a model.

A file names its kind. A backbone, with or without a head, is known here. Every other kind is a model that holds its
encoder as `encoder`, and the task that trains it registers how it is built (`runs.spec`), so that a new task touches no
file format.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from torch import nn

from convnextv2.models import build_backbone
from convnextv2.models.config import EncoderConfig
from convnextv2.models.create import Shapes, encoder_shapes, shapes_of

if TYPE_CHECKING:
    from convnextv2.weights.model_file import ModelInfo

Builder = Callable[["ModelInfo"], nn.Module]
"""Makes the randomly initialised model that a file's metadata describes."""

BACKBONES = ("encoder", "classifier")
"""Kinds whose tensors have the encoder's own names: a backbone, without a head or with one."""

RESERVED = frozenset(
    {*BACKBONES, "format", "preprocessing", "image_size", "classes", "multi_label", "crop_pct", "licence"}
)
"""Names that no other kind can have."""

PLUGINS = "convnextv2.tasks"
"""The package of our tasks, and the entry-point group in which other packages declare theirs."""

_BUILDERS: dict[str, Builder] = {}


def register_kind(kind: str, build: Builder) -> None:
    """Register how the model of a file of `kind` is built. A kind's options are kept in the metadata under its name."""
    assert kind not in RESERVED, f"{kind} is an entry of every file's metadata"
    _BUILDERS[kind] = build


def build(info: ModelInfo) -> nn.Module:
    """Build the model of a file, randomly initialised. Raises KeyError for a kind that is not registered."""
    builder = _builder(info.kind)
    if builder is not None:
        return builder(info)
    if info.kind not in BACKBONES:
        raise KeyError(info.kind)
    return build_backbone(info.architecture, num_classes=len(info.classes), image_size=info.image_size)


def shapes(info: ModelInfo) -> Shapes | None:
    """Return the shapes of the tensors that a file must hold; None if only the model has them (timm, unknown kinds)."""
    if not isinstance(info.architecture, EncoderConfig):
        return None
    if info.kind in BACKBONES:
        return encoder_shapes(info.architecture, len(info.classes))
    builder = _builder(info.kind)
    return None if builder is None else shapes_of(lambda: builder(info))


@cache
def discover() -> None:
    """Import every task once: the folders below `convnextv2.tasks`, and those that installed packages declare."""
    package = importlib.import_module(PLUGINS)
    for found in pkgutil.iter_modules(package.__path__, f"{PLUGINS}."):
        importlib.import_module(f"{found.name}.run")
    for point in entry_points(group=PLUGINS):
        point.load()


def _builder(kind: str) -> Builder | None:
    if kind not in _BUILDERS and kind not in BACKBONES:
        discover()
    return _BUILDERS.get(kind)
