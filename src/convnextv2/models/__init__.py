"""Architecture only: never a file, a URL or a loss."""

from convnextv2.models.convnext import ConvNeXt, init_weights
from convnextv2.models.create import create_model
from convnextv2.models.sizes import SIZES, Size

__all__ = ["SIZES", "ConvNeXt", "Size", "create_model", "init_weights"]
