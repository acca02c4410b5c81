"""What a new model takes from existing weights: its architecture, its tensors, its history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from convnextv2.errors import LoadError, UserError
from convnextv2.models import ConvNeXt
from convnextv2.models.config import TIMM_PREFIX, BackboneConfig, EncoderConfig, TimmConfig
from convnextv2.models.timm_backbone import TimmBackbone
from convnextv2.records import Preprocessing
from convnextv2.text import composed, shown
from convnextv2.weights.adapt import COLOURS, STEM, adapt
from convnextv2.weights.model_file import ModelFile, TrainingStep
from convnextv2.weights.strict import check

DEFAULT_MODEL = "convnextv2_atto"
_ADVICE = "Leave out --model and the options of its shape, so that the file decides"


@dataclass(frozen=True, kw_only=True)
class ArchitectureRequest:
    """The architecture that a user requests; None takes the value of the initial weights, else the default."""

    model: str | None = None
    in_chans: int | None = None
    stem_stride: int | None = None
    depths: Sequence[int] | None = None
    dims: Sequence[int] | None = None

    def resolve(self, init: ModelFile | None = None) -> BackboneConfig:
        """Return the architecture: what was requested, else that of the weights, else the defaults.

        Other channels and another stem stride may be requested, as the stem can be adapted (`weights.adapt`).

        Raises LoadError for another size, with what differs and what to type; UserError for an invalid architecture.
        """
        if init is None:
            return self._new()
        held = init.info.architecture
        wanted = self._like(held)
        different = _differences(wanted, held)
        if different:
            said = "; ".join(f"{name} {there} there, {asked} asked for" for name, there, asked in different)
            flags = " and ".join(f"--{n.replace('_', '-')}" for n, value in vars(self).items() if value is not None)
            raise LoadError(
                f"{init.path} does not fit: {said}. Leave out {flags}, so that the file decides, "
                "or name the weights of such a model"
            )
        return wanted

    def _new(self) -> BackboneConfig:
        name, in_chans = self.model or DEFAULT_MODEL, 3 if self.in_chans is None else self.in_chans
        if name.startswith(TIMM_PREFIX):
            self._check_none_of_ours(name)
            return TimmConfig(name=name, in_chans=in_chans)
        stride = 4 if self.stem_stride is None else self.stem_stride
        return EncoderConfig.named(name, depths=self.depths, dims=self.dims, in_chans=in_chans, stem_stride=stride)

    def _like(self, held: BackboneConfig) -> BackboneConfig:
        """Return the requested architecture, with unset values taken from `held`."""
        in_chans = held.in_chans if self.in_chans is None else self.in_chans
        name = self.model or held.name
        if name.startswith(TIMM_PREFIX):
            self._check_none_of_ours(name)
            return TimmConfig(name=name, in_chans=in_chans)
        stride, depths, dims = self.stem_stride, self.depths, self.dims
        if isinstance(held, EncoderConfig):
            stride = held.stem_stride if stride is None else stride
            if name == held.name:  # another name without a shape of its own means that size's shape
                depths, dims = depths or held.depths, dims or held.dims
        stride = 4 if stride is None else stride
        return EncoderConfig.named(name, depths=depths, dims=dims, in_chans=in_chans, stem_stride=stride)

    def _check_none_of_ours(self, name: str) -> None:
        if self.stem_stride not in (None, 4):
            raise UserError(
                f"--stem-stride {self.stem_stride} is for our models, and {name} has its own stem: leave it out"
            )
        for option, value in (("--depths", self.depths), ("--dims", self.dims)):
            if value is not None:
                raise UserError(f"{option} {tuple(value)} is for our models, and {name} has a fixed size: leave it out")


def _differences(wanted: BackboneConfig, held: BackboneConfig) -> list[tuple[str, str, str]]:
    """Return (name, value held, value requested) of all that keeps two architectures from having the same tensors."""
    if isinstance(wanted, TimmConfig) or isinstance(held, TimmConfig):
        if wanted.name != held.name:
            return [("model", held.name, wanted.name)]
        changed = wanted.in_chans != held.in_chans
        return [("in_chans", str(held.in_chans), str(wanted.in_chans))] if changed else []
    if wanted.grn != held.grn:
        return [("model", held.name, wanted.name)]
    both = [(name, getattr(held, name), getattr(wanted, name)) for name in ("depths", "dims")]
    return [(name, _plain(there), _plain(asked)) for name, there, asked in both if there != asked]


def _plain(numbers: Sequence[int]) -> str:
    return "/".join(map(str, numbers))


def preprocessing_for(in_chans: int, init: ModelFile | None) -> Preprocessing:
    """Return the statistics of the initial weights if they are for as many channels, else the defaults.

    Their value range is kept either way.
    """
    if init is None:
        return Preprocessing.for_channels(in_chans)
    held = init.info.preprocessing
    if len(held.mean) == in_chans:
        return held
    return replace(Preprocessing.for_channels(in_chans), value_range=held.value_range)


def history(init: ModelFile | None) -> tuple[TrainingStep, ...]:
    """Return the earlier training steps of a model that starts from `init`, oldest first."""
    if init is None:
        return ()
    info = init.info
    step = TrainingStep(info.format, info.trained_on or "", info.published or shown(init.path.name), init.sha256)
    return (*(info.trained_from or ()), step)


def fill_backbone(
    model: ConvNeXt | TimmBackbone,
    init: ModelFile,
    classes: Sequence[str],
    inflate: str = "repeat",
    *,
    names: Sequence[str] = (),
) -> str:
    """Load a file's encoder into a backbone; returns a summary of how stem and head were loaded.

    Everything but the head loads, or nothing does: LoadError lists what is missing, unexpected or misshaped.
    The head is loaded from a classifier of exactly the same classes, else stays as initialised. The stem is adapted
    to other channels and to another stride (see `weights.adapt`; inflate: its `how`; names: of the model's channels).
    """
    info, target = init.info, model.state_dict()
    same = info.kind == "classifier" and tuple(map(composed, classes)) == tuple(map(composed, info.classes))
    head, encoder, said = _head_names(model), init.encoder(), []
    if isinstance(model, ConvNeXt) and STEM in encoder:
        stem = {"in_chans": model.in_chans, "stem_stride": model.stem_stride, "how": inflate}
        encoder, said = adapt(encoder, **stem, names=names, had=_channel_names(init))
    tensors = {name: value for name, value in encoder.items() if same or name not in head}
    needed = {name: tuple(value.shape) for name, value in target.items() if same or name not in head}
    size = getattr(model, "image_size", None) or info.image_size
    advice = _ADVICE
    if size != info.image_size:
        advice = f"Leave out --image-size {size}: those weights are for {info.image_size} pixels"
    elif isinstance(model, TimmBackbone):
        advice = f"{_ADVICE}; if it does already, install the version of timm that they were written with"
    check(needed, tensors, what=init.title, advice=advice)
    model.load_state_dict(target | tensors)
    said += licence_note(init)
    if same:
        said.insert(0, f"all weights from {init.path}, head included, as the classes are the same")
        return "; ".join(said)
    had = f"; its head of {len(info.classes)} classes is left out" if info.classes else ""
    return "; ".join([f"encoder from {init.path}{had}; a new head for {len(classes)} classes", *said])


def _channel_names(init: ModelFile) -> tuple[str, ...]:
    """What the channels of a file are called, as far as they are known."""
    bands = init.info.preprocessing.bands
    if bands is not None:
        return bands.names
    return COLOURS if len(init.info.preprocessing.mean) == 3 else ()


def fill_encoder(
    model: nn.Module, init: ModelFile, inflate: str = "repeat", *, rest_is: str = "rest", names: Sequence[str] = ()
) -> str:
    """Load a file into a model that holds a `ConvNeXt` as `encoder`; returns a summary of what was loaded.

    All of the encoder loads, or nothing does: LoadError lists what is missing, unexpected or misshaped. Its stem is
    adapted to other channels and another stride; a classifier's head is left out. The rest of the model is
    loaded if the file is of the same kind of model and shape; `rest_is` is what the summary calls it.
    names: of the model's channels, where they have any.
    """
    target: dict[str, Any] = model.state_dict()
    encoder = {name: tensor for name, tensor in init.encoder().items() if not name.startswith("head.")}
    own: ConvNeXt = model.encoder  # pyright: ignore[reportAssignmentType]
    stem = {"in_chans": own.in_chans, "stem_stride": own.stem_stride, "how": inflate}
    encoder, said = adapt(encoder, **stem, names=names, had=_channel_names(init))
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    needed = {name: tuple(tensor.shape) for name, tensor in target.items() if name.startswith("encoder.")}
    check(needed, tensors, what=init.title, advice=_ADVICE)
    rest = init.beside_encoder()
    same = {name: tensor.shape for name, tensor in target.items() if name not in tensors}
    if rest and {name: tensor.shape for name, tensor in rest.items()} == same:
        model.load_state_dict(tensors | rest)
        said.insert(0, f"encoder and {rest_is} from {init.path}")
    else:
        model.load_state_dict(target | tensors)
        what = f"its {rest_is} is of another shape and left out" if rest else f"a new {rest_is}"
        said.insert(0, f"encoder from {init.path}; {what}")
    return "; ".join([*said, *licence_note(init)])


def licence_note(init: ModelFile) -> list[str]:
    """Return a line on the licence of the weights, if they have one."""
    return [f"licence of these weights: {init.info.licence}"] if init.info.licence is not None else []


def absolute(source: Path | None) -> Path | None:
    """Return the absolute path of a file or folder, so that a run resumes from anywhere; another source as it is."""
    return source.resolve() if source is not None and source.exists() else source


def _head_names(model: ConvNeXt | TimmBackbone) -> set[str]:
    """Names of the tensors whose shape follows from the number of classes, also if the model has no head."""
    if isinstance(model, ConvNeXt):
        return {"head.weight", "head.bias"}
    of_heads = {id(p) for head in model.classifiers() for p in head.parameters()}
    return {name for name, p in model.named_parameters() if id(p) in of_heads}
