"""The number formats of pixels: what each can hold, and how computed values are converted back to it."""

from __future__ import annotations

import torch
from torch import Tensor

FORMATS = (torch.uint8, torch.int16, torch.uint16, torch.int32, torch.float16, torch.float32, torch.float64)
"""The formats that geometry accepts."""

_WIDE = (torch.int32, torch.int64, torch.float64)  # float32 does not hold all of their values


def to_float(values: Tensor) -> Tensor:
    """Return `values`, of any shape, in a float format that is exact for them.

    float64 for 32 bits and more, else float32. (64-bit integers are exact up to 2^53.)
    """
    return values.to(torch.float64 if values.dtype in _WIDE else torch.float32)


def to_format(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return float `values`, of any shape, in `dtype`; integers are rounded half to even and clipped to its range."""
    if dtype.is_floating_point:
        return values.to(dtype)
    limits = torch.iinfo(dtype)
    return values.round().clamp(limits.min, limits.max).to(dtype)
