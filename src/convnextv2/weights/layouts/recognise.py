"""Recognise the layout of a dictionary of tensors, and the ConvNeXt that they make up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
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
from convnextv2.weights.layouts.timm import TIMM, TIMM_CONV_MLP, TIMM_FEATURES
from convnextv2.weights.layouts.torchvision import TORCHVISION
from convnextv2.weights.layouts.transformers import TRANSFORMERS, TRANSFORMERS_DINOV3, TRANSFORMERS_V1

LAYOUTS = (
    OFFICIAL,
    MINKOWSKI,
    TIMM,
    TIMM_FEATURES,
    TRANSFORMERS,
    TRANSFORMERS_DINOV3,
    MMPRETRAIN,
    BIRDER,
    TORCHVISION,
)
_DECODER = re.compile(r"(mask_token|proj\.|pred\.|decoder\.).*")


@dataclass(frozen=True)
class Recognised:
    """Tensors in the official layout. decoder: those of a masked autoencoder outside its encoder, under our names.

    prefix: what stands before all of their names in the file, such as "module.".  unknown: names with that prefix that
    this layout does not have.  left_out: names of what is no part of the model, such as a detector's neck.
    has_alias: its final norm is there under a second name, as in the files of DINOv3 and EUPE.
    """

    layout: Layout
    tensors: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]
    prefix: str
    unknown: tuple[str, ...]
    left_out: tuple[str, ...]
    has_alias: bool = False

    @property
    def averaged(self) -> bool:
        """Whether its names say that these are an average of the weights."""
        return _AVERAGED.search(self.prefix) is not None

    def spelled(self, official: str) -> str | None:
        """Return the name that the file has, or would have, for an official one."""
        name = self.layout.named(official)
        if name is None:
            return None
        return self.prefix + (
            name.removeprefix(self.layout.writes) if self.prefix.endswith(self.layout.writes) else name
        )


def recognise(tensors: Mapping[str, Tensor], file: Path, *, averaged: bool = True) -> Recognised:
    """Determine the layout from the names of tensors (any shapes), and translate them.

    The model may be wrapped in others, to any depth (`module.`, `_orig_mod.`, `student.backbone.`): the prefix before
    most names of a layout is taken off, and what does not have it is left out. Of a student and its average the
    average is taken, or the student if not `averaged`. Beside the encoder, what training puts there is left out, too:
    projectors, heads of other tasks, the norms that detection puts on the four maps.

    Raises LoadError if fewer than half of the names with that prefix belong to any layout, or if a second name of the
    final norm holds other values.
    """
    prefix, best = _place(tensors, averaged)
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    beside = {name: tensor for name, tensor in inside.items() if _DECODER.fullmatch(name)}
    none = {name for name in inside.keys() - beside.keys() if _is_no_part(name, best, inside)}
    encoder = {name: tensor for name, tensor in inside.items() if name not in beside and name not in none}
    if not encoder or 2 * sum(map(best.knows, encoder)) < len(encoder):
        some = ", ".join(shown(name)[:60] for name in list(tensors)[:3])
        raise LoadError(
            f"{file} holds no ConvNeXt in a known layout ({', '.join(layout.name for layout in LAYOUTS)}); its "
            f"tensors are called {some or 'nothing'}: give the weights of a ConvNeXt"
        )
    official, unknown = best.read(encoder)
    has_alias = best is OFFICIAL and any(name in _ALIASES for name in unknown)
    if has_alias:
        unknown = _without_alias(official, encoder, unknown, file)
    decoder = {best.decoder(name): canonical(best.decoder(name), tensor) for name, tensor in beside.items()}
    left_out = tuple(name for name in tensors if not name.startswith(prefix) or name.removeprefix(prefix) in none)
    return Recognised(best, official, decoder, prefix, tuple(prefix + n for n in unknown), left_out, has_alias)


# How often an average was updated; the norms that transformers' backbones put on the four maps; what training puts
# beside an encoder.
_NO_PART = re.compile(
    r"n_averaged|hidden_states_norms\..+|(projectors?|projections?|predictors?|prototypes|necks?|\w+_heads?)\..+"
)
_MAP_NORM = re.compile(r"(backbone\.)?norm([0-3])\.(weight|bias)")  # as detection and segmentation have them
_ALIASES = {"norms.3.weight": "norm.weight", "norms.3.bias": "norm.bias"}  # of DINOv3, whose norms.0 to 2 are empty
_DEEPEST = 16  # dots of a name that are looked at: wrappers, and the six of the longest name inside
_AVERAGED = re.compile(r"(^|[._])(ema|teacher|averaged?)([._]|$)")


def _is_no_part(name: str, layout: Layout, names: Iterable[str]) -> bool:
    """Whether a name is of no part of a ConvNeXt. norm3 alone is mmpretrain's final norm, and beside others a map's."""
    if _MAP_NORM.fullmatch(name):
        stages = {found[2] for found in map(_MAP_NORM.fullmatch, names) if found}
        return len(stages) > 1 or not layout.knows(name)
    return _NO_PART.fullmatch(name) is not None and not layout.knows(name)


def _without_alias(
    official: dict[str, Tensor], found: Mapping[str, Tensor], unknown: Iterable[str], file: Path
) -> list[str]:
    """Take the final norm from its second name if it has no first; return the names that are still unknown."""
    for alias, name in _ALIASES.items():
        if alias in found and not torch.equal(official.setdefault(name, found[alias]), found[alias]):
            raise LoadError(
                f"{file} does not fill the model: {alias} is a second name of {name}, and they differ. "
                "The file is damaged, or of a changed model: fetch it again"
            )
    return [name for name in unknown if name not in _ALIASES]


def _place(names: Iterable[str], averaged: bool) -> tuple[str, Layout]:
    """The prefix before most names of one layout, and that layout.

    Of equal prefixes an average, or its student; then the one with the fewest other names behind it; then the shortest.
    """
    known: Counter[tuple[str, str]] = Counter()
    behind: Counter[str] = Counter()
    for name in names:
        parts = name.split(".", _DEEPEST)
        for start in range(len(parts)):
            inside = ".".join(parts[start:])
            prefix = name.removesuffix(inside)
            behind[prefix] += _DECODER.fullmatch(inside) is None
            known.update((prefix, layout.name) for layout in LAYOUTS if layout.knows(inside))

    def rank(prefix: str) -> tuple[int, bool, int, int, str]:
        is_average = _AVERAGED.search(prefix) is not None
        return -known[prefix, of(prefix).name], is_average is not averaged, behind[prefix], prefix.count("."), prefix

    def of(prefix: str) -> Layout:
        return max(LAYOUTS, key=lambda layout: known[prefix, layout.name])

    best = min({prefix for prefix, _ in known}, key=rank, default="")
    return best, of(best)


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
