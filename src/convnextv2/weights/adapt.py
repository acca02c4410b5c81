"""An encoder's weights for images of another kind: other channels, or a stem of another stride."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from convnextv2.errors import UserError

STEM = "downsample_layers.0.0.weight"
COLOURS = ("red", "green", "blue")
"""What the channels of weights of pictures are called."""


def inflate(
    weight: Tensor, channels: int, how: str = "repeat", *, names: Sequence[str] = (), had: Sequence[str] = ()
) -> Tensor:
    """Return a stem's weight for another number of channels.

    weight: (C, in, p, p).  how: "repeat" cycles the old channels over the new ones, several new for one old or several
    old in one new; "mean" gives each new one the old ones' mean; "2,1,0,0" lists the old channel of each new one, and
    "red=0,nir=red" does so by name.
    names, had: of the new and of the old channels, where they have names.
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
        chosen = _by_name(how, old, names, had) if "=" in how else _map(how, old, channels)
        stands = torch.tensor(chosen)[:, None] == torch.arange(old)
    share = stands / stands.sum(0).clamp(min=1)  # (channels, old)
    return torch.einsum("no,cohw->cnhw", share.to(weight.dtype), weight).contiguous()


def _map(how: str, old: int, channels: int) -> list[int]:
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", how):
        raise UserError(
            f"--inflate {how}: give repeat, mean, or for each channel the old one it takes, as 0,1,2,0 or, by name,"
            " red=0,nir=0"
        )
    chosen = [int(number) for number in how.split(",")]
    if len(chosen) != channels or max(chosen) >= old:
        raise UserError(f"--inflate {how}: give {channels} numbers from 0 to {old - 1}, one for each channel")
    return chosen


def _by_name(how: str, old: int, names: Sequence[str], had: Sequence[str]) -> list[int]:
    """The old channel of each new one, by a table such as "red=0,nir=red"."""
    if not names or not all(names):
        raise UserError(f"--inflate {how}: the bands have no names; list the old channel of each, as 0,1,2,0")
    table: dict[str, int] = {}
    places = {name.casefold(): place for place, name in enumerate(had) if name}
    for entry in how.split(","):
        name, _, source = (part.strip() for part in entry.partition("="))
        place = int(source) if source.isdecimal() else places.get(source.casefold(), -1)
        if not 0 <= place < old:
            known = f" or one of {', '.join(had)}" if places else ""
            raise UserError(f"--inflate {entry}: give a number from 0 to {old - 1}{known}")
        table[name.casefold()] = place
    wrong = [name for name in table if name not in {known.casefold() for known in names}]
    missing = [name for name in names if name.casefold() not in table]
    if wrong or missing:
        what = f"there is no band {wrong[0]}" if wrong else f"{missing[0]} is left out"
        raise UserError(f"--inflate {how}: {what}; the bands are {', '.join(names)}")
    return [table[name.casefold()] for name in names]


def _same_names(names: Sequence[str], had: Sequence[str]) -> str | None:
    """A table that gives each new channel the old one of its name; None if one has none, or nothing would change."""
    new, old = [name.casefold() for name in names], [name.casefold() for name in had]
    if not new or not all(new) or new == old or len(set(new)) < len(new) or not set(new) <= set(old):
        return None
    return ",".join(f"{name}={old.index(key)}" for name, key in zip(names, new, strict=True))


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
    encoder: Mapping[str, Tensor],
    *,
    in_chans: int,
    stem_stride: int,
    how: str = "repeat",
    names: Sequence[str] = (),
    had: Sequence[str] = (),
) -> tuple[dict[str, Tensor], list[str]]:
    """Return official tensors (any shapes) of an encoder adapted to other images, and a list of what was changed.

    how, names, had: see `inflate`; where all new channels are found among the old ones by name, "repeat" takes those.
    """
    stem, said = encoder[STEM], []
    how = (_same_names(names, had) or how) if how == "repeat" else how
    if stem.shape[1] != in_chans or how not in ("repeat", "mean"):
        said.append(f"stem inflated from {stem.shape[1]} channels to {in_chans} ({how})")
        stem = inflate(stem.float(), in_chans, how, names=names, had=had)
    if stem.shape[-1] != stem_stride:
        said.append(f"stem resampled from stride {stem.shape[-1]} to {stem_stride}")
        stem = restride(stem.float(), stem_stride)
    return {**encoder, STEM: stem}, said
