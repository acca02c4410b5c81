"""Models ready to use, from a name or from weights in any layout we know."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnextv2.errors import Notice, UserError
from convnextv2.models import ConvNeXt
from convnextv2.models import create_model as create_untrained
from convnextv2.models.create import size_of
from convnextv2.models.timm_backbone import TimmBackbone, create_any
from convnextv2.records import Preprocessing
from convnextv2.tasks.classify.weights import fill
from convnextv2.weights.init import architecture
from convnextv2.weights.load import read
from convnextv2.weights.model_file import CLASSIFIER, Weights
from convnextv2.weights.sources.published import published


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode, and what its file says of it.

    classes: names in the order of the logits; empty without a head.  image_size: pixels on a side.  crop_pct: of the
    evaluation; None for the usual.  licence: of the weights, where it is known.  layout: whose the file is.  said: what
    was adapted or left out, in words.
    """

    model: ConvNeXt | TimmBackbone
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    image_size: int
    crop_pct: float | None
    licence: str | None
    layout: str
    said: str
    file: Path


def load(
    source: str | Path,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    stem_stride: int | None = None,
    inflate: str = "repeat",
    drop_path_rate: float = 0.0,
    weights: Weights = "average",
) -> Loaded:
    """The classifier or encoder that weights hold; of a masked autoencoder its encoder.

    source: a run, a file or folder in any layout we know, the name of published weights, or hf:OWNER/NAME (see
    `checkpoints.load.read`).  num_classes: another number than the file's gives a new head, 0 none.  in_chans,
    stem_stride: others than the file's adapt its stem; inflate: "repeat", "mean", or channels as "0,1,2,0".
    weights: of a file that holds both, the averaged or the plain ones.

    Warns (LicenceNotice) of weights that may not be used commercially. Raises UserError where there is no such
    source; LoadError where it is damaged, wants to run code, or does not fill the model. Nothing is half loaded.
    """
    asked = {"model": None, "depths": None, "dims": None, "in_chans": in_chans, "stem_stride": stem_stride}
    return _load(source, asked, num_classes, inflate, weights, {"drop_path_rate": drop_path_rate})


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
    """A ConvNeXt by name, with random weights, or with those of `pretrained`.

    name: `convnextv2_atto` .. `convnextv2_huge`, `convnext_atto` .. `_xlarge`; or with a tag of published weights, as
    `convnextv2_tiny.fcmae_ft_in22k_in1k_384` (`convnextv2 zoo` lists them), which are then loaded.
    pretrained: a source as `load` takes it; it must hold a model of this name.
    num_classes: 1000 by default, or as many as the weights have; 0 for no head, and another number than the
    weights' for a new one.  in_chans, stem_stride: 3 and 4 by default, or those of the weights; others adapt the stem.
    The other arguments are those of `ConvNeXt`.

    Warns where the stem was adapted, and as `load`. Raises UserError for an unknown name, with the nearest known ones;
    LoadError for weights that do not fit.
    """
    size, dot, _ = name.partition(".")
    if dot:
        if pretrained is not None:
            raise UserError(f"{name} names weights already: leave out its tag, or pretrained={str(pretrained)!r}")
        pretrained = published(name).name
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
    asked = {"model": size, "depths": depths, "dims": dims, "in_chans": in_chans, "stem_stride": stem_stride}
    made = {"drop_path_rate": drop_path_rate, "head_init_scale": head_init_scale}
    loaded = _load(pretrained, asked, num_classes, inflate, "average", made)
    assert isinstance(loaded.model, ConvNeXt)
    warn_if_adapted(loaded.said)
    return loaded.model.train()


def warn_if_adapted(said: str) -> None:
    """Where a model alone is returned, what was done to its stem is said in a warning."""
    done = [part for part in said.split("; ") if part.startswith("stem ")]
    if done:
        warnings.warn("; ".join(done), Notice, 3)


def _load(
    source: str | Path,
    asked: Mapping[str, Any],
    num_classes: int | None,
    inflate: str,
    weights: Weights,
    made: Mapping[str, Any],
) -> Loaded:
    """asked: of the architecture, None for what the file says.  made: further arguments of the model."""
    if num_classes is not None and num_classes < 0:
        raise UserError(f"num_classes must be 0 (no head) or more, got {num_classes}")
    held = read(source, weights=weights)
    arguments = architecture(asked, held)
    had = held.classes if held.format == CLASSIFIER else ()
    classes = had if num_classes in (None, len(had)) else tuple(map(str, range(num_classes or 0)))
    name = arguments.pop("model")
    model = create_any(name, image_size=held.image_size, num_classes=len(classes), **arguments, **made)
    said = fill(model, held, classes, inflate)
    fits = len(held.preprocessing.mean) == arguments["in_chans"]
    return Loaded(
        model=model.eval(),
        classes=classes,
        preprocessing=held.preprocessing if fits else Preprocessing.for_channels(arguments["in_chans"]),
        image_size=held.image_size,
        crop_pct=json.loads(held.metadata.get("crop_pct", "null")),
        licence=held.metadata.get("licence"),
        layout=held.metadata.get("layout", "convnextv2"),
        said=said,
        file=held.file,
    )
