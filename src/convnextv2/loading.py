"""Models ready to use, from a name or from weights in any layout we know."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from convnextv2.errors import LoadError, Notice, UserError
from convnextv2.inference.loaded import LoadedModel
from convnextv2.models import ConvNeXt, build_backbone
from convnextv2.models import create_model as create_untrained
from convnextv2.models.config import size_of
from convnextv2.models.timm_backbone import TimmBackbone
from convnextv2.settings import argument, converted
from convnextv2.text import listed
from convnextv2.weights import kinds
from convnextv2.weights.init import ArchitectureRequest, fill_backbone, preprocessing_for
from convnextv2.weights.load import read
from convnextv2.weights.model_file import Weights, check_choice
from convnextv2.weights.sources.published import PUBLISHED, published

Backbone = ConvNeXt | TimmBackbone


def load(
    source: str | Path,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    stem_stride: int | None = None,
    inflate: str = "repeat",
    drop_path_rate: float = 0.0,
    weights: Weights = "average",
    checkpoint: str | None = None,
) -> LoadedModel[Backbone]:
    """Load the classifier or encoder that weights hold; of any other kind of model its encoder.

    source: a run, a file or folder in any layout we know, the name of published weights, or hf:OWNER/NAME (see
    `weights.load.read`).  num_classes: another number than the file's gives a new head, 0 none.  in_chans,
    stem_stride: others than the file's adapt its stem; inflate: "repeat", "mean", or channels as "0,1,2,0".
    weights: of a file that holds both, the EMA or the weights of the last step.  checkpoint: of a run, "best" or
    "latest"; by default the best if it has one.

    Warns (LicenceNotice) of weights that may not be used commercially. Raises UserError if there is no such source, or
    for an argument of another type; LoadError if it is damaged, wants to run code, or does not fill the model. Nothing
    is half loaded.
    """
    in_chans, stem_stride = _checked(in_chans=in_chans, stem_stride=stem_stride)
    request = ArchitectureRequest(in_chans=in_chans, stem_stride=stem_stride)
    return load_backbone(
        source,
        request,
        num_classes=num_classes,
        inflate=inflate,
        drop_path_rate=drop_path_rate,
        weights=weights,
        checkpoint=checkpoint,
    )


def create_model(
    name: str,
    *,
    pretrained: str | Path | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    stem_stride: int | None = None,
    drop_path_rate: float = 0.0,
    depths: Sequence[int] | None = None,
    dims: Sequence[int] | None = None,
    layer_scale: float = 1e-6,
    head_init_scale: float = 1.0,
    inflate: str = "repeat",
) -> ConvNeXt:
    """Create a ConvNeXt by name, with random weights, or with those of `pretrained`.

    name: `convnextv2_atto` .. `convnextv2_huge`, `convnext_atto` .. `_xlarge`; or with a tag of published weights, as
    `convnextv2_tiny.fcmae_ft_in22k_in1k_384` (`convnextv2 zoo` lists them), which are then loaded.
    pretrained: a source as `load` takes it; it must hold a model of this name.
    num_classes: 1000 by default, or as many as the weights have; 0 for no head, and another number than the
    weights' for a new one.  in_chans, stem_stride: 3 and 4 by default, or those of the weights; others adapt the stem.
    The other arguments are those of `EncoderConfig` and `ConvNeXt`.

    Warns if the stem was adapted, and as `load`. Raises UserError for an unknown name, with the nearest known ones, and
    for an argument of another type; LoadError for weights that do not fit.
    """
    (name,) = _checked(name=name)
    size, pretrained = _size_and_weights(name, pretrained)
    num_classes, in_chans, stem_stride = _checked(num_classes=num_classes, in_chans=in_chans, stem_stride=stem_stride)
    depths, dims = _checked(depths=depths, dims=dims)
    drop_path_rate, layer_scale, head_init_scale = _checked(
        drop_path_rate=drop_path_rate, layer_scale=layer_scale, head_init_scale=head_init_scale
    )
    if pretrained is None:
        return create_untrained(
            name,
            num_classes=1000 if num_classes is None else num_classes,
            in_chans=3 if in_chans is None else in_chans,
            stem_stride=4 if stem_stride is None else stem_stride,
            drop_path_rate=drop_path_rate,
            depths=depths,
            dims=dims,
            layer_scale=layer_scale,
            head_init_scale=head_init_scale,
        )
    size_of(size)
    request = ArchitectureRequest(model=size, depths=depths, dims=dims, in_chans=in_chans, stem_stride=stem_stride)
    loaded = load_backbone(
        pretrained,
        request,
        num_classes=num_classes,
        inflate=inflate,
        drop_path_rate=drop_path_rate,
        head_init_scale=head_init_scale,
    )
    assert isinstance(loaded.model, ConvNeXt)
    warn_if_adapted(loaded.said)
    return loaded.model.train()


def load_kind(
    source: str | Path, kind: str, *, weights: Weights = "average", checkpoint: str | None = None, instead: str
) -> LoadedModel[Any]:
    """Load a whole model of one kind, as the task that trains it builds it.

    weights, checkpoint: see `load`.  instead: what to say after the name of a file of another kind.

    Raises UserError if there is no such source; LoadError if it is damaged or of another kind.
    """
    check_choice(weights, checkpoint)
    (source,) = _checked(source=source)
    held = read(source, weights=weights, which=checkpoint)
    if held.info.kind != kind:
        raise LoadError(f"{held.path} {instead}")
    model = kinds.build(held.info)
    model.load_state_dict(dict(held.tensors))
    return LoadedModel(model=model.eval(), info=held.info, file=held.path, averaged=held.averaged)


def load_backbone(
    source: str | Path,
    request: ArchitectureRequest,
    *,
    num_classes: int | None = None,
    inflate: str = "repeat",
    drop_path_rate: float = 0.0,
    head_init_scale: float = 1.0,
    weights: Weights = "average",
    checkpoint: str | None = None,
) -> LoadedModel[Backbone]:
    """Load a backbone of the architecture that was asked for; see `load` for the other arguments."""
    check_choice(weights, checkpoint)
    source, num_classes, inflate = _checked(source=source, num_classes=num_classes, inflate=inflate)
    drop_path_rate, head_init_scale = _checked(drop_path_rate=drop_path_rate, head_init_scale=head_init_scale)
    if num_classes is not None and num_classes < 0:
        raise UserError(f"num_classes must be 0 (no head) or more, got {num_classes}")
    held = read(source, weights=weights, which=checkpoint)
    config = request.resolve(held)
    had = held.info.classes if held.info.kind in kinds.BACKBONES else ()  # of any other model only the encoder
    classes = had if num_classes in (None, len(had)) else tuple(map(str, range(num_classes or 0)))
    model = build_backbone(
        config,
        num_classes=len(classes),
        image_size=held.info.image_size,
        drop_path_rate=drop_path_rate,
        head_init_scale=head_init_scale,
    )
    said = fill_backbone(model, held, classes, inflate)
    info = held.info.of_backbone(config, classes, preprocessing_for(config.in_chans, held))
    return LoadedModel(model=model.eval(), info=info, file=held.path, averaged=held.averaged, said=said)


def warn_if_adapted(said: str) -> None:
    """Warn of what was done to a stem, for callers that return only the model."""
    done = [part for part in said.split("; ") if part.startswith("stem ")]
    if done:
        warnings.warn("; ".join(done), Notice, 3)


_TYPES: dict[str, object] = {
    "name": str,
    "source": str | Path,
    **dict.fromkeys(("num_classes", "in_chans", "stem_stride"), int | None),
    **dict.fromkeys(("depths", "dims"), tuple[int, ...] | None),
    **dict.fromkeys(("drop_path_rate", "layer_scale", "head_init_scale"), float),
    "inflate": str,
}


def _checked(**given: object) -> Iterator[Any]:
    """The values of arguments, checked and converted by their types; see `settings.converted`."""
    return (converted(name, value, _TYPES[name]) for name, value in given.items())


def _size_and_weights(name: str, pretrained: object) -> tuple[str, str | Path | None]:
    """The size, and the weights that its tag or `pretrained` names. Raises UserError for what names nothing."""
    size, dot, _ = name.partition(".")
    if dot:
        if pretrained is not None:
            said = str(pretrained) if isinstance(pretrained, Path) else pretrained
            raise UserError(f"{name} names weights already: leave out its tag, or {argument('pretrained', said)}")
        return size, published(name).name
    with suppress(UserError):
        return size, converted("pretrained", pretrained, str | Path | None)
    size_of(size)
    tags = [tag for tag in PUBLISHED if tag.startswith(f"{size}.")]
    names = f" ({listed(tags, 3)})" if tags else ""
    raise UserError(
        f"{argument('pretrained', pretrained)}: give a path, or the name of published weights{names}; "
        "leave it out for random weights"
    )
