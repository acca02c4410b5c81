"""Our models through timm's `create_model`, for all that is built on it: names that begin with `fcmae_`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from convnextv2.errors import UserError
from convnextv2.loading import warn_if_adapted
from convnextv2.models import SIZES, ConvNeXt, EncoderConfig
from convnextv2.weights.init import ArchitectureRequest, fill_backbone, preprocessing_for
from convnextv2.weights.load import read
from convnextv2.weights.model_file import ModelFile

PREFIX = "fcmae_"


class TimmConvNeXt(ConvNeXt):
    """A `ConvNeXt` with the methods that timm requires of a model; tensors and their names are the same.

    global_pool: "avg", or "" for maps in place of pooled features.  drop_rate: dropout before the head.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        in_chans: int | None = None,
        **arguments: Any,
    ) -> None:
        """in_chans: passed on by timm from what it keeps about the model; the same as in the config."""
        assert in_chans in (None, config.in_chans)
        super().__init__(config, **arguments)
        self.num_features = self.head_hidden_size = self.dims[3]
        self.feature_info = [
            {"num_chs": dim, "reduction": stride, "module": f"stages.{stage}"}
            for stage, (dim, stride) in enumerate(zip(self.dims, self.strides, strict=True))
        ]
        self.drop_rate = drop_rate
        self._set_pool(global_pool)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes); features or maps if there is no head.  images: (B, in_chans, H, W)."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map of the last stage, (B, dims[3], H / stride, W / stride)."""
        return self.feature_maps(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Apply pool, norm, dropout and, unless `pre_logits`, head to the map x, (B, dims[3], H, W)."""
        if not self.global_pool:
            x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return x if pre_logits or isinstance(self.head, nn.Identity) else self.head(x.mean((2, 3)))
        x = nn.functional.dropout(self.norm(x.mean((2, 3))), self.drop_rate, self.training)
        return x if pre_logits else self.head(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the last map, and those of the stages s in `indices`, (B, dims[s], H, W).

        indices: an int takes the last so many, None all.  intermediates_only: leave out the last map.

        norm, stop_early: as timm has them for a ConvNeXt, whose stages have no norm of their own.
        """
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt={output_fmt!r}: these models give NCHW")
        taken = self._stages(indices)
        maps = self.feature_maps(x)
        found = [maps[stage] for stage in range(len(maps)) if stage in taken]
        return found if intermediates_only else (maps[-1], found)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last of `indices`, and the head; returns the indices counted from 0."""
        taken = self._stages(indices)
        del self.stages[max(taken) + 1 :]
        del self.downsample_layers[max(taken) + 1 :]
        if prune_norm:
            self.norm = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        if prune_head:
            self.reset_classifier(0)
        return taken

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a new one of so many classes, or none with 0."""
        if global_pool is not None:
            self._set_pool(global_pool)
        self.num_classes = num_classes
        like = next(self.stages.parameters())
        place = {"device": like.device, "dtype": like.dtype}
        self.head = nn.Linear(self.dims[3], num_classes, **place) if num_classes else nn.Identity()

    def no_weight_decay(self) -> set[str]:
        """Return the parameters besides norms and biases that do not decay: GRN's, which have four axes here."""
        return {name for name, _ in self.named_parameters() if ".grn." in name}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return groups of layers, for timm's layer-wise decay."""
        if coarse:
            return {"stem": r"^downsample_layers\.0", "blocks": r"^(?:downsample_layers|stages)\.(\d+)"}
        return {
            "stem": r"^downsample_layers\.0",
            "blocks": [
                (r"^downsample_layers\.(\d+)", (0,)),
                (r"^stages\.(\d+)\.(\d+)", None),
                (r"^norm", (99999,)),
            ],
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Raise AssertionError if enabled: not supported, as in timm's own models without it."""
        assert not enable, "gradient checkpointing not supported"

    def _set_pool(self, global_pool: str) -> None:
        if global_pool not in ("avg", ""):
            raise UserError(f"global_pool={global_pool!r}: give 'avg', or '' for maps")
        self.global_pool = global_pool

    def _stages(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.stages)
        wanted = range(count)[-indices:] if isinstance(indices, int) else (range(count) if indices is None else indices)
        taken = [index % count for index in wanted if -count <= index < count]
        if not taken or len(taken) < len(wanted) or indices == 0:
            raise UserError(f"indices {indices}: the stages are 0 to {count - 1}")
        return taken


def register_with_timm() -> list[str]:
    """Register every size with timm as `fcmae_NAME`, V2 and V1, and return the names; once is enough.

        convnextv2.register_with_timm()
        timm.create_model("fcmae_convnextv2_tiny", features_only=True, weights="run")

    `weights` is a source as `load` takes it; the architecture is then the source's unless the call gives it,
    and its head stays if the number of classes does. timm's own `checkpoint_path` takes a state dict in official names.

    Raises UserError if timm is not installed.
    """
    try:
        from timm.models import is_model, register_model
    except ImportError:
        raise UserError("timm is not installed: pip install 'convnextv2[timm]'") from None
    names = [PREFIX + name for name in SIZES]
    for name in names:
        if not is_model(name):
            register_model(_builder(name))
    return names


def _builder(name: str) -> Any:
    """Return the function that timm calls by its own name; it is in this module, where timm looks for its settings."""

    def build(pretrained: bool = False, **arguments: Any) -> nn.Module:
        return _build(name, pretrained, arguments)

    build.__name__ = build.__qualname__ = name
    build.__module__ = __name__
    return build


def _build(name: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    from timm.models import build_model_with_cfg

    source = arguments.pop("weights", None)
    if pretrained and source is None:
        raise UserError(f"{name} has no weights of its own: give weights=SOURCE, as weights='convnextv2_tiny.fcmae'")
    held = read(Path(source) if isinstance(source, Path) else str(source)) if source is not None else None
    request = ArchitectureRequest(
        model=name.removeprefix(PREFIX),
        **{key: arguments.pop(key, None) for key in ("in_chans", "stem_stride", "depths", "dims")},
    )
    config = request.resolve(held)
    assert isinstance(config, EncoderConfig)
    if held is not None:
        arguments.setdefault("num_classes", len(held.info.classes))
    getter = arguments.pop("feature_cls", None)
    if getter not in (None, "getter"):
        raise UserError(f"feature_cls={getter!r}: these models give features only by 'getter'")
    overlay = arguments.pop("pretrained_cfg_overlay", None) or {}
    for unused in ("img_size", "pretrained_cfg", "cache_dir", "scriptable", "exportable"):
        arguments.pop(unused, None)
    only_features = bool(arguments.get("features_only"))
    if only_features:
        arguments["num_classes"] = 0
    model = build_model_with_cfg(
        TimmConvNeXt,
        name,
        pretrained=False,
        pretrained_cfg=_settings(config, arguments.get("num_classes", 1000), held) | overlay,
        feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": _getter(held)},
        config=config,
        **arguments,
    )
    if held is not None and not only_features:
        same = model.num_classes == len(held.info.classes)
        classes = held.info.classes if same else tuple(map(str, range(model.num_classes)))
        warn_if_adapted(fill_backbone(model, held, classes))
    return model


def _getter(held: ModelFile | None) -> Any:
    """Return timm's feature extractor; the weights are loaded before it cuts stages off."""
    from timm.models._features import FeatureGetterNet

    if held is None:
        return FeatureGetterNet

    class Filled(FeatureGetterNet):
        def __init__(self, model: Any, **options: Any) -> None:
            warn_if_adapted(fill_backbone(model, held, ()))
            super().__init__(model, **options)

    return Filled


def _settings(config: EncoderConfig, num_classes: int, held: ModelFile | None) -> dict[str, Any]:
    """Return what timm keeps about a model: its input, and the names of its first and last layer."""
    in_chans, stem_stride = config.in_chans, config.stem_stride
    size, crop = (56 * stem_stride, None) if held is None else (held.info.image_size, held.info.crop_pct)
    statistics = preprocessing_for(in_chans, held)
    whole = crop is None and size >= 384  # as `data.transforms.geometry.CenterFit` has it
    return {
        "url": "",
        "num_classes": num_classes,
        "input_size": (in_chans, size, size),
        "pool_size": (max(1, size // (8 * stem_stride)),) * 2,
        "crop_pct": 1.0 if whole else crop or 0.875,
        "crop_mode": "squash" if whole else "center",
        "interpolation": "bicubic",
        "mean": statistics.mean,
        "std": statistics.std,
        "first_conv": "downsample_layers.0.0",
        "classifier": "head",
    }
