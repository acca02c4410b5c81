"""The architecture of an encoder as one frozen record: checked once, when it is made; saved and read as it is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convnextv2.errors import UserError
from convnextv2.models.sizes import SIZES, Size
from convnextv2.text import shown

TIMM_PREFIX = "timm:"
Four = tuple[int, int, int, int]
_MOST = 2**16  # blocks, channels


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """A ConvNeXt encoder (Liu et al. 2022; Woo et al. 2023).

    name: the size it is, or the one it is called after, a key of `SIZES`.
    depths, dims: blocks and channels of each of the four stages.
    in_chans: channels of the images.
    stem_stride: 4 as published, 2 or 1 for small images; the total stride is 8 times that.

    Raises UserError for invalid values.
    """

    name: str
    depths: Four
    dims: Four
    in_chans: int = 3
    stem_stride: int = 4

    def __post_init__(self) -> None:
        for field in ("depths", "dims"):
            value = getattr(self, field)
            if not isinstance(value, Sequence) or len(value) != 4 or not all(_count(number) for number in value):
                said = tuple(value) if isinstance(value, Sequence) else value
                raise UserError(f"{field} must be 4 numbers of at least 1 (and at most {_MOST}), got {_short(said)}")
            object.__setattr__(self, field, tuple(value))
        size_of(self.name)
        if not _count(self.in_chans):
            raise UserError(f"in_chans must be at least 1, got {_short(self.in_chans)} (at most {_MOST})")
        if type(self.stem_stride) is not int or self.stem_stride not in (1, 2, 4):
            raise UserError(f"stem_stride must be 4, 2 or 1, got {_short(self.stem_stride)}")

    @staticmethod
    def named(
        name: str,
        *,
        depths: Sequence[int] | None = None,
        dims: Sequence[int] | None = None,
        in_chans: int = 3,
        stem_stride: int = 4,
    ) -> EncoderConfig:
        """Return the encoder of a name in `SIZES`, with its own depths or dims if given.

        Raises UserError for an unknown name, with the nearest known ones, and for invalid values.
        """
        size = size_of(name)
        return EncoderConfig(
            name=name,
            depths=size.depths if depths is None else depths,  # pyright: ignore[reportArgumentType] (checked when made)
            dims=size.dims if dims is None else dims,  # pyright: ignore[reportArgumentType]
            in_chans=in_chans,
            stem_stride=stem_stride,
        )

    @property
    def grn(self) -> bool:
        """True for V2 blocks (GRN), False for V1 blocks (LayerScale), as the name says."""
        return SIZES[self.name].grn

    @property
    def strides(self) -> Four:
        """Pixels on a side of one site of each stage."""
        s = self.stem_stride
        return s, 2 * s, 4 * s, 8 * s

    @property
    def patch_size(self) -> int:
        """Pixels on a side of one patch, the cell that is masked as a whole in pre-training: the total stride."""
        return self.strides[-1]

    @property
    def family(self) -> str:
        """`convnextv2` or `convnext`."""
        return self.name.partition("_")[0]

    @property
    def is_named_size(self) -> bool:
        """Whether depths and dims are those of the name."""
        size = SIZES[self.name]
        return (self.depths, self.dims) == (size.depths, size.dims)

    @property
    def title(self) -> str:
        """The name, or family, depths and widths of a size without one."""
        if self.is_named_size:
            return self.name
        depths, dims = ("/".join(map(str, numbers)) for numbers in (self.depths, self.dims))
        return f"{self.family} of depths {depths} and widths {dims}"

    def with_input(self, *, in_chans: int, stem_stride: int) -> EncoderConfig:
        """Return the same for images of other channels, or with a stem of another stride."""
        return replace(self, in_chans=in_chans, stem_stride=stem_stride)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON; depths and dims are None if they are those of the name."""
        size = SIZES[self.name]
        return {
            "model": self.name,
            "in_chans": self.in_chans,
            "stem_stride": self.stem_stride,
            "depths": None if self.depths == size.depths else list(self.depths),
            "dims": None if self.dims == size.dims else list(self.dims),
        }


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """A model of timm, by its name with the prefix `timm:`.  in_chans: channels of the images."""

    name: str
    in_chans: int = 3

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"{TIMM_PREFIX}[\w.-]{{0,100}}", self.name):
            raise UserError(f"a model of timm is named {TIMM_PREFIX}NAME, got {shown(self.name)[:80]!r}")
        if not _count(self.in_chans):
            raise UserError(f"in_chans must be at least 1, got {_short(self.in_chans)} (at most {_MOST})")

    @property
    def title(self) -> str:
        """The name, with the prefix."""
        return self.name

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, under the keys of `EncoderConfig.to_dict`; what timm decides is left at its default."""
        return {"model": self.name, "in_chans": self.in_chans, "stem_stride": 4, "depths": None, "dims": None}


BackboneConfig = EncoderConfig | TimmConfig
"""Any architecture that tasks train: ours or timm's."""


def config_from_dict(saved: Mapping[str, Any]) -> BackboneConfig:
    """Read the record that `to_dict` wrote.

    Raises KeyError if an entry is missing, TypeError or ValueError (UserError) for invalid values.
    """
    name, in_chans, stem_stride = saved["model"], saved["in_chans"], saved["stem_stride"]
    depths, dims = saved["depths"], saved["dims"]
    if not isinstance(name, str):
        raise ValueError(f"model {_short(name)}")
    if name.startswith(TIMM_PREFIX):
        return TimmConfig(name=name, in_chans=in_chans)
    return EncoderConfig.named(name, depths=depths, dims=dims, in_chans=in_chans, stem_stride=stem_stride)


def size_of(name: str) -> Size:
    """Return the entry of `SIZES`. Raises UserError for an unknown name, with the nearest known ones."""
    if not isinstance(name, str) or name not in SIZES:
        near = difflib.get_close_matches(str(name)[:80], SIZES, n=3, cutoff=0.5) or list(SIZES)
        raise UserError(f"no model is called {shown(repr(name))[:80]}; did you mean {', '.join(near)}?")
    return SIZES[name]


def _count(number: object) -> bool:
    """Whether it is a whole number of at least 1, and no more than any model has."""
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= _MOST


def _short(value: object) -> str:
    """A value as it can be shown on a line, however large."""
    try:
        return shown(str(value))[:80]
    except ValueError:  # a number of too many digits
        return "a number of thousands of digits"
