"""ConvNeXt V2 and FCMAE: pre-train on your own pictures, exactly and fast.

The public names are loaded when they are first used, so that `import convnextv2` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convnextv2._version import __version__ as __version__

_HOMES = {
    "FCMAE": "convnextv2.tasks.pretrain.fcmae",
    "ConvNeXt": "convnextv2.models",
    "classify": "convnextv2.tasks.classify.run",
    "create_model": "convnextv2.loading",
    "evaluate": "convnextv2.tasks.classify.evaluate",
    "load": "convnextv2.loading",
    "load_pretrained": "convnextv2.tasks.pretrain.model_file",
    "predict": "convnextv2.tasks.classify.predict",
    "pretrain": "convnextv2.tasks.pretrain.run",
    "probe": "convnextv2.verbs.probe.probe",
    "register_with_timm": "convnextv2.interop.timm_models",
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
    from convnextv2.interop.timm_models import register_with_timm
    from convnextv2.loading import create_model, load
    from convnextv2.models import ConvNeXt
    from convnextv2.tasks.classify.evaluate import evaluate
    from convnextv2.tasks.classify.predict import predict
    from convnextv2.tasks.classify.run import classify
    from convnextv2.tasks.pretrain.fcmae import FCMAE
    from convnextv2.tasks.pretrain.model_file import load_pretrained
    from convnextv2.tasks.pretrain.run import pretrain
    from convnextv2.verbs.probe.probe import probe


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
