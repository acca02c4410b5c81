"""What a pre-trained `model.safetensors` says of itself, and the model built again from it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from convnextv2.errors import LoadError
from convnextv2.models import create_model
from convnextv2.records import Preprocessing
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.settings import PretrainSettings
from convnextv2.text import shown
from convnextv2.weights.init import history
from convnextv2.weights.load import read
from convnextv2.weights.model_file import ARCHITECTURE, PRETRAINED, ModelFile

_FCMAE = ("mask_ratio", "decoder_dim", "decoder_depth", "norm_pix_loss")


@dataclass(frozen=True)
class Pretrained:
    """A model from a run.  image_size: the side of its training crops, in pixels."""

    model: FCMAE
    preprocessing: Preprocessing
    image_size: int
    file: Path


def describe(settings: PretrainSettings, init: ModelFile | None = None) -> dict[str, str]:
    """The metadata of a run's weights: enough to build the model and to prepare its input, and what it began with."""
    return {
        "format": PRETRAINED,
        "encoder": json.dumps({name: getattr(settings, name) for name in ARCHITECTURE}),
        "fcmae": json.dumps({name: getattr(settings, name) for name in _FCMAE}),
        "preprocessing": json.dumps(dataclasses.asdict(preprocessing_of(settings.in_chans, init))),
        "image_size": str(settings.image_size),
        "trained_on": shown(settings.data.name) if settings.data else "",
        **history(init),
    }


def preprocessing_of(channels: int, init: ModelFile | None) -> Preprocessing:
    """How pictures of so many channels become input: as for the weights to start from, where these have as many."""
    if init is not None and len(init.preprocessing.mean) == channels:
        return init.preprocessing
    return Preprocessing.for_channels(channels)


def load_pretrained(source: str | Path) -> Pretrained:
    """The model of a run's newest checkpoint, or of a `model.safetensors`, in evaluation mode.

    Raises UserError where there is none, LoadError where the file is damaged or of another kind.
    """
    found = read(source)
    if found.format != PRETRAINED:
        raise LoadError(f"{found.file} was not written by `convnextv2 pretrain`")
    encoder = dict(found.architecture)
    model = FCMAE(
        create_model(str(encoder.pop("model")), num_classes=0, **encoder),
        **json.loads(found.metadata["fcmae"]),
    )
    model.load_state_dict(found.tensors)
    return Pretrained(model.eval(), found.preprocessing, found.image_size, found.file)
