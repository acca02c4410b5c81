"""An encoder's weights for pictures of another kind: other channels, or a stem of another stride."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from convnextv2.errors import UserError

STEM = "downsample_layers.0.0.weight"


def inflate(weight: Tensor, channels: int, how: str = "repeat") -> Tensor:
    """A stem's weight for another number of channels.

    weight: (C, in, p, p).  how: "repeat" has the new channels take the old ones in turn (one new channel takes the
    sum of all, as a grey picture shown in every channel would); "mean" gives each the old ones' mean; "2,1,0,0" names
    the old channel of each new one.  Scaled by in / channels, so that pictures of like channels give like outputs.

    Raises UserError for any other `how`.
    """
    old = weight.shape[1]
    if how == "repeat":
        spread = weight.sum(1, keepdim=True) / old if channels == 1 else weight[:, [c % old for c in range(channels)]]
    elif how == "mean":
        spread = weight.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    else:
        spread = weight[:, _map(how, old, channels)]
    return (spread * (old / channels)).contiguous()


def _map(how: str, old: int, channels: int) -> Sequence[int]:
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", how):
        raise UserError(f"--inflate {how}: give repeat, mean, or for each channel the old one it takes, as 0,1,2,0")
    chosen = [int(number) for number in how.split(",")]
    if len(chosen) != channels or max(chosen) >= old:
        raise UserError(f"--inflate {how}: give {channels} numbers from 0 to {old - 1}, one for each channel")
    return chosen


def restride(weight: Tensor, stride: int) -> Tensor:
    """A stem's weight for another stride, (C, in, p, p) to (C, in, stride, stride).

    A finer stem gives on a picture what the old one gives on the picture enlarged by repeating its pixels; a coarser
    one, what the old one gives on the picture shrunk by averaging them.

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
    """An encoder's official tensors for other pictures, and what was done in words; nothing if nothing differs."""
    stem, said = encoder[STEM], []
    if stem.shape[1] != in_chans or how not in ("repeat", "mean"):
        said.append(f"stem inflated from {stem.shape[1]} channels to {in_chans} ({how})")
        stem = inflate(stem.float(), in_chans, how)
    if stem.shape[-1] != stem_stride:
        said.append(f"stem resampled from stride {stem.shape[-1]} to {stem_stride}")
        stem = restride(stem.float(), stem_stride)
    return {**encoder, STEM: stem}, said
