"""Rows of a matrix: from a full table to a selection and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convnextv2.ops.registry import Operation, register


def gather_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Return `table[rows]`.  table: (N, F).  rows: (n,) int64, no row twice.  Returns (n, F)."""
    return _gather_rows(table, rows)


def scatter_rows(selected: Tensor, rows: Tensor, length: int) -> Tensor:
    """Return zeros with `table[rows] = selected`.  selected: (n, F).  rows: as above.  Returns (length, F)."""
    return _scatter_rows(selected, rows, length)


def zeros_with(selected: Tensor, rows: Tensor, length: int) -> Tensor:
    """Return the result of `scatter_rows`, (length, F), without autograd or a copy of the zeros."""
    return selected.new_zeros(length, selected.shape[1]).index_copy_(0, rows, selected)


def _needs_gradients(*_: Any) -> str | None:
    if torch.compiler.is_compiling():
        return "the compiler sees through the reference"
    return None if torch.is_grad_enabled() else "no gradients are recorded"


class _Gather(torch.autograd.Function):
    """As no row is taken twice, the gradient is written instead of added up: the other function."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.length = len(table)
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, d_selected: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (rows,) = ctx.saved_tensors
        return _Scatter.apply(d_selected, rows, ctx.length), None


class _Scatter(torch.autograd.Function):
    """Writes into fresh zeros, which plain torch would copy first."""

    @staticmethod
    def forward(ctx: Any, selected: Tensor, rows: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(rows)
        return zeros_with(selected, rows, length)

    @staticmethod
    def backward(ctx: Any, d_table: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (rows,) = ctx.saved_tensors
        return _Gather.apply(d_table, rows), None, None


def _plain_scatter(selected: Tensor, rows: Tensor, length: int) -> Tensor:
    return selected.new_zeros(length, selected.shape[1]).index_copy(0, rows, selected)


_gather_rows = Operation("gather_rows", lambda table, rows: table.index_select(0, rows))
_scatter_rows = Operation("scatter_rows", _plain_scatter)
register("gather_rows", "fused", _needs_gradients, _Gather.apply)
register("scatter_rows", "fused", _needs_gradients, _Scatter.apply)
