"""An encoder's weights for images of another kind: other channels, or a stem of another stride."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from convnextv2.errors import UserError

STEM = "downsample_layers.0.0.weight"


def inflate(weight: Tensor, channels: int, how: str = "repeat") -> Tensor:
    """Return a stem's weight for another number of channels.

    weight: (C, in, p, p).  how: "repeat" cycles the old channels over the new ones, several new for one old or several
    old in one new; "mean" gives each new one the old ones' mean; "2,1,0,0" lists the old channel of each new one.
    The new channels that take one old channel share its weight: for an image whose channels repeat the old ones in
    that way the output is the same. A channel that a list does not name is lost.

    Raises UserError for any other `how`.
    """
    old = weight.shape[1]
    if how == "mean":
        return (weight.sum(1, keepdim=True) / channels).repeat(1, channels, 1, 1)
    if how == "repeat":
        stands = torch.arange(channels)[:, None] % old == torch.arange(old) % channels
    else:
        stands = torch.tensor(_map(how, old, channels))[:, None] == torch.arange(old)
    share = stands / stands.sum(0).clamp(min=1)  # (channels, old)
    return torch.einsum("no,cohw->cnhw", share.to(weight.dtype), weight).contiguous()


def _map(how: str, old: int, channels: int) -> list[int]:
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", how):
        raise UserError(f"--inflate {how}: give repeat, mean, or for each channel the old one it takes, as 0,1,2,0")
    chosen = [int(number) for number in how.split(",")]
    if len(chosen) != channels or max(chosen) >= old:
        raise UserError(f"--inflate {how}: give {channels} numbers from 0 to {old - 1}, one for each channel")
    return chosen


def restride(weight: Tensor, stride: int) -> Tensor:
    """Return a stem's weight for another stride, (C, in, p, p) to (C, in, stride, stride).

    The output of a finer stem on an image is that of the old one on the image enlarged by repeating its pixels; that
    of a coarser one, that of the old one on the image shrunk by averaging them.

    Raises UserError unless one stride is a multiple of the other.
    """
    old = weight.shape[-1]
    if old % stride == 0:
        times = old // stride
        return weight.unflatten(-1, (stride, times)).sum(-1).unflatten(-2, (stride, times)).sum(-2)
    if stride % old == 0:
        times = stride // old
        return weight.repeat_interleave(times, -1).repeat_interleave(times, -2) / times**2
    raise UserError(f"a stem of stride {old} cannot become one of stride {stride}: give a multiple or a divisor")


def adapt(
    encoder: Mapping[str, Tensor], *, in_chans: int, stem_stride: int, how: str = "repeat"
) -> tuple[dict[str, Tensor], list[str]]:
    """Return official tensors (any shapes) of an encoder adapted to other images, and a list of what was changed."""
    stem, said = encoder[STEM], []
    if stem.shape[1] != in_chans or how not in ("repeat", "mean"):
        said.append(f"stem inflated from {stem.shape[1]} channels to {in_chans} ({how})")
        stem = inflate(stem.float(), in_chans, how)
    if stem.shape[-1] != stem_stride:
        said.append(f"stem resampled from stride {stem.shape[-1]} to {stem_stride}")
        stem = restride(stem.float(), stem_stride)
    return {**encoder, STEM: stem}, said
