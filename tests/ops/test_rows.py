"""Rows taken out of a table and put back: plain indexing, to the bit."""

import pytest
import torch

from convnextv2 import ops

BOTH = pytest.mark.parametrize("implementation", ["reference", "fused"])
ROWS = {"some": [5, 0, 3], "one": [2], "all, shuffled": [4, 1, 5, 0, 3, 2], "none": []}


@BOTH
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_gather_rows_is_indexing(rows, dtype, implementation, run):
    table, rows = torch.randn(6, 4, dtype=dtype), torch.tensor(rows, dtype=torch.int64)
    d_out = torch.randn(len(rows), 4, dtype=dtype)
    with ops.force(implementation):
        selected, d_table = run(lambda t: ops.gather_rows(t, rows), [table], d_out)
    expected = torch.zeros_like(table)
    for row, gradient in zip(rows.tolist(), d_out, strict=True):
        expected[row] = gradient
    assert torch.equal(selected, table[rows])
    assert torch.equal(d_table, expected)


@BOTH
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_scatter_rows_writes_into_zeros(rows, dtype, implementation, run):
    rows = torch.tensor(rows, dtype=torch.int64)
    selected, d_out = torch.randn(len(rows), 4, dtype=dtype), torch.randn(7, 4, dtype=dtype)
    with ops.force(implementation):
        table, d_selected = run(lambda s: ops.scatter_rows(s, rows, 7), [selected], d_out)
    expected = torch.zeros(7, 4, dtype=dtype)
    for row, value in zip(rows.tolist(), selected, strict=True):
        expected[row] = value
    assert torch.equal(table, expected)
    assert torch.equal(d_selected, d_out[rows])


@BOTH
def test_rows_of_any_strides(implementation, run):
    table, d_out = torch.randn(4, 6).T, torch.randn(4, 2).T
    rows = torch.tensor([4, 1])
    with ops.force(implementation):
        selected, d_table = run(lambda t: ops.gather_rows(t, rows), [table], d_out)
        put_back = ops.scatter_rows(selected, rows, 6)
    assert torch.equal(put_back[rows], table[rows])
    assert torch.equal(d_table[rows], d_out)
    assert d_table.count_nonzero() == d_out.count_nonzero()
