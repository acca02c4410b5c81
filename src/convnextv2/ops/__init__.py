"""Operations worth a kernel; each has a plain-torch reference that reads like the definition, and a registry."""

from convnextv2.ops.depthwise import depthwise, depthwise_cells
from convnextv2.ops.grn import gelu_grn, grn
from convnextv2.ops.linear import linear, residual_mlp
from convnextv2.ops.registry import explain, force, operations, register, registered, unregister
from convnextv2.ops.rows import gather_rows, scatter_rows

__all__ = [
    "depthwise",
    "depthwise_cells",
    "explain",
    "force",
    "gather_rows",
    "gelu_grn",
    "grn",
    "linear",
    "operations",
    "register",
    "registered",
    "residual_mlp",
    "scatter_rows",
    "unregister",
]
