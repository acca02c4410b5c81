"""What a run's encoder says of pictures: its pooled features, with frozen weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convnextv2.data.files.folder import ImageList
from convnextv2.data.loading.loader import ImageSet, in_order
from convnextv2.data.transforms.colour import normalise
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.errors import RunFailedError
from convnextv2.models import ConvNeXt
from convnextv2.models.timm_backbone import TimmBackbone, create_any
from convnextv2.records import Preprocessing
from convnextv2.tasks.classify.model_file import arguments_of, build_again, check_size
from convnextv2.text import shown
from convnextv2.weights.load import read

Model = ConvNeXt | TimmBackbone


@dataclass(frozen=True)
class Encoder:
    """A model in evaluation mode, wanted for its pooled features; a head that it may have takes no part.

    image_size: pixels on a side.  crop_pct: see `data.geometry.CenterFit`.  arguments: make such a model again, with
    `create_any`.
    """

    model: Model
    preprocessing: Preprocessing
    image_size: int
    crop_pct: float | None
    arguments: Mapping[str, Any]
    file: Path

    def at_size(self, image_size: int) -> Encoder:
        """The same for pictures of another size. Raises UserError where the model takes no such pictures."""
        if image_size == self.image_size:
            return self
        check_size(self.model, image_size, self.image_size, self.file)
        return replace(self, image_size=image_size)

    def with_random_weights(self, seed: int) -> Encoder:
        """The same architecture as it was before any training, from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return replace(self, model=create_any(**self.arguments).eval())


@dataclass(frozen=True)
class Pooled:
    """features: of each model, (N, D) float32.  indices: int64 (N,), of the pictures.  bad: (index, reason)."""

    features: tuple[NDArray[np.float32], ...]
    indices: NDArray[np.int64]
    bad: tuple[tuple[int, str], ...]


def load_encoder(source: str | Path) -> Encoder:
    """The encoder of a run, pre-trained or a classifier's, or of its `model.safetensors`.

    Weights are the averaged ones where there are such, and a run's best where it knows a best.

    Raises UserError where there is none, LoadError where the file is damaged or of another kind.
    """
    found = read(source)
    crop_pct = json.loads(found.metadata.get("crop_pct", "null"))
    return Encoder(build_again(found), found.preprocessing, found.image_size, crop_pct, arguments_of(found), found.file)


@torch.no_grad()
def pooled(
    models: Sequence[Model],
    images: ImageList,
    indices: Sequence[int],
    *,
    preprocessing: Preprocessing,
    image_size: int,
    crop_pct: float | None = None,
    batch_size: int = 64,
    workers: int = 1,
    device: torch.device,
    seen: Callable[[int], None] = lambda count: None,
) -> Pooled:
    """The pooled features of the pictures at `indices` that can be read, in that order, by each of the models.

    Every picture is decoded once. The models take the same input; they are moved to `device` and stay there, in
    evaluation mode. `seen` is told the number of pictures done, batch by batch.

    Raises RunFailedError where no picture can be read, or where features are not finite.
    """
    models = [model.to(device).eval() for model in models]
    fit = CenterFit(image_size, crop_pct=crop_pct)
    pictures = ImageSet(images, lambda picture: {"images": fit(picture)}, channels=models[0].in_chans)
    found: list[list[NDArray[np.float32]]] = [[] for _ in models]
    good: list[NDArray[np.int64]] = []
    bad: list[tuple[int, str]] = []
    done = 0
    for batch in in_order(pictures, indices, batch_size=batch_size, workers=workers):
        done += len(batch.indices) + len(batch.bad)
        bad += batch.bad
        if batch.tensors:
            pixels = normalise(batch.tensors["images"].to(device), preprocessing)
            for model, rows in zip(models, found, strict=True):
                rows.append(model.pooled_features(pixels).float().cpu().numpy())
            good.append(batch.indices.numpy())
        seen(done)
    if not found[0]:
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
