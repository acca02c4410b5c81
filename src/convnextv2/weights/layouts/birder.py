"""The layout of birder (from birder 0.8.4), V2 only: stages count from 1, downsamplings among their blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from convnextv2.weights.layouts.layout import Layout

_BLOCK = {"dwconv": "0", "norm": "2", "pwconv1": "3", "grn": "5", "pwconv2": "6"}
_PARTS = {number: part for part, number in _BLOCK.items()}
_THEIRS = re.compile(r"body\.stage([1-4])\.(0|[1-9]\d{0,3})\.(.+)")
_OURS = re.compile(r"body\.(\d)\.(\d+)\.(.+)")
_DOWN = re.compile(r"body\.down\.(\d)\.(.+)")
_DECODER = re.compile(r"(decoder\.\d{1,4})\.block\.([02356])\.(\w+)")


@dataclass(frozen=True)
class _Birder(Layout):
    """Its names with stages and blocks counted from 0 and downsamplings apart, as in `pairs`."""

    def official(self, name: str) -> str | None:
        match = _THEIRS.fullmatch(name.removeprefix("encoder."))
        if match is None:
            return super().official(name)
        stage, place, rest = int(match[1]) - 1, int(match[2]), match[3]
        if stage and not place:
            return super().official(f"body.down.{stage}.{rest}")
        return super().official(f"body.{stage}.{place - bool(stage)}.{rest}")

    def knows(self, name: str) -> bool:
        return self.official(name) is not None

    def named(self, official: str) -> str | None:
        name = super().named(official) or ""
        if match := _DOWN.fullmatch(name):
            return f"body.stage{int(match[1]) + 1}.0.{match[2]}"
        if match := _OURS.fullmatch(name):
            stage = int(match[1])
            return f"body.stage{stage + 1}.{int(match[2]) + bool(stage)}.{match[3]}"
        return name or None

    def decoder(self, name: str) -> str:
        match = _DECODER.fullmatch(name)
        return f"{match[1]}.{_PARTS[match[2]]}.{match[3]}" if match else name


BIRDER = _Birder(
    "birder",
    "birder",
    pairs=(
        ("downsample_layers.0.{j}.{leaf}", "stem.{j}.{leaf}"),
        ("downsample_layers.{k}.{j}.{leaf}", "body.down.{k}.{j}.{leaf}"),
        *(
            (f"stages.{{s}}.{{b}}.{part}.{{leaf}}", f"body.{{s}}.{{b}}.block.{_BLOCK[part]}.{{leaf}}")
            for part in ("dwconv", "norm", "pwconv1", "pwconv2")
        ),
        ("stages.{s}.{b}.grn.gamma", "body.{s}.{b}.block.5.gamma"),
        ("stages.{s}.{b}.grn.beta", "body.{s}.{b}.block.5.beta"),
        ("norm.{leaf}", "features.1.{leaf}"),
        ("head.{leaf}", "classifier.{leaf}"),
    ),
    prefixes=("encoder.",),
)
