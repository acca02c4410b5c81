"""The exponential moving average of a model's weights, which fine-tuning evaluates."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def average_of(model: nn.Module, decay: float, *, warmup: bool) -> AveragedModel:
    """Return a copy of `model` that `update_parameters(model)`, called after each optimiser step, moves towards it.

    average = d * average + (1 - d) * weights, from the weights after the first step on; buffers too, of which those
    that hold whole numbers (counters, indices) are copied.

    decay: d, 0.9999 in the paper.  warmup: d is `min(decay, (1 + n) / (10 + n))` at the n-th update after the
    first (n from 1), so that the average of a short run does not keep its random initial weights.
    """

    def update(average: Any, current: Any, updates: Tensor | int) -> None:
        if average[0].is_floating_point():
            now = decay_at(int(updates), decay) if warmup else decay
            get_ema_multi_avg_fn(now)(average, current, updates)
        else:
            for kept, new in zip(average, current, strict=True):
                kept.copy_(new)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    average.requires_grad_(False)
    return average.eval()


def decay_at(update: int, decay: float) -> float:
    """Return the decay of the n-th update under warm-up."""
    return min(decay, (1 + update) / (10 + update))
