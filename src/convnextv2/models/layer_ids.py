"""Layer-wise decay of the learning rate: the id of every parameter along depth, and its factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from convnextv2.errors import UserError
from convnextv2.models.convnext import ConvNeXt

Kind = Literal["single", "group"]

GROUPS = 12
"""Groups of blocks of kind `group`, whatever the depths; meant for 3, 3, 27, 3."""


def layer_id(name: str, depths: Sequence[int], kind: Kind) -> int:
    """The id of the parameter called `name` in a ConvNeXt of these depths, as in the published fine-tuning.

    single: blocks are numbered from 1 through all stages. Stem and downsamplings share the number of the first
    block after them; final norm and head come after the last block, at sum(depths) + 1. No parameter has id 0.
    With depths 2, 2, 6, 2 the downsamplings, stem first, have 1, 3, 5, 11 and the head 13; with 3, 3, 9, 3 they
    have 1, 4, 7, 16 and the head 19.

    group: stem 0; stages 0, 1, 3 have 1, 2, 12; three blocks of stage 2 at a time have 3, 4, .. 11; downsamplings
    after the stem have 2, 3, 12; final norm and head 13. Fewer than 27 blocks in stage 2 leave ids out (9 blocks:
    3 to 5), and what is beyond the 27th stays at 11, where the published code has no answer.

    Source: `optim_factory.py` of the official repository; the paper (appendix A) names both kinds.
    """
    part, *place = name.split(".")
    if part not in ("downsample_layers", "stages"):
        return _last_id(depths, kind)
    stage, block = int(place[0]), int(place[1]) if part == "stages" else 0
    if kind == "single":
        return sum(depths[:stage]) + block + 1
    if part == "downsample_layers":
        return (0, 2, 3, GROUPS)[stage]
    return min(3 + block // 3, GROUPS - 1) if stage == 2 else (1, 2, 3, GROUPS)[stage]


def lr_scales(model: ConvNeXt, decay: float, kind: Kind) -> dict[str, float]:
    """Every parameter's name and the factor on its learning rate: decay ** (last id - its id), 1 for norm and head.

    The factor acts on the whole schedule, its floor included. Examples, of the stem: `single` 0.9 gives
    0.9 ** 12 = 0.2824 for Atto and 0.9 ** 18 = 0.1501 for Tiny; `group` 0.6 gives 0.6 ** 13 = 0.00131, and 0.6
    for stage 3.

    Raises UserError for a decay that is not above 0 and at most 1, and for an unknown kind.
    """
    if not 0 < decay <= 1:
        raise UserError(f"layer decay must be above 0 and at most 1 (1 for none), got {decay}")
    if kind not in ("single", "group"):
        raise UserError(f"layer decay is of kind 'single' or 'group', got {kind!r}")
    last = _last_id(model.depths, kind)
    return {name: decay ** (last - layer_id(name, model.depths, kind)) for name, _ in model.named_parameters()}


def _last_id(depths: Sequence[int], kind: Kind) -> int:
    return (sum(depths) if kind == "single" else GROUPS) + 1
