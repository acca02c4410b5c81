"""One record for a model that was loaded, whatever its task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from convnextv2.data.transforms.geometry import Resize
from convnextv2.inference.predictor import InputSpec, Predictor
from convnextv2.records import Preprocessing
from convnextv2.weights import kinds
from convnextv2.weights.model_file import ModelInfo

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class LoadedModel(Generic[M]):
    """A model in evaluation mode, and the metadata of its file.

    info: the metadata.  averaged: whether the weights are an EMA.  said: what was adapted or left out.
    """

    model: M
    info: ModelInfo
    file: Path
    averaged: bool = False
    said: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the logits; empty without a head."""
        return self.info.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """Statistics of the input."""
        return self.info.preprocessing

    @property
    def image_size(self) -> int:
        """Pixels on a side."""
        return self.info.image_size

    @property
    def crop_pct(self) -> float | None:
        """Of the evaluation's centre crop; None for the default."""
        return self.info.crop_pct

    @property
    def licence(self) -> str | None:
        """Of the weights, if it is known."""
        return self.info.licence

    @property
    def layout(self) -> str:
        """Whose the file is: "convnextv2", "timm", ..."""
        return self.info.layout

    def input_spec(
        self, *, image_size: int | None = None, crop_pct: float | None = None, resize: Resize = "auto"
    ) -> InputSpec:
        """Return how image files become its input: as in training, except for what is given."""
        return InputSpec(
            in_chans=self.info.architecture.in_chans,
            image_size=image_size or self.image_size,
            preprocessing=self.preprocessing,
            crop_pct=None if resize == "whole" else crop_pct or self.crop_pct,
            resize=resize,
        )

    def predictor(self, *, image_size: int | None = None) -> Predictor:
        """Return the model with its preprocessing, for images of `image_size` pixels on a side (by default as trained).

        Raises UserError if the model takes no images of that size.
        """
        predictor = Predictor(self.model, self.input_spec())
        return predictor if image_size is None else predictor.at_size(image_size)

    def with_random_weights(self, seed: int) -> LoadedModel[M]:
        """Return the same architecture with random weights drawn from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            fresh: M = kinds.build(self.info).eval()  # pyright: ignore[reportAssignmentType]
            return replace(self, model=fresh)
