"""Architecture only: never a file, a URL or a loss."""

from convnextv2.models.config import BackboneConfig, EncoderConfig, TimmConfig, config_from_dict
from convnextv2.models.convnext import CELL_UNIT, ConvNeXt, init_weights
from convnextv2.models.create import build_backbone, create_model
from convnextv2.models.sizes import SIZES, Size

__all__ = [
    "CELL_UNIT",
    "SIZES",
    "BackboneConfig",
    "ConvNeXt",
    "EncoderConfig",
    "Size",
    "TimmConfig",
    "build_backbone",
    "config_from_dict",
    "create_model",
    "init_weights",
]
