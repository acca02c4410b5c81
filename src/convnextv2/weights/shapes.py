"""Name and shape of every tensor that a ConvNeXt has, and a masked autoencoder beside it, in the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnextv2.models.sizes import SIZES

Shapes = dict[str, tuple[int, ...]]


def encoder(architecture: Mapping[str, Any], *, num_classes: int) -> Shapes:
    """Of the encoder with its final norm, and of its head unless `num_classes` is 0.

    architecture: its arguments (`own.ARCHITECTURE`), of a model in `SIZES`.
    """
    size = SIZES[architecture["model"]]
    depths, dims = architecture["depths"] or size.depths, architecture["dims"] or size.dims
    stride = architecture["stem_stride"]
    found: Shapes = {
        "downsample_layers.0.0.weight": (dims[0], architecture["in_chans"], stride, stride),
        "downsample_layers.0.0.bias": (dims[0],),
        **_affine("downsample_layers.0.1", dims[0]),
    }
    for k in (1, 2, 3):
        found |= _affine(f"downsample_layers.{k}.0", dims[k - 1])
        found[f"downsample_layers.{k}.1.weight"] = (dims[k], dims[k - 1], 2, 2)
        found[f"downsample_layers.{k}.1.bias"] = (dims[k],)
    for s, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        for b in range(depth):
            found |= {f"stages.{s}.{b}.{name}": shape for name, shape in _block(dim, grn=size.grn).items()}
    found |= _affine("norm", dims[3])
    if num_classes:
        found["head.weight"], found["head.bias"] = (num_classes, dims[3]), (num_classes,)
    return found


def decoder(architecture: Mapping[str, Any], *, width: int, depth: int) -> Shapes:
    """Of what a masked autoencoder has beside its encoder."""
    size = SIZES[architecture["model"]]
    dims = architecture["dims"] or size.dims
    pixels = (8 * architecture["stem_stride"]) ** 2 * architecture["in_chans"]
    found: Shapes = {"mask_token": (1, width, 1, 1)}
    found |= {"proj.weight": (width, dims[3], 1, 1), "proj.bias": (width,)}
    found |= {"pred.weight": (pixels, width, 1, 1), "pred.bias": (pixels,)}
    for block in range(depth):
        found |= {f"decoder.{block}.{name}": shape for name, shape in _block(width, grn=size.grn).items()}
    return found


def _block(dim: int, *, grn: bool) -> Shapes:
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


def _affine(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}
