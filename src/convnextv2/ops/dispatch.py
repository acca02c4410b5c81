"""Which implementation of an operation runs: chosen in one place, from the tensor alone.

`reference` is the textbook definition in plain torch and works everywhere: double precision, export, compile.
`fused` is the same function with a hand-written backward pass. Tests run both with `force`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

Implementation = Literal["reference", "fused"]

_forced: Implementation | None = None


@contextmanager
def force(implementation: Implementation) -> Iterator[None]:
    """Run every operation inside the block with one implementation."""
    global _forced
    before, _forced = _forced, implementation
    try:
        yield
    finally:
        _forced = before


def implementation(x: Tensor) -> Implementation:
    """The implementation that an operation on `x` takes.

    Compilers and exporters see through plain torch but not through a hand-written backward pass, and
    without gradients there is no backward pass to save.
    """
    if _forced is not None:
        return _forced
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return "reference"
    return "fused"
