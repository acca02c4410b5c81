"""Any image model of timm behind the interface of ours, so that both train under the same recipe.

timm is optional: it is imported when a `timm:` model is made, and never before.
"""

from __future__ import annotations

import difflib
import glob
import re
from typing import Any

import torch
from torch import Tensor, nn

from convnextv2.errors import UserError
from convnextv2.models.config import TIMM_PREFIX as PREFIX
from convnextv2.models.config import TimmConfig

_STRIDES = (4, 8, 16, 32)


class TimmBackbone(nn.Module):
    """A timm model with timm's initial weights; parameter names are timm's, under `net.`.

    config: timm's name of the architecture, and the channels of the images. Trained weights are never fetched.
    num_classes: 0 for no head; `model(images)` then gives pooled features.
    image_size: pixels on a side that the model is built for if it depends on them (ViT, Swin, ...), and tried with one
    black image; None for timm's own size, untried.
    drop_path_rate: in place of timm's default, also if 0.
    head_init_scale: factor on weight and bias of the head's last linear map.
    any_size: let it take other sizes too, if it is built for one but can (Swin).

    num_features: dimension of the pooled features.
    ignored: which of "drop_path_rate" and "head_init_scale" were requested but do not apply to this model.

    Raises UserError if timm is not installed, does not know the name, or the model does not fit the images.
    """

    def __init__(
        self,
        config: TimmConfig,
        *,
        num_classes: int,
        image_size: int | None = None,
        drop_path_rate: float = 0.0,
        head_init_scale: float = 1.0,
        any_size: bool = False,
    ) -> None:
        super().__init__()
        name, in_chans = config.name.removeprefix(PREFIX), config.in_chans
        _check_name(name)
        _check(num_classes, image_size, drop_path_rate)
        self.config = config
        self.name, self.num_classes, self.in_chans, self.image_size = name, num_classes, in_chans, image_size
        self.net: Any
        try:
            self.net, unknown = _build(
                name,
                {"num_classes": num_classes, "in_chans": in_chans},
                {
                    "img_size": image_size,
                    "drop_path_rate": drop_path_rate,
                    **({"strict_img_size": False} if any_size else {}),
                },
            )
            if image_size is not None:
                self._try(image_size)
        except Exception as error:  # timm's models raise all kinds
            raise UserError(_does_not_fit(name, in_chans, image_size, error)) from error
        # Some models widen the last feature map in their head.
        self.num_features: int = getattr(self.net, "head_hidden_size", None) or self.net.num_features
        self._scale_head(head_init_scale)
        without = {
            "drop_path_rate": drop_path_rate != 0 and "drop_path_rate" in unknown,
            "head_init_scale": head_init_scale != 1 and not self._last_maps(),
        }
        self.ignored = tuple(argument for argument, missing in without.items() if missing)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes).  images: (B, in_chans, H, W), normalised."""
        return self.net(self._checked(images)) if self.num_classes else self.pooled_features(images)

    def pooled_features(self, images: Tensor) -> Tensor:
        """Return the input of the head's last linear map, (B, num_features)."""
        return self.net.forward_head(self.net.forward_features(self._checked(images)), pre_logits=True)

    @property
    def dims(self) -> tuple[int, ...]:
        """The channels of `feature_maps`. Raises UserError for a model without four maps of strides 4 to 32."""
        return tuple(dim for _, dim in self._map_places())

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return four maps of strides 4, 8, 16 and 32, (B, dims[k], h, w), without a norm.

        Raises UserError for a model without such maps, as a ViT, which has one stride.
        """
        places = [place for place, _ in self._map_places()]
        return list(
            self.net.forward_intermediates(
                self._checked(images), indices=places, norm=False, output_fmt="NCHW", intermediates_only=True
            )
        )

    def _map_places(self) -> list[tuple[int, int]]:
        """Index and channels of the last map of each of the four strides."""
        if not hasattr(self.net, "forward_intermediates") or not hasattr(self.net, "feature_info"):
            raise UserError(f"timm gives no feature maps of {PREFIX}{self.name}: give a ConvNeXt, Swin or ResNet")
        info: Any = self.net.feature_info
        entries = [info[each] if isinstance(info, list) else info.get_dicts()[each] for each in range(len(info))]
        by_stride = {int(each["reduction"]): (place, int(each["num_chs"])) for place, each in enumerate(entries)}
        if not all(stride in by_stride for stride in _STRIDES):
            raise UserError(
                f"{PREFIX}{self.name} has maps of strides {', '.join(map(str, sorted(by_stride)))}, and segmentation"
                f" needs {', '.join(map(str, _STRIDES))}: give a ConvNeXt, Swin or ResNet"
            )
        return [by_stride[stride] for stride in _STRIDES]

    def classifiers(self) -> list[nn.Module]:
        """Return the modules that make the logits: one, or several whose logits timm averages (distillation heads)."""
        found = self.net.get_classifier() if self.num_classes else ()
        return list(found) if isinstance(found, tuple | list | nn.ModuleList) else [found]

    def _last_maps(self) -> list[nn.Linear | nn.Conv2d]:
        modules = [module for classifier in self.classifiers() for module in classifier.modules()]
        linear = [module for module in modules if isinstance(module, nn.Linear | nn.Conv2d)]
        return [module for module in linear if len(module.weight) == self.num_classes]

    @torch.no_grad()
    def _scale_head(self, scale: float) -> None:
        for parameter in (p for module in self._last_maps() for p in module.parameters()):
            parameter.mul_(scale)

    @torch.no_grad()
    def _try(self, size: int) -> None:
        self.eval()
        self(next(self.net.parameters()).new_zeros(1, self.in_chans, size, size))
        self.train()

    def _checked(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            raise UserError(f"images must be (B, {self.in_chans}, H, W), got {tuple(images.shape)}")
        return images


def lr_scales(model: TimmBackbone, decay: float) -> dict[str, float]:
    """Return the factor on the learning rate by parameter name: `decay` to the number of layers after its own.

    timm defines the layers of each model (`group_matcher`); the head is the last one. In some families, ViT and
    Swin among them, the norm before the head counts to the last block.

    Raises UserError if timm does not define them and `decay` is not 1.
    """
    names = [name for name, _ in model.net.named_parameters()]
    if decay == 1:
        return {f"net.{name}": 1.0 for name in names}
    if not hasattr(model.net, "group_matcher"):
        raise UserError(f"timm does not define what the layers of {PREFIX}{model.name} are: give --layer-decay 1")
    from timm.models import group_parameters

    layers: Any = group_parameters(model.net, model.net.group_matcher(coarse=False), reverse=True)
    last = max(layers.values())
    return {f"net.{name}": decay ** (last - layers[name]) for name in names}


def _build(name: str, needed: dict[str, Any], optional: dict[str, Any]) -> tuple[nn.Module, set[str]]:
    """Return the timm model, and which of the optional arguments (None: not given) its constructor does not know."""
    import timm

    optional, unknown = dict(optional), set()
    while True:
        try:
            return timm.create_model(name, pretrained=False, **needed, **optional), unknown
        except TypeError as error:
            named = re.findall(r"'(\w+)'", str(error).partition("unexpected keyword argument")[2])
            refused = optional.keys() & set(named)
            if not refused:
                raise
            unknown |= refused
            optional = {argument: value for argument, value in optional.items() if argument not in refused}


def _check_name(name: str) -> None:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UserError(f"--model {PREFIX}{name} needs timm: pip install 'convnextv2[timm]'") from error
    if not timm.is_model(name):
        starts = sorted(timm.list_models(f"{glob.escape(name)}*"), key=len) if name else []
        near = starts or difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        near = [PREFIX + known for known in near[:3] or ("vit_base_patch16_224", "resnet50")]
        raise UserError(f"timm has no model called {name!r}; did you mean {', '.join(near)}?")
    architecture, _, weights = name.partition(".")
    if weights:
        raise UserError(
            f"{PREFIX}{name} names trained weights ({weights}), and a timm model starts from random ones here: "
            f"give --model {PREFIX}{architecture}"
        )


def _check(num_classes: int, image_size: int | None, drop: float) -> None:
    rules = [
        (num_classes >= 0, f"num_classes must be 0 (no head) or more, got {num_classes}"),
        (image_size is None or image_size >= 1, f"image_size must be at least 1, got {image_size}"),
        (0 <= drop < 1, f"drop_path_rate must be at least 0 and below 1, got {drop}"),
    ]
    for holds, message in rules:
        if not holds:
            raise UserError(message)


def _does_not_fit(name: str, in_chans: int, image_size: int | None, error: Exception) -> str:
    """Return one line: what was requested, timm's error, and the images that the model is made for."""
    from timm.models import get_pretrained_cfg

    said = " ".join(str(error).split()) or type(error).__name__
    pixels = f"{image_size}x{image_size} pixels" if image_size else "its own size"
    known = get_pretrained_cfg(name)
    hint = f"; it is made for {known.input_size[0]} channels and --image-size {known.input_size[1]}" if known else ""
    return f"{PREFIX}{name} does not work for images of {in_chans} channels and {pixels} (timm: {said}){hint}"
