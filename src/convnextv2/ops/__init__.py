"""Operations worth a kernel; each has a plain-torch reference that reads like the definition, and a registry."""

import torch

from convnextv2.ops.depthwise import depthwise, depthwise_cells
from convnextv2.ops.grn import gelu_grn, grn
from convnextv2.ops.linear import linear, residual_mlp
from convnextv2.ops.registry import (
    derivatives,
    explain,
    force,
    is_observed,
    operations,
    register,
    registered,
    unregister,
)
from convnextv2.ops.rows import gather_rows, scatter_rows

__all__ = [
    "depthwise",
    "depthwise_cells",
    "derivatives",
    "explain",
    "force",
    "gather_rows",
    "gelu_grn",
    "grn",
    "is_observed",
    "linear",
    "operations",
    "register",
    "registered",
    "residual_mlp",
    "scatter_rows",
    "unregister",
]

for _name in (
    "depthwise",
    "depthwise_cells",
    "gather_rows",
    "gelu_grn",
    "grn",
    "linear",
    "residual_mlp",
    "scatter_rows",
):
    torch.fx.wrap(_name)  # one call in a symbolic trace, which chooses its implementation when it runs
