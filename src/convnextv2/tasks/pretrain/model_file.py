"""What a pre-trained `model.safetensors` says of itself, and the model built again from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convnextv2.checkpoints.files import load_tensors
from convnextv2.data.folder import shown
from convnextv2.engine import state
from convnextv2.errors import LoadError, UserError
from convnextv2.models import create_model
from convnextv2.records import Preprocessing
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.settings import PretrainSettings

FORMAT = "convnextv2.fcmae.1"

_ENCODER = ("model", "in_chans", "stem_stride", "depths", "dims")
_FCMAE = ("mask_ratio", "decoder_dim", "decoder_depth", "norm_pix_loss")


@dataclass(frozen=True)
class Pretrained:
    """A model from a run.  image_size: the side of its training crops, in pixels."""

    model: FCMAE
    preprocessing: Preprocessing
    image_size: int
    file: Path


def describe(settings: PretrainSettings) -> dict[str, str]:
    """The metadata of a run's weights: enough to build the model and to prepare its input."""
    return {
        "format": FORMAT,
        "encoder": json.dumps({name: getattr(settings, name) for name in _ENCODER}),
        "fcmae": json.dumps({name: getattr(settings, name) for name in _FCMAE}),
        "preprocessing": json.dumps(dataclasses.asdict(Preprocessing.for_channels(settings.in_chans))),
        "image_size": str(settings.image_size),
        "trained_on": shown(settings.data.name) if settings.data else "",
    }


def load_pretrained(source: str | Path) -> Pretrained:
    """The model of a run's newest checkpoint, or of a `model.safetensors`, in evaluation mode.

    Raises UserError where there is none, LoadError where the file is damaged or of another kind.
    """
    file = _weights_of(Path(source))
    tensors, metadata = load_tensors(file)
    if metadata.get("format") != FORMAT:
        raise LoadError(f"{file} was not written by `convnextv2 pretrain`")
    encoder, fcmae = _arguments(metadata, "encoder"), _arguments(metadata, "fcmae")
    model = FCMAE(create_model(str(encoder.pop("model")), num_classes=0, **encoder), **fcmae)  # pyright: ignore
    model.load_state_dict(tensors)
    preprocessing = json.loads(metadata["preprocessing"])
    statistics = Preprocessing(tuple(preprocessing["mean"]), tuple(preprocessing["std"]))
    return Pretrained(model.eval(), statistics, int(metadata["image_size"]), file)


def _weights_of(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise UserError(f"no run at {source}; name the folder that `convnextv2 pretrain --out` made")
    if (source / "model.safetensors").is_file():
        return source / "model.safetensors"
    found = state.latest(source / "checkpoints")
    if found is None:
        raise UserError(f"{source} holds no checkpoint yet")
    return found / "model.safetensors"


def _arguments(metadata: Mapping[str, str], name: str) -> dict[str, object]:
    return json.loads(metadata[name])
