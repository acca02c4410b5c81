"""The one table of sizes: ConvNeXt V2 (Woo et al. 2023, section 3.3) and V1 (Liu et al. 2022; timm below Tiny)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """One architecture: blocks and channels of each of the four stages, and what ends a block's branch.

    `grn` True is ConvNeXt V2 (GRN inside the branch); False is V1 (LayerScale at its end).
    """

    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int]
    grn: bool


_SHAPES = {  # name: (depths, width of the first stage; each further stage doubles it)
    "atto": ((2, 2, 6, 2), 40),
    "femto": ((2, 2, 6, 2), 48),
    "pico": ((2, 2, 6, 2), 64),
    "nano": ((2, 2, 8, 2), 80),
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
    "large": ((3, 3, 27, 3), 192),
    "xlarge": ((3, 3, 27, 3), 256),
    "huge": ((3, 3, 27, 3), 352),
}
_V2 = ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")
_V1 = ("atto", "femto", "pico", "nano", "tiny", "small", "base", "large", "xlarge")


def _size(name: str, grn: bool) -> Size:
    depths, width = _SHAPES[name]
    return Size(depths, (width, 2 * width, 4 * width, 8 * width), grn)


SIZES: dict[str, Size] = {
    **{f"convnextv2_{name}": _size(name, grn=True) for name in _V2},
    **{f"convnext_{name}": _size(name, grn=False) for name in _V1},
}
