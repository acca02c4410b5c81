"""Architecture only: never a file, a URL or a loss."""

from convnextv2.models.convnext import CELL_UNIT, ConvNeXt, init_weights
from convnextv2.models.create import create_model
from convnextv2.models.sizes import SIZES, Size

__all__ = ["CELL_UNIT", "SIZES", "ConvNeXt", "Size", "create_model", "init_weights"]
