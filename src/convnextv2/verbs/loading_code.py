"""The line of Python that loads converted weights in the project that they were converted for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from convnextv2.models.config import EncoderConfig
from convnextv2.weights import kinds
from convnextv2.weights.model_file import ModelFile

_OFFICIAL = (
    ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"),
    ("tiny", "small", "base", "large", "xlarge"),
)
_TORCHVISION = ("tiny", "small", "base", "large")


def loading_code(held: ModelFile, to: str, out: str) -> str:
    """Return one line of Python, which makes `model`: as many classes, channels, depths and widths as the weights have.

    to: as `convert` has it.  out: the file or folder, as it was named.
    """
    assert isinstance(held.info.architecture, EncoderConfig)
    return _PROJECTS[to](_Converted(held, held.info.architecture, repr(out)))


@dataclass(frozen=True)
class _Converted:
    """What the lines are made of. path: of the target, as Python writes it."""

    held: ModelFile
    config: EncoderConfig
    path: str

    @property
    def classes(self) -> int:
        return len(self.held.info.classes) if self.held.info.kind in kinds.BACKBONES else 0

    @property
    def size(self) -> str:
        """The size's name without the family: "tiny"."""
        return self.config.name.partition("_")[2]

    def is_one_of(self, sizes: tuple[str, ...]) -> bool:
        """Whether it is a named size that the other project has, too."""
        return self.config.is_named_size and self.size in sizes

    @property
    def shape(self) -> dict[str, object]:
        return {"depths": list(self.config.depths), "dims": list(self.config.dims)}

    @property
    def channels(self) -> dict[str, object]:
        return {"in_chans": self.config.in_chans} if self.config.in_chans != 3 else {}

    def stem(self, place: str) -> list[str]:
        """A statement that replaces the stem, where the other project knows only one of stride 4."""
        if self.config.stem_stride == 4:
            return []
        return [self._convolution(place)]

    def any_stem(self, place: str) -> list[str]:
        """The same, where the other project knows only images of three channels, too."""
        return [self._convolution(place)] if self.config.in_chans != 3 else self.stem(place)

    def _convolution(self, place: str) -> str:
        config = self.config
        stride = config.stem_stride
        return f"{place} = torch.nn.Conv2d({config.in_chans}, {config.dims[0]}, {stride}, {stride})"


def _timm(made: _Converted) -> str:
    shape = {} if made.config.is_named_size else made.shape
    arguments = {**shape, **made.channels, "num_classes": made.classes}
    if made.config.stem_stride == 4:
        return (
            f"import timm; model = {_call('timm.create_model', made.config.name, arguments, checkpoint_path=made.path)}"
        )
    return "; ".join(
        [
            "import timm, torch",
            f"model = {_call('timm.create_model', made.config.name, arguments)}",
            *made.stem("model.stem[0]"),
            f"timm.models.load_checkpoint(model, {made.path})",
        ]
    )


def _transformers(made: _Converted) -> str:
    kind = "AutoModelForImageClassification" if made.classes else "AutoModel"
    return f"import transformers; model = transformers.{kind}.from_pretrained({made.path})"


def _official(made: _Converted) -> str:
    v2 = made.config.grn
    module, general = ("convnextv2", "ConvNeXtV2") if v2 else ("convnext", "ConvNeXt")
    named = made.is_one_of(_OFFICIAL[0] if v2 else _OFFICIAL[1])
    name, shape = (made.config.name, {}) if named else (general, made.shape)
    arguments = {**shape, **made.channels} | ({"num_classes": made.classes} if made.classes else {})
    return "; ".join(
        [
            f"import torch; from models.{module} import {name}",
            f"model = {_call(name, None, arguments)}",
            *made.stem("model.downsample_layers[0][0]"),
            *([] if made.classes else ["model.head = torch.nn.Identity()"]),
            f"model.load_state_dict(torch.load({made.path}, map_location='cpu')['model'])",
        ]
    )


def _minkowski(made: _Converted) -> str:
    options: Mapping[str, Any] = made.held.info.options
    decoder = {
        ours: options[name]
        for ours, name in (("decoder_depth", "decoder_depth"), ("decoder_embed_dim", "decoder_dim"))
        if name in options
    }
    arguments = {"img_size": made.held.info.image_size, "in_chans": made.config.in_chans, **made.shape, **decoder}
    strict = "" if decoder else ", strict=False"  # a new decoder
    return "; ".join(
        [
            "import torch; from models.fcmae import FCMAE",
            f"model = {_call('FCMAE', None, {**arguments, 'norm_pix_loss': options.get('norm_pix_loss', True)})}",
            *made.stem("model.encoder.downsample_layers[0][0]"),
            f"model.load_state_dict(torch.load({made.path}, map_location='cpu')['model']{strict})",
        ]
    )


def _mmpretrain(made: _Converted) -> str:
    config = made.config
    arch = made.size if config.is_named_size else {"depths": list(config.depths), "channels": list(config.dims)}
    backbone: dict[str, object] = {"type": "ConvNeXt", "arch": arch}
    if config.grn:
        backbone |= {"use_grn": True, "layer_scale_init_value": 0.0}
    if config.in_chans != 3:
        backbone["in_channels"] = config.in_chans
    if config.stem_stride != 4:
        backbone["stem_patch_size"] = config.stem_stride
    model: dict[str, object] = {"type": "ImageClassifier", "backbone": backbone}
    if made.classes:
        model["head"] = {"type": "LinearClsHead", "num_classes": made.classes, "in_channels": config.dims[3]}
    arguments = f"mmengine.Config({{'model': {model!r}}}), pretrained={made.path}"
    return f"import mmengine, mmpretrain; model = mmpretrain.get_model({arguments})"


def _torchvision(made: _Converted) -> str:
    if made.is_one_of(_TORCHVISION):
        imported, function, arguments = f"from torchvision.models import {made.config.name}", made.config.name, ""
    else:
        dims, depths = (*made.config.dims, None), made.config.depths
        stages = [f"CNBlockConfig({dims[s]}, {dims[s + 1]}, {depths[s]})" for s in range(4)]
        imported = "from torchvision.models.convnext import CNBlockConfig, ConvNeXt"
        function, arguments = "ConvNeXt", f"[{', '.join(stages)}]"
    if made.classes:
        arguments = ", ".join(filter(None, [arguments, f"num_classes={made.classes}"]))
    return "; ".join(
        [
            f"import safetensors.torch, torch; {imported}",
            f"model = {function}({arguments})",
            *made.any_stem("model.features[0][0]"),
            *([] if made.classes else ["model.classifier[2] = torch.nn.Identity()"]),
            f"model.load_state_dict(safetensors.torch.load_file({made.path}))",
        ]
    )


def _ours(made: _Converted) -> str:
    load = "load_pretrained" if made.held.info.kind == "fcmae" else "load"
    return f"import convnextv2; model = convnextv2.{load}({made.path}).model"


def _call(function: str, first: str | None, arguments: Mapping[str, object], **as_they_are: str) -> str:
    """A call, its arguments by name. as_they_are: already written."""
    given = [repr(first)] if first is not None else []
    given += [f"{name}={value!r}" for name, value in arguments.items()]
    given += [f"{name}={value}" for name, value in as_they_are.items()]
    return f"{function}({', '.join(given)})"


_PROJECTS: Mapping[str, Callable[[_Converted], str]] = {
    "convnextv2": _ours,
    "official": _official,
    "minkowski": _minkowski,
    "timm": _timm,
    "transformers": _transformers,
    "mmpretrain": _mmpretrain,
    "torchvision": _torchvision,
}
