"""The official dense layout, which is our model's own."""

from __future__ import annotations

from convnextv2.weights.layouts.layout import Layout

_BLOCK = ("dwconv.{leaf}", "norm.{leaf}", "pwconv1.{leaf}", "pwconv2.{leaf}", "grn.gamma", "grn.beta", "gamma")
NAMES = (
    *("downsample_layers.0.{j}.{leaf}", "downsample_layers.{k}.{j}.{leaf}"),
    *(f"stages.{{s}}.{{b}}.{part}" for part in _BLOCK),
    *("norm.{leaf}", "head.{leaf}"),
)

OFFICIAL = Layout("official", "the official repository", pairs=tuple((name, name) for name in NAMES))
