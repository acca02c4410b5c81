"""Moving rows of a matrix: from a full table to a selection and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from convnextv2.ops.dispatch import implementation


def gather_rows(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]`.  table: (N, F).  rows: (n,) int64, no row twice.  Returns (n, F)."""
    if implementation(table) == "fused":
        return _Gather.apply(table, rows)
    return table.index_select(0, rows)


def scatter_rows(selected: Tensor, rows: Tensor, length: int) -> Tensor:
    """A table of zeros with `table[rows] = selected`.  selected: (n, F).  Returns (length, F)."""
    return selected.new_zeros(length, selected.shape[1]).index_copy(0, rows, selected)


class _Gather(torch.autograd.Function):
    """As no row is taken twice, the gradient is written instead of added up."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.length = len(table)
        return table.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_selected: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (rows,) = ctx.saved_tensors
        return scatter_rows(d_selected, rows, ctx.length), None
