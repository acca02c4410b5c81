"""ConvNeXt V2 and FCMAE: pre-train on your own images, exactly and fast.

The public names are loaded when they are first used, so that `import convnextv2` costs nothing. Type checkers read them
in `__init__.pyi`, which `scripts/stub.py` writes.
"""

from __future__ import annotations

import importlib
from typing import Any

from convnextv2._version import __version__ as __version__

_HOMES = {
    "BadImageError": "convnextv2.errors",
    "ClassifySettings": "convnextv2.tasks.classify.settings",
    "ConvNeXt": "convnextv2.models",
    "ConvNeXtV2Error": "convnextv2.errors",
    "Converted": "convnextv2.verbs.convert",
    "Embedding": "convnextv2.verbs.embed",
    "EncoderConfig": "convnextv2.models",
    "EvaluateSettings": "convnextv2.tasks.classify.evaluate_settings",
    "Evaluation": "convnextv2.tasks.classify.evaluate",
    "FCMAE": "convnextv2.tasks.pretrain.fcmae",
    "InferenceSettings": "convnextv2.inference.settings",
    "LoadError": "convnextv2.errors",
    "LoadedModel": "convnextv2.inference.loaded",
    "PredictSettings": "convnextv2.tasks.classify.predict_settings",
    "Prediction": "convnextv2.tasks.classify.predict",
    "Predictor": "convnextv2.inference.predictor",
    "PretrainSettings": "convnextv2.tasks.pretrain.settings",
    "ProbeResult": "convnextv2.verbs.probe.result",
    "ProbeSettings": "convnextv2.verbs.probe.settings",
    "Pushed": "convnextv2.verbs.push",
    "RunFailedError": "convnextv2.errors",
    "RunResult": "convnextv2.runs.runner",
    "Statistics": "convnextv2.data.loading.statistics",
    "SceneEvaluation": "convnextv2.tasks.segment.evaluate",
    "ScenePrediction": "convnextv2.tasks.segment.predict",
    "SegmentSettings": "convnextv2.tasks.segment.settings",
    "StatsSettings": "convnextv2.verbs.stats.settings",
    "StoppedError": "convnextv2.errors",
    "TaskSpec": "convnextv2.runs.spec",
    "UserError": "convnextv2.errors",
    "Zoo": "convnextv2.verbs.zoo",
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
    "read_statistics": "convnextv2.data.loading.statistics",
    "reconstruct": "convnextv2.tasks.pretrain.reconstruct",
    "register_task": "convnextv2.runs.spec",
    "register_with_timm": "convnextv2.interop.timm_models",
    "segment": "convnextv2.tasks.segment.run",
    "stats": "convnextv2.verbs.stats.stats",
    "zoo": "convnextv2.verbs.zoo",
}

__all__ = sorted(_HOMES, key=lambda name: (not name.isupper(), not name[0].isupper(), name))  # pyright: ignore


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
