"""ConvNeXt V2 and FCMAE: pre-train on your own images, exactly and fast.

The public names are loaded when they are first used, so that `import convnextv2` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convnextv2._version import __version__ as __version__

_HOMES = {
    "FCMAE": "convnextv2.tasks.pretrain.fcmae",
    "BadImageError": "convnextv2.errors",
    "ConvNeXt": "convnextv2.models",
    "ConvNeXtV2Error": "convnextv2.errors",
    "EncoderConfig": "convnextv2.models",
    "LoadError": "convnextv2.errors",
    "LoadedModel": "convnextv2.inference.loaded",
    "Predictor": "convnextv2.inference.predictor",
    "RunFailedError": "convnextv2.errors",
    "RunResult": "convnextv2.runs.runner",
    "StoppedError": "convnextv2.errors",
    "TaskSpec": "convnextv2.runs.spec",
    "UserError": "convnextv2.errors",
    "classify": "convnextv2.tasks.classify.run",
    "convert": "convnextv2.verbs.convert",
    "create_model": "convnextv2.loading",
    "embed": "convnextv2.verbs.embed",
    "evaluate": "convnextv2.verbs.evaluate",
    "load": "convnextv2.loading",
    "load_pretrained": "convnextv2.tasks.pretrain.load",
    "predict": "convnextv2.verbs.predict",
    "pretrain": "convnextv2.tasks.pretrain.run",
    "probe": "convnextv2.verbs.probe.probe",
    "push": "convnextv2.verbs.push",
    "reconstruct": "convnextv2.tasks.pretrain.reconstruct",
    "register_task": "convnextv2.runs.spec",
    "register_with_timm": "convnextv2.interop.timm_models",
}

__all__ = [
    "FCMAE",
    "BadImageError",
    "ConvNeXt",
    "ConvNeXtV2Error",
    "EncoderConfig",
    "LoadError",
    "LoadedModel",
    "Predictor",
    "RunFailedError",
    "RunResult",
    "StoppedError",
    "TaskSpec",
    "UserError",
    "classify",
    "convert",
    "create_model",
    "embed",
    "evaluate",
    "load",
    "load_pretrained",
    "predict",
    "pretrain",
    "probe",
    "push",
    "reconstruct",
    "register_task",
    "register_with_timm",
]

if TYPE_CHECKING:
    from convnextv2.errors import (
        BadImageError,
        ConvNeXtV2Error,
        LoadError,
        RunFailedError,
        StoppedError,
        UserError,
    )
    from convnextv2.inference.loaded import LoadedModel
    from convnextv2.inference.predictor import Predictor
    from convnextv2.interop.timm_models import register_with_timm
    from convnextv2.loading import create_model, load
    from convnextv2.models import ConvNeXt, EncoderConfig
    from convnextv2.runs.runner import RunResult
    from convnextv2.runs.spec import TaskSpec, register_task
    from convnextv2.tasks.classify.run import classify
    from convnextv2.tasks.pretrain.fcmae import FCMAE
    from convnextv2.tasks.pretrain.load import load_pretrained
    from convnextv2.tasks.pretrain.reconstruct import reconstruct
    from convnextv2.tasks.pretrain.run import pretrain
    from convnextv2.verbs.convert import convert
    from convnextv2.verbs.embed import embed
    from convnextv2.verbs.evaluate import evaluate
    from convnextv2.verbs.predict import predict
    from convnextv2.verbs.probe.probe import probe
    from convnextv2.verbs.push import push


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
