"""Number formats: float32, or bf16 autocast if the machine computes in it."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def resolve(precision: Precision, device: torch.device) -> tuple[Literal["fp32", "bf16"], str]:
    """Return the precision to use on a device, and the reason."""
    if precision != "auto":
        return precision, "requested"
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if able:
        return "bf16", f"this {'GPU' if device.type == 'cuda' else 'processor'} computes in bf16"
    return "fp32", "no bf16 arithmetic on this machine"


def autocast(precision: Literal["fp32", "bf16"], device: torch.device) -> torch.autocast:
    """Return the context in which a step runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
