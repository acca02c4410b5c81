"""torchvision's layout (computed from torchvision 0.29), V1 only: stem, stages and downsamplings in one numbered row.

A block's LayerScale has three axes, (C, 1, 1).
"""

from __future__ import annotations

from torch import Tensor

from convnextv2.weights.layouts.layout import Layout

_BLOCK = {"dwconv": 0, "norm": 2, "pwconv1": 3, "pwconv2": 5}


def _outward(name: str, tensor: Tensor) -> Tensor:
    return tensor[:, None, None] if name.endswith(".gamma") else tensor


TORCHVISION = Layout(
    "torchvision",
    "torchvision",
    pairs=(
        *((f"downsample_layers.{k}.{{j}}.{{leaf}}", f"features.{2 * k}.{{j}}.{{leaf}}") for k in range(4)),
        *(
            (f"stages.{s}.{{b}}.{part}.{{leaf}}", f"features.{2 * s + 1}.{{b}}.block.{number}.{{leaf}}")
            for s in range(4)
            for part, number in _BLOCK.items()
        ),
        *((f"stages.{s}.{{b}}.gamma", f"features.{2 * s + 1}.{{b}}.layer_scale") for s in range(4)),
        ("norm.{leaf}", "classifier.0.{leaf}"),
        ("head.{leaf}", "classifier.2.{leaf}"),
    ),
    outward=_outward,
)
