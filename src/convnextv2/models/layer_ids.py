"""Layer-wise decay of the learning rate: the id of every parameter along depth, and its factor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from torch import nn

from convnextv2.errors import UserError

_NAME = re.compile(r"(?:stages\.([0-3])\.(\d+)|downsample_layers\.([0-3])|norm|head)\..+")

Kind = Literal["single", "group", "stage"]

GROUPS = 12
"""Groups of blocks of kind `group`, whatever the depths; meant for 3, 3, 27, 3."""


def layer_id(name: str, depths: Sequence[int], kind: Kind, *, prefix: str = "") -> int:
    """Return the id of the parameter called `name` in a ConvNeXt of these depths, as in the published fine-tuning.

    prefix: of the encoder's names in a model that wraps it, as "encoder.".

    single: blocks are numbered from 1 through all stages. Stem and downsamplings share the number of the first
    block after them; final norm and head come after the last block, at sum(depths) + 1. No parameter has id 0.
    With depths 2, 2, 6, 2 the downsamplings, stem first, have 1, 3, 5, 11 and the head 13; with 3, 3, 9, 3 they
    have 1, 4, 7, 16 and the head 19.

    group: stem 0; stages 0, 1, 3 have 1, 2, 12; three blocks of stage 2 at a time have 3, 4, .. 11; downsamplings
    after the stem have 2, 3, 12; final norm and head 13. Fewer than 27 blocks in stage 2 leave ids out (9 blocks:
    3 to 5), and blocks beyond the 27th, which the published code does not cover, stay at 11.

    stage: downsamplings, stem included, 0; stages 1 to 4; final norm and head 13 with 27 blocks or more in stage 2,
    else 7: so the whole backbone is slower than what is on it.

    Source: `optim_factory.py` of the official repository; the paper (appendix A) names the first two kinds. The third
    is that of V1's published segmentation.

    Raises UserError for a name that no such encoder has: a wrong prefix must not turn the decay off silently.
    """
    match = _NAME.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
    in_stage, block, before_stage = match.groups("") if match else ("", "", "")
    if match is None or (in_stage and int(block) >= depths[int(in_stage)]):
        raise UserError(
            f"no parameter of an encoder with depths {tuple(depths)} is called {name!r}"
            f"{f' after {prefix!r}' if prefix else ''}: if a model wraps the encoder, give its prefix, as 'encoder.'"
        )
    if not in_stage and not before_stage:
        return _last_id(depths, kind)
    stage = int(in_stage or before_stage)
    if kind == "stage":
        return 0 if before_stage else stage + 1
    if kind == "single":
        return sum(depths[:stage]) + int(block or 0) + 1
    if before_stage:
        return (0, 2, 3, GROUPS)[stage]
    return min(3 + int(block) // 3, GROUPS - 1) if stage == 2 else (1, 2, 3, GROUPS)[stage]


def lr_scales(
    model: nn.Module, depths: Sequence[int], decay: float, kind: Kind, *, prefix: str = ""
) -> dict[str, float]:
    """Return the factor on the learning rate by parameter name: decay ** (last id - its id), 1 for norm and head.

    model: a ConvNeXt of these depths, or a model that holds one under `prefix`; all other parameters have factor 1.

    The factor applies to the whole schedule, its floor included. Examples, of the stem: `single` 0.9 gives
    0.9 ** 12 = 0.2824 for Atto and 0.9 ** 18 = 0.1501 for Tiny; `group` 0.6 gives 0.6 ** 13 = 0.00131, and 0.6
    for stage 3.

    Raises UserError for a decay that is not above 0 and at most 1, an unknown kind, and names without the prefix.
    """
    if not 0 < decay <= 1:
        raise UserError(f"layer decay must be above 0 and at most 1 (1 for none), got {decay}")
    if kind not in ("single", "group", "stage"):
        raise UserError(f"layer decay is of kind 'single', 'group' or 'stage', got {kind!r}")
    last = _last_id(depths, kind)
    names = [name for name, _ in model.named_parameters()]
    if not any(name.startswith(prefix) for name in names):
        raise UserError(f"no parameter's name begins with {prefix!r}; the first is {names[0]!r}")
    return {
        name: decay ** (last - layer_id(name, depths, kind, prefix=prefix)) if name.startswith(prefix) else 1.0
        for name in names
    }


def _last_id(depths: Sequence[int], kind: Kind) -> int:
    if kind == "stage" and depths[2] < 27:
        return 7
    return (sum(depths) if kind == "single" else GROUPS) + 1
