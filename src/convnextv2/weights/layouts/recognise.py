"""Recognise the layout of a dictionary of tensors, and the ConvNeXt that they make up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from convnextv2.errors import LoadError, UserError
from convnextv2.models.config import EncoderConfig
from convnextv2.models.sizes import SIZES
from convnextv2.text import shown
from convnextv2.weights.layouts.birder import BIRDER
from convnextv2.weights.layouts.layout import Layout, canonical
from convnextv2.weights.layouts.minkowski import MINKOWSKI
from convnextv2.weights.layouts.mmpretrain import MMPRETRAIN
from convnextv2.weights.layouts.official import OFFICIAL
from convnextv2.weights.layouts.timm import TIMM, TIMM_CONV_MLP
from convnextv2.weights.layouts.transformers import TRANSFORMERS, TRANSFORMERS_V1

LAYOUTS = (OFFICIAL, MINKOWSKI, TIMM, TRANSFORMERS, MMPRETRAIN, BIRDER)
_DECODER = re.compile(r"(mask_token|proj\.|pred\.|decoder\.).*")


@dataclass(frozen=True)
class Recognised:
    """Tensors in the official layout. decoder: those of a masked autoencoder outside its encoder, under our names.

    prefix: what stands before all of their names in the file, such as "module.".  unknown: names with that prefix that
    this layout does not have.  left_out: names of what is no part of the model, such as a detector's neck.
    """

    layout: Layout
    tensors: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]
    prefix: str
    unknown: tuple[str, ...]
    left_out: tuple[str, ...]


def recognise(tensors: Mapping[str, Tensor], file: Path) -> Recognised:
    """Determine the layout from the names of tensors (any shapes), and translate them.

    The model may be wrapped in others, to any depth (`module.`, `_orig_mod.`, `student.backbone.`): the prefix before
    most names of a layout is taken off, and what does not have it is left out.

    Raises LoadError if fewer than half of the names with that prefix belong to any layout.
    """
    prefix = _prefix(tensors)
    left_out = [n for n in tensors if not n.startswith(prefix) or _NO_PART.fullmatch(n.removeprefix(prefix))]
    others = set(left_out)
    tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name not in others}
    beside = {name: tensor for name, tensor in tensors.items() if _DECODER.fullmatch(name)}
    encoder = {name: tensor for name, tensor in tensors.items() if name not in beside}
    known = {layout.name: sum(layout.official(name) is not None for name in encoder) for layout in LAYOUTS}
    best = max(LAYOUTS, key=lambda layout: known[layout.name])
    if not encoder or 2 * known[best.name] < len(encoder):
        some = ", ".join(shown(name)[:60] for name in list(tensors)[:3])
        raise LoadError(
            f"{file} holds no ConvNeXt in a known layout ({', '.join(layout.name for layout in LAYOUTS)}); its "
            f"tensors are called {some or 'nothing'}: give the weights of a ConvNeXt"
        )
    official, unknown = best.read(encoder)
    decoder = {best.decoder(name): canonical(best.decoder(name), tensor) for name, tensor in beside.items()}
    return Recognised(best, official, decoder, prefix, tuple(prefix + name for name in unknown), tuple(left_out))


# How often an average was updated; the norms that detection and segmentation put on the four maps.
_NO_PART = re.compile(r"n_averaged|norm[0-3]\.(weight|bias)")
_DEEPEST = 16  # dots of a name that are looked at: wrappers, and the six of the longest name inside
_AVERAGED = re.compile(r"(^|[._])(ema|teacher|averaged?)([._]|$)")


def _prefix(names: Iterable[str]) -> str:
    """The prefix before most names of one layout; of equal ones the shortest, and an average before its student."""
    known: Counter[tuple[str, str]] = Counter()
    for name in names:
        parts = name.split(".", _DEEPEST)
        for start in range(len(parts)):
            inside = ".".join(parts[start:])
            prefix = name.removesuffix(inside)
            known.update((prefix, layout.name) for layout in LAYOUTS if layout.official(inside) is not None)

    def rank(prefix: str) -> tuple[int, int, bool, str]:
        most = max(known[prefix, layout.name] for layout in LAYOUTS)
        return -most, prefix.count("."), _AVERAGED.search(prefix) is None, prefix

    return min({prefix for prefix, _ in known}, key=rank, default="")


def config_of(tensors: Mapping[str, Tensor]) -> EncoderConfig:
    """Return the architecture of the encoder that official tensors make up.

    Every tensor of a stage has a vote on its width, so that a single one of another shape is reported as such.

    Raises LoadError if a stage has no tensor at all.
    """
    depths, dims = [], []
    for stage in range(4):
        blocks = [int(name.split(".")[2]) for name in tensors if name.startswith(f"stages.{stage}.")]
        widths = Counter(width for name, tensor in tensors.items() for width in _widths(name, tensor, stage))
        if not blocks or not widths:
            raise LoadError(f"stage {stage} has no block")
        depths.append(max(blocks) + 1)
        dims.append(widths.most_common(1)[0][0])
    grn = sum(".grn." in name for name in tensors) >= sum(bool(_SCALE.fullmatch(name)) for name in tensors)
    stem = tensors.get("downsample_layers.0.0.weight")
    in_chans, stem_stride = (stem.shape[1], stem.shape[2]) if stem is not None and stem.ndim == 4 else (3, 4)
    shape = (tuple(depths), tuple(dims))
    names = [name for name, size in SIZES.items() if size.grn == grn and (size.depths, size.dims) == shape]
    # A shape without a name is called after the size whose pointwise layers timm would give it (see `writer`).
    like = "atto" if dims[0] < 96 else "tiny"
    model = names[0] if names else f"{'convnextv2' if grn else 'convnext'}_{like}"
    try:
        return EncoderConfig.named(model, depths=depths, dims=dims, in_chans=in_chans, stem_stride=stem_stride)
    except UserError as error:
        raise LoadError(str(error)) from None


_SCALE = re.compile(r"stages\.\d\.\d+\.gamma")


def _widths(name: str, tensor: Tensor, stage: int) -> Iterator[int]:
    """Yield the width of a stage that a tensor implies, if any."""
    if name.startswith(f"stages.{stage}.") and tensor.ndim:
        if name.endswith(
            ("dwconv.weight", "dwconv.bias", "norm.weight", "norm.bias", "pwconv2.bias", "pwconv2.weight")
        ):
            yield tensor.shape[0]
        elif name.endswith("pwconv1.bias") and tensor.shape[0] % 4 == 0:
            yield tensor.shape[0] // 4


def writer(layout: str, model: str) -> Layout:
    """Return the layout that a model of this name in `SIZES` is written in.

    Raises KeyError for an unknown layout.
    """
    family, _, size = model.partition("_")
    if layout == "timm" and size in ("atto", "femto", "pico", "nano"):
        return TIMM_CONV_MLP
    if layout == "transformers" and family == "convnext":
        return TRANSFORMERS_V1
    return {each.name: each for each in LAYOUTS}[layout]
