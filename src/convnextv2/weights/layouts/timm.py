"""timm's layout (computed from timm 1.0.31): GRN as weight and bias of one axis; small sizes with 1x1 convolutions."""

from __future__ import annotations

from torch import Tensor

from convnextv2.weights.layouts.layout import Layout, flat_grn

_PAIRS = (
    ("downsample_layers.0.{j}.{leaf}", "stem.{j}.{leaf}"),
    ("downsample_layers.{k}.{j}.{leaf}", "stages.{k}.downsample.{j}.{leaf}"),
    ("stages.{s}.{b}.dwconv.{leaf}", "stages.{s}.blocks.{b}.conv_dw.{leaf}"),
    ("stages.{s}.{b}.norm.{leaf}", "stages.{s}.blocks.{b}.norm.{leaf}"),
    ("stages.{s}.{b}.pwconv1.{leaf}", "stages.{s}.blocks.{b}.mlp.fc1.{leaf}"),
    ("stages.{s}.{b}.pwconv2.{leaf}", "stages.{s}.blocks.{b}.mlp.fc2.{leaf}"),
    ("stages.{s}.{b}.grn.gamma", "stages.{s}.blocks.{b}.mlp.grn.weight"),
    ("stages.{s}.{b}.grn.beta", "stages.{s}.blocks.{b}.mlp.grn.bias"),
    ("stages.{s}.{b}.gamma", "stages.{s}.blocks.{b}.gamma"),
    ("norm.{leaf}", "head.norm.{leaf}"),
    ("head.{leaf}", "head.fc.{leaf}"),
)


def _convolutions(name: str, tensor: Tensor) -> Tensor:
    if name.endswith(("pwconv1.weight", "pwconv2.weight")):
        return tensor[:, :, None, None]
    return flat_grn(name, tensor)


TIMM = Layout("timm", "timm", pairs=_PAIRS, outward=flat_grn)
TIMM_CONV_MLP = Layout("timm", "timm, with 1x1 convolutions", pairs=_PAIRS, outward=_convolutions)
"""The layout of timm's Atto, Femto, Pico and Nano, whose pointwise layers are convolutions."""
