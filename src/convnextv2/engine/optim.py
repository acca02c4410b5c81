"""AdamW with the weight-decay groups and the layer-wise rates of the paper."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay acts on a parameter: only on the weights of convolutions and linear maps.

    Not on norms, biases, GRN, LayerScale or tokens. (The published pre-training code decays GRN and the mask
    token by accident of their shapes; this was fixed there later for fine-tuning.)
    """
    return name.endswith(".weight") and parameter.ndim > 1


def adamw(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    lr_scales: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """Return AdamW over all parameters that require a gradient, in groups of equal decay and equal rate.

    lr_scales: factor on the rate by name of parameter (layer-wise decay); 1 for names that are not in it. Each
    group keeps its factor as `group["lr_scale"]`.
    """
    groups: dict[tuple[float, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = ((lr_scales or {}).get(name, 1.0), decayed(name, parameter))
            groups.setdefault(key, []).append((name, parameter))
    options = [
        {"params": named, "weight_decay": weight_decay if decay else 0.0, "lr_scale": scale, "lr": lr * scale}
        for (scale, decay), named in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]
    return torch.optim.AdamW(options, lr=lr, betas=betas, fused=True)
