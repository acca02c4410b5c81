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


def _flat(name: str) -> str:
    """A name as feature extraction has it, whose modules lie in one row: `stages_0.blocks` for `stages.0.blocks`."""
    return name.replace("stem.", "stem_").replace("stages.", "stages_")


TIMM = Layout("timm", "timm", pairs=_PAIRS, outward=flat_grn)
TIMM_CONV_MLP = Layout("timm", "timm, with 1x1 convolutions", pairs=_PAIRS, outward=_convolutions)
"""The layout of timm's Atto, Femto, Pico and Nano, whose pointwise layers are convolutions."""
TIMM_FEATURES = Layout(
    "timm-features",
    "timm, for features_only",
    pairs=tuple((ours, _flat(theirs)) for ours, theirs in _PAIRS if not theirs.startswith("head.")),
    outward=flat_grn,
)
"""The layout of `timm.create_model(..., features_only=True)`: no final norm, no head."""
