"""A masked autoencoder from its file."""

from __future__ import annotations

from pathlib import Path

from convnextv2.inference.loaded import LoadedModel
from convnextv2.loading import load_kind
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.run import KIND


def load_pretrained(source: str | Path) -> LoadedModel[FCMAE]:
    """Load the masked autoencoder of a pre-training run, or of a `model.safetensors`, in evaluation mode.

    Raises UserError if there is none, LoadError if the file is damaged or of another kind.
    """
    return load_kind(source, KIND, instead="has no decoder: name a run of `convnextv2 pretrain`")
