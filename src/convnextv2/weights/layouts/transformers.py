"""The layout of transformers (computed from 5.23.0): shapes as the official ones, GRN as weight and bias."""

from __future__ import annotations

from dataclasses import replace

from convnextv2.weights.layouts.layout import Layout

_PAIRS = (
    ("downsample_layers.0.0.{leaf}", "embeddings.patch_embeddings.{leaf}"),
    ("downsample_layers.0.1.{leaf}", "embeddings.layernorm.{leaf}"),
    ("downsample_layers.{k}.{j}.{leaf}", "encoder.stages.{k}.downsampling_layer.{j}.{leaf}"),
    ("stages.{s}.{b}.dwconv.{leaf}", "encoder.stages.{s}.layers.{b}.dwconv.{leaf}"),
    ("stages.{s}.{b}.norm.{leaf}", "encoder.stages.{s}.layers.{b}.layernorm.{leaf}"),
    ("stages.{s}.{b}.pwconv1.{leaf}", "encoder.stages.{s}.layers.{b}.pwconv1.{leaf}"),
    ("stages.{s}.{b}.pwconv2.{leaf}", "encoder.stages.{s}.layers.{b}.pwconv2.{leaf}"),
    ("stages.{s}.{b}.grn.gamma", "encoder.stages.{s}.layers.{b}.grn.weight"),
    ("stages.{s}.{b}.grn.beta", "encoder.stages.{s}.layers.{b}.grn.bias"),
    # Files from before May 2023 have the official names of GRN's parameters.
    ("stages.{s}.{b}.grn.gamma", "encoder.stages.{s}.layers.{b}.grn.gamma"),
    ("stages.{s}.{b}.grn.beta", "encoder.stages.{s}.layers.{b}.grn.beta"),
    ("stages.{s}.{b}.gamma", "encoder.stages.{s}.layers.{b}.layer_scale_parameter"),
    ("norm.{leaf}", "layernorm.{leaf}"),
    ("head.{leaf}", "classifier.{leaf}"),
)

TRANSFORMERS = Layout(
    "transformers",
    "transformers",
    pairs=_PAIRS,
    prefixes=("convnextv2.", "convnext."),
    writes="convnextv2.",
    bare=r"classifier\.",
)
TRANSFORMERS_V1 = replace(TRANSFORMERS, writes="convnext.")
TRANSFORMERS_DINOV3 = Layout(
    "transformers-dinov3",
    "transformers, of DINOv3",
    pairs=(
        ("downsample_layers.0.{j}.{leaf}", "stages.0.downsample_layers.{j}.{leaf}"),
        ("downsample_layers.{k}.{j}.{leaf}", "stages.{k}.downsample_layers.{j}.{leaf}"),
        ("stages.{s}.{b}.dwconv.{leaf}", "stages.{s}.layers.{b}.depthwise_conv.{leaf}"),
        ("stages.{s}.{b}.norm.{leaf}", "stages.{s}.layers.{b}.layer_norm.{leaf}"),
        ("stages.{s}.{b}.pwconv1.{leaf}", "stages.{s}.layers.{b}.pointwise_conv1.{leaf}"),
        ("stages.{s}.{b}.pwconv2.{leaf}", "stages.{s}.layers.{b}.pointwise_conv2.{leaf}"),
        ("stages.{s}.{b}.gamma", "stages.{s}.layers.{b}.gamma"),
        ("norm.{leaf}", "layer_norm.{leaf}"),
    ),
    prefixes=("model.",),
    writes="model.",
    bare=r"layer_norm\.",
)
"""The layout of `DINOv3ConvNextModel`, a V1 without a head. Files from before transformers 5 lack "model."."""
