"""A trained segmenter with the settings of a verb: how it reads images and how it is laid over them."""

from __future__ import annotations

import torch

from convnextv2.inference.loaded import LoadedModel
from convnextv2.models.config import BackboneConfig, EncoderConfig
from convnextv2.models.upernet import UPerNet
from convnextv2.tasks.segment.evaluate_settings import WindowedSettings
from convnextv2.tasks.segment.model import SegmenterOptions
from convnextv2.tasks.segment.windows import SceneScorer, WindowSettings


def multiple_of(architecture: BackboneConfig) -> int:
    """Return what the sides of images are filled up to whole numbers of, in pixels: the stride of the last map."""
    return 8 * architecture.stem_stride if isinstance(architecture, EncoderConfig) else 32


def window_settings(loaded: LoadedModel[UPerNet], settings: WindowedSettings) -> WindowSettings:
    """Return how a model is laid over images, as trained except for what the settings say."""
    return WindowSettings(
        size=loaded.image_size,
        base=SegmenterOptions.of(loaded.info).base_size,
        mode=settings.window,
        multiple=multiple_of(loaded.info.architecture),
        scales=settings.factors,
        flip=settings.mirror,
    )


def scorer_of(
    loaded: LoadedModel[UPerNet], settings: WindowedSettings, device: torch.device, precision: str
) -> SceneScorer:
    """Return a model that scores each pixel of an image."""
    return SceneScorer(
        loaded.model,
        loaded.preprocessing,
        window_settings(loaded, settings),
        classes=len(loaded.classes),
        device=device,
        precision="bf16" if precision == "bf16" else "fp32",
    )
