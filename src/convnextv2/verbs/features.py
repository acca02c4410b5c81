"""Pooled features of images, by frozen models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convnextv2.data.files.folder import ImageList
from convnextv2.engine import distributed
from convnextv2.errors import RunFailedError
from convnextv2.inference.predictor import Predictor
from convnextv2.inference.reader import ImageReader
from convnextv2.inference.settings import InferenceSettings
from convnextv2.text import shown


@dataclass(frozen=True)
class Pooled:
    """features: of each model, (N, D) float32.  indices: int64 (N,), of the images.  bad: (index, reason)."""

    features: tuple[NDArray[np.float32], ...]
    indices: NDArray[np.int64]
    bad: tuple[tuple[int, str], ...]


@torch.no_grad()
def pooled(
    predictors: Sequence[Predictor],
    images: ImageList,
    indices: Sequence[int],
    settings: InferenceSettings,
    *,
    seen: Callable[[int], None] = lambda count: None,
) -> Pooled:
    """Compute the pooled features of the images at `indices` that can be read, in that order, by each of the models.

    Every image is decoded once: the models take the same input, that of the first. `seen` is called with the number
    of images done, batch by batch.

    Raises RunFailedError if no image can be read, or features are not finite.
    """
    device = distributed.device_of(settings.device)
    predictors = [predictor.to(device) for predictor in predictors]
    found: list[list[NDArray[np.float32]]] = [[] for _ in predictors]
    good: list[NDArray[np.int64]] = []
    bad: list[tuple[int, str]] = []
    done = 0
    for batch in ImageReader.of(images, predictors[0].spec, settings).batches(indices):
        done += len(batch.indices) + len(batch.bad)
        bad += batch.bad
        if len(batch.indices):
            pixels = batch.images.to(device)
            for predictor, rows in zip(predictors, found, strict=True):
                rows.append(predictor.pooled_features(pixels).float().cpu().numpy())
            good.append(batch.indices.numpy())
        seen(done)
    if not good:
        raise RunFailedError(
            f"none of the {len(indices)} files in {shown(images.source)} can be read; the first: {bad[0][1]}"
        )
    features = tuple(np.concatenate(rows) for rows in found)
    if not all(np.isfinite(rows).all() for rows in features):
        raise RunFailedError(
            f"the model's features of {shown(images.source)} are not finite: its training has diverged; "
            "name an earlier checkpoint of the run"
        )
    return Pooled(features, np.concatenate(good), tuple(bad))
