"""A model from its name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from convnextv2.errors import UserError
from convnextv2.models.convnext import ConvNeXt
from convnextv2.models.sizes import SIZES, Size


def size_of(name: str) -> Size:
    """The size of a name. UserError for an unknown one, with the nearest known ones."""
    if name not in SIZES:
        near = difflib.get_close_matches(name, SIZES, n=3, cutoff=0.5) or list(SIZES)
        raise UserError(f"no model is called {name!r}; did you mean {', '.join(near)}?")
    return SIZES[name]


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    stem_stride: int = 4,
    drop_path_rate: float = 0.0,
    depths: Sequence[int] | None = None,
    dims: Sequence[int] | None = None,
    layer_scale: float = 1e-6,
    head_init_scale: float = 1.0,
) -> ConvNeXt:
    """A randomly initialised ConvNeXt by name: `convnextv2_atto` .. `convnextv2_huge`, `convnext_atto` .. `_xlarge`.

    depths, dims: own numbers of blocks and channels in place of the named size's; the name then only says
    whether the blocks are V2 or V1. The other arguments are those of `ConvNeXt`.

    Raises UserError for an unknown name, with the nearest known ones.
    """
    size = size_of(name)
    return ConvNeXt(
        depths=size.depths if depths is None else depths,
        dims=size.dims if dims is None else dims,
        grn=size.grn,
        num_classes=num_classes,
        in_chans=in_chans,
        stem_stride=stem_stride,
        drop_path_rate=drop_path_rate,
        layer_scale=layer_scale,
        head_init_scale=head_init_scale,
    )
