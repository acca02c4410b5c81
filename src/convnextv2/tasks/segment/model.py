"""A segmenter from its file, and what its file says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from convnextv2.data.masks.codes import SceneClasses
from convnextv2.errors import LoadError
from convnextv2.inference.loaded import LoadedModel
from convnextv2.loading import load_kind
from convnextv2.models import build_backbone
from convnextv2.models.config import BackboneConfig, EncoderConfig
from convnextv2.models.upernet import HeadNorm, UPerNet
from convnextv2.weights.model_file import ModelInfo, Weights

KIND = "segmenter"


@dataclass(frozen=True, kw_only=True)
class SegmenterOptions:
    """What a segmenter's file says beside its backbone.

    head_dim, head_norm, auxiliary: see `UPerNet`.  base_size: pixels on the shorter side that images are scaled to; 0
    for those that they have.  scenes: numbers and colours of the classes in masks, see `SceneClasses.to_dict`.
    """

    head_dim: int
    head_norm: HeadNorm
    auxiliary: bool
    base_size: int
    scenes: Mapping[str, Any]

    @staticmethod
    def of(info: ModelInfo) -> SegmenterOptions:
        """Read those of a file. Raises ValueError for what no segmenter has."""
        said = info.options
        dim, base = said.get("head_dim"), said.get("base_size")
        if not isinstance(dim, int) or not 1 <= dim <= 1 << 13 or not isinstance(base, int) or not 0 <= base <= 1 << 14:
            raise ValueError(f"its head is {dim!r} wide, and its images have {base!r} pixels")
        if said.get("head_norm") not in ("batch", "group") or not isinstance(said.get("scenes"), Mapping):
            raise ValueError(f"its head has norm {said.get('head_norm')!r}")
        return SegmenterOptions(
            head_dim=dim,
            head_norm=said["head_norm"],
            auxiliary=said.get("auxiliary") is True,
            base_size=base,
            scenes=said["scenes"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def build(info: ModelInfo) -> UPerNet:
    """Build the model of a segmenter's file, randomly initialised."""
    options = SegmenterOptions.of(info)
    return new_segmenter(info.architecture, len(info.classes), options, image_size=info.image_size)


def new_segmenter(
    architecture: BackboneConfig,
    classes: int,
    options: SegmenterOptions,
    *,
    image_size: int,
    drop_path_rate: float = 0.0,
    dropout: float = 0.1,
) -> UPerNet:
    """Build a randomly initialised segmenter. Raises UserError for a backbone without four maps."""
    backbone = build_backbone(
        architecture, num_classes=0, image_size=image_size, drop_path_rate=drop_path_rate, any_size=True
    )
    return UPerNet(
        backbone,
        classes,
        head_dim=options.head_dim,
        head_norm=options.head_norm,
        auxiliary=options.auxiliary,
        dropout=dropout,
    )


@torch.no_grad()
def leave_out_unused(model: UPerNet, architecture: BackboneConfig, image_size: int) -> None:
    """Take the gradient from parameters of the backbone that its feature maps do not depend on, as its last norm."""
    encoder: Any = model.encoder
    if isinstance(architecture, EncoderConfig):
        encoder.norm.requires_grad_(False)
        return
    training = encoder.training
    encoder.eval()
    with torch.enable_grad():
        maps = encoder.feature_maps(torch.zeros(1, architecture.in_chans, image_size, image_size))
        given = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(torch.stack([each.sum() for each in maps]).sum(), given, allow_unused=True)
    for parameter, gradient in zip(given, found, strict=True):
        parameter.requires_grad_(gradient is not None)
    encoder.train(training)


def load_segmenter(
    source: str | Path, *, weights: Weights = "average", checkpoint: str | None = None
) -> LoadedModel[UPerNet]:
    """Load the segmenter of a run (its best checkpoint if it has one), or of a `model.safetensors`.

    weights: "average" for the EMA if the file has one, else or with "plain" the weights of the last step.
    checkpoint: "best" or "latest" of a run.

    Raises UserError if there is none, LoadError if the file is damaged or not a segmenter's.
    """
    instead = f"is no segmenter: train one with `convnextv2 segment --init {source} --data DIR --out RUN`"
    return load_kind(source, KIND, weights=weights, checkpoint=checkpoint, instead=instead)


def scene_classes(loaded: LoadedModel[Any]) -> SceneClasses:
    """Return names, numbers and colours of a segmenter's classes. Raises LoadError if its file is damaged."""
    try:
        return SceneClasses.from_dict(loaded.classes, SegmenterOptions.of(loaded.info).scenes)
    except ValueError as error:
        raise LoadError(f"{loaded.file}: {error}") from error
