"""A backbone from its name or its configuration, and the shapes of its tensors without making it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from convnextv2.models.config import BackboneConfig, EncoderConfig
from convnextv2.models.convnext import ConvNeXt

if TYPE_CHECKING:
    from convnextv2.models.timm_backbone import TimmBackbone

Shapes = dict[str, tuple[int, ...]]
"""Name and shape of every tensor of a model's state dict."""


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    stem_stride: int = 4,
    drop_path_rate: float = 0.0,
    depths: Sequence[int] | None = None,
    dims: Sequence[int] | None = None,
    layer_scale: float = 1e-6,
    head_init_scale: float = 1.0,
) -> ConvNeXt:
    """Create a randomly initialised ConvNeXt: `convnextv2_atto` .. `convnextv2_huge`, `convnext_atto` .. `_xlarge`.

    depths, dims: numbers of blocks and channels in place of the named size's; the name then only selects V2 or V1
    blocks. The other arguments are those of `EncoderConfig` and `ConvNeXt`.

    Raises UserError for an unknown name, with the nearest known ones.
    """
    config = EncoderConfig.named(name, depths=depths, dims=dims, in_chans=in_chans, stem_stride=stem_stride)
    return ConvNeXt(
        config,
        num_classes=num_classes,
        drop_path_rate=drop_path_rate,
        layer_scale=layer_scale,
        head_init_scale=head_init_scale,
    )


def build_backbone(
    config: BackboneConfig,
    *,
    num_classes: int,
    image_size: int | None = None,
    drop_path_rate: float = 0.0,
    head_init_scale: float = 1.0,
    any_size: bool = False,
) -> ConvNeXt | TimmBackbone:
    """Create a randomly initialised backbone: one of ours, or one of timm.

    num_classes: 0 for no head.  image_size: pixels on a side of the images; ours take any.
    any_size: see `TimmBackbone`.

    Raises UserError if timm is needed and missing, or its model does not fit the images.
    """
    if isinstance(config, EncoderConfig):
        return ConvNeXt(config, num_classes=num_classes, drop_path_rate=drop_path_rate, head_init_scale=head_init_scale)
    from convnextv2.models.timm_backbone import TimmBackbone

    return TimmBackbone(
        config,
        num_classes=num_classes,
        image_size=image_size,
        drop_path_rate=drop_path_rate,
        head_init_scale=head_init_scale,
        any_size=any_size,
    )


def shapes_of(make: Callable[[], nn.Module]) -> Shapes:
    """Return the shapes of a model's state dict. It is made on the meta device: nothing is allocated or drawn."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}


@lru_cache(maxsize=64)
def encoder_shapes(config: EncoderConfig, num_classes: int) -> Shapes:
    """Return the shapes of a `ConvNeXt` with final norm, and with a head unless `num_classes` is 0; do not modify."""
    return shapes_of(lambda: ConvNeXt(config, num_classes=num_classes))
