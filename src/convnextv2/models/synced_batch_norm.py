"""Batch normalisation over the batches of all processes, on any device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as collective  # differentiable


class SyncedBatchNorm(nn.BatchNorm2d):
    """`BatchNorm2d`, whose statistics in training are those of the batches of all processes together.

    In a single process, and in evaluation mode, it is `BatchNorm2d` bit for bit. `torch.nn.SyncBatchNorm` does the same
    on GPUs only. There is no counter of batches, which only an average without momentum needs.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.num_batches_tracked = None

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, {**local_metadata, "version": 2}, *args)

    def forward(self, input: Tensor) -> Tensor:
        """Return maps of the same shape, (N, C, H, W)."""
        if not (self.training and distributed.is_available() and distributed.is_initialized()):
            return super().forward(input)
        if distributed.get_world_size() == 1:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalised(input.float()).to(input.dtype)

    def _normalised(self, x: Tensor) -> Tensor:
        count = x.new_tensor(x.numel() / x.shape[1])
        sums = collective.all_reduce(torch.cat([x.sum((0, 2, 3)), count[None]]))
        total = sums[-1].detach()
        mean = (sums[:-1] / total).view(1, -1, 1, 1)
        variance = collective.all_reduce((x - mean).square().sum((0, 2, 3))) / total
        assert self.running_mean is not None
        assert self.running_var is not None
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean.flatten(), momentum)
            self.running_var.lerp_(variance * (total / (total - 1)), momentum)
        x = (x - mean) * (variance.view(1, -1, 1, 1) + self.eps).rsqrt()
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
