"""The official dense layout, which is our model's own; and the shapes that an architecture has in it."""

from __future__ import annotations

from collections.abc import Sequence

from convnextv2.checkpoints.layout import Layout

_BLOCK = ("dwconv.{leaf}", "norm.{leaf}", "pwconv1.{leaf}", "pwconv2.{leaf}", "grn.gamma", "grn.beta", "gamma")
NAMES = (
    *("downsample_layers.0.{j}.{leaf}", "downsample_layers.{k}.{j}.{leaf}"),
    *(f"stages.{{s}}.{{b}}.{part}" for part in _BLOCK),
    *("norm.{leaf}", "head.{leaf}"),
)

OFFICIAL = Layout("official", "the official repository", pairs=tuple((name, name) for name in NAMES))


def shapes(
    *,
    depths: Sequence[int],
    dims: Sequence[int],
    grn: bool,
    in_chans: int,
    stem_stride: int,
    norm: bool,
    num_classes: int,
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a ConvNeXt.

    norm: with the final norm, which files of pre-training lack.  num_classes: 0 for no head.
    """
    found: dict[str, tuple[int, ...]] = {
        "downsample_layers.0.0.weight": (dims[0], in_chans, stem_stride, stem_stride),
        "downsample_layers.0.0.bias": (dims[0],),
        **_affine("downsample_layers.0.1", dims[0]),
    }
    for k in (1, 2, 3):
        found |= _affine(f"downsample_layers.{k}.0", dims[k - 1])
        found[f"downsample_layers.{k}.1.weight"] = (dims[k], dims[k - 1], 2, 2)
        found[f"downsample_layers.{k}.1.bias"] = (dims[k],)
    for s, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        for b in range(depth):
            found |= {f"stages.{s}.{b}.{name}": shape for name, shape in block_shapes(dim, grn=grn).items()}
    if norm:
        found |= _affine("norm", dims[3])
    if num_classes:
        found["head.weight"], found["head.bias"] = (num_classes, dims[3]), (num_classes,)
    return found


def block_shapes(dim: int, *, grn: bool) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of one block."""
    return {
        "dwconv.weight": (dim, 1, 7, 7),
        "dwconv.bias": (dim,),
        **_affine("norm", dim),
        "pwconv1.weight": (4 * dim, dim),
        "pwconv1.bias": (4 * dim,),
        "pwconv2.weight": (dim, 4 * dim),
        "pwconv2.bias": (dim,),
        **({"grn.gamma": (1, 1, 1, 4 * dim), "grn.beta": (1, 1, 1, 4 * dim)} if grn else {"gamma": (dim,)}),
    }


def _affine(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}
