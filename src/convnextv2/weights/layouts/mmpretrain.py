"""The layout of mmpretrain: GRN of one axis, the final norm called norm3. Files with any number of axes are read."""

from __future__ import annotations

from convnextv2.weights.layouts.layout import Layout, flat_grn

MMPRETRAIN = Layout(
    "mmpretrain",
    "mmpretrain",
    pairs=(
        ("downsample_layers.0.{j}.{leaf}", "downsample_layers.0.{j}.{leaf}"),
        ("downsample_layers.{k}.{j}.{leaf}", "downsample_layers.{k}.{j}.{leaf}"),
        ("stages.{s}.{b}.dwconv.{leaf}", "stages.{s}.{b}.depthwise_conv.{leaf}"),
        ("stages.{s}.{b}.norm.{leaf}", "stages.{s}.{b}.norm.{leaf}"),
        ("stages.{s}.{b}.pwconv1.{leaf}", "stages.{s}.{b}.pointwise_conv1.{leaf}"),
        ("stages.{s}.{b}.pwconv2.{leaf}", "stages.{s}.{b}.pointwise_conv2.{leaf}"),
        ("stages.{s}.{b}.grn.gamma", "stages.{s}.{b}.grn.gamma"),
        ("stages.{s}.{b}.grn.beta", "stages.{s}.{b}.grn.beta"),
        ("stages.{s}.{b}.gamma", "stages.{s}.{b}.gamma"),
        ("norm.{leaf}", "norm3.{leaf}"),
        ("head.{leaf}", "head.fc.{leaf}"),
    ),
    prefixes=("backbone.",),
    writes="backbone.",
    bare=r"head\.",
    outward=flat_grn,
)
