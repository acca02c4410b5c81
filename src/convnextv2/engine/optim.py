"""AdamW with the decay groups of the paper."""

from __future__ import annotations

import torch
from torch import nn


def decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay acts on a parameter: on the weights of convolutions and linear maps alone.

    Not on norms, biases, GRN, LayerScale or tokens. (The published pre-training code decays GRN and the mask
    token by accident of their shapes; fine-tuning there was mended later.)
    """
    return name.endswith(".weight") and parameter.ndim > 1


def adamw(model: nn.Module, *, lr: float, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW over all parameters that require a gradient, in their order, in two decay groups."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [(n, p) for n, p in named if decayed(n, p)], "weight_decay": weight_decay},
        {"params": [(n, p) for n, p in named if not decayed(n, p)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
