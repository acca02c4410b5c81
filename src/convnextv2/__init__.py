"""ConvNeXt V2 and FCMAE: pre-train on your own pictures, exactly and fast.

The public names are loaded when they are first used, so that `import convnextv2` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

_HOMES = {
    "FCMAE": "convnextv2.tasks.pretrain.fcmae",
    "ConvNeXt": "convnextv2.models",
    "classify": "convnextv2.tasks.classify.run",
    "create_model": "convnextv2.zoo.create",
    "evaluate": "convnextv2.tasks.classify.evaluate",
    "load": "convnextv2.zoo.create",
    "load_pretrained": "convnextv2.tasks.pretrain.model_file",
    "predict": "convnextv2.zoo.predict",
    "pretrain": "convnextv2.tasks.pretrain.run",
    "probe": "convnextv2.zoo.probe",
    "register_with_timm": "convnextv2.zoo.timm_models",
}

__all__ = [
    "FCMAE",
    "ConvNeXt",
    "classify",
    "create_model",
    "evaluate",
    "load",
    "load_pretrained",
    "predict",
    "pretrain",
    "probe",
    "register_with_timm",
]

if TYPE_CHECKING:
    from convnextv2.models import ConvNeXt
    from convnextv2.tasks.classify.evaluate import evaluate
    from convnextv2.tasks.classify.run import classify
    from convnextv2.tasks.pretrain.fcmae import FCMAE
    from convnextv2.tasks.pretrain.model_file import load_pretrained
    from convnextv2.tasks.pretrain.run import pretrain
    from convnextv2.zoo.create import create_model, load
    from convnextv2.zoo.predict import predict
    from convnextv2.zoo.probe import probe
    from convnextv2.zoo.timm_models import register_with_timm


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
