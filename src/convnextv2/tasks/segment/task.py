"""Segmentation as a task for the engine: images and masks in, cross entropy of each pixel out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL.Image import Image
from torch import Tensor

from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.masks.codes import NO_CLASS
from convnextv2.data.masks.scenes import Scenes
from convnextv2.data.transforms.bands import BandJitter, RandomTurn
from convnextv2.data.transforms.colour import normalise
from convnextv2.data.transforms.display import pictures
from convnextv2.data.transforms.geometry import resize_mask
from convnextv2.data.transforms.scenes import PhotometricDistortion, ScaleJitterCrop
from convnextv2.data.transforms.transform import AnnotatedImage
from convnextv2.engine.distributed import DistributedContext
from convnextv2.figures.scenes import scene_wall
from convnextv2.models.upernet import SegmenterOutput, UPerNet
from convnextv2.records import Preprocessing, StepOutput, TaskBatch
from convnextv2.runs.batches import TrainingBatches
from convnextv2.tasks.segment.evaluator import SceneEvaluator
from convnextv2.tasks.segment.losses import SceneLoss, balanced_weights
from convnextv2.tasks.segment.recipes import Recipe
from convnextv2.tasks.segment.settings import SegmentSettings
from convnextv2.text import shown
from convnextv2.weights.model_file import ModelInfo

SHOWN = 12  # training crops on their sheet


@dataclass(frozen=True)
class AugmentScene:
    """Random scale, crop, mirroring and light of an image (C, H, W) and its mask: both (size, size)."""

    crop: ScaleJitterCrop
    turn: RandomTurn | None = None
    light: PhotometricDistortion | BandJitter | None = None

    @staticmethod
    def of(
        recipe: Recipe, size: int, base: int, preprocessing: Preprocessing, settings: SegmentSettings
    ) -> AugmentScene:
        """Build the augmentation of a recipe.  size, base: see `ScaleJitterCrop`."""
        light = None
        if preprocessing.bands is None:
            light = PhotometricDistortion() if settings.distort else None
        elif settings.band_jitter:
            light = BandJitter(preprocessing, settings.band_jitter)
        crop = ScaleJitterCrop(
            size,
            base=base,
            scale=(recipe.min_scale, recipe.max_scale),
            flip=settings.flip,
            most_of_a_class=settings.most_of_a_class,
            ignore=NO_CLASS,
            format=preprocessing.format,
        )
        return AugmentScene(crop, RandomTurn() if settings.orientation == "any" else None, light)

    def __call__(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        if mask.shape != image.shape[1:]:  # a JPEG may be decoded at a fraction of its size
            mask = resize_mask(mask, (int(image.shape[1]), int(image.shape[2])))
        scene = self.crop(AnnotatedImage(image, mask, outside=NO_CLASS))
        if self.turn is not None:
            scene = self.turn(scene)
        if self.light is not None:
            scene = self.light(scene)
        assert scene.mask is not None
        return {"images": scene.image, "masks": scene.mask}


class SegmentTask:
    """A segmenter on images with masks. See `convnextv2.engine.task.Task`."""

    def __init__(
        self,
        model: UPerNet,
        dataset: ImageSet,
        train: Scenes,
        evaluator: SceneEvaluator | None,
        settings: SegmentSettings,
        recipe: Recipe,
        *,
        info: ModelInfo,
        workers: int,
        bad: BadImages,
    ) -> None:
        """dataset: the images of `train` and their masks, transformed by `AugmentScene`."""
        self.model, self.metadata, self.preprocessing = model, info.to_metadata(), info.preprocessing
        self.evaluator, self._train, self._settings = evaluator, train, settings
        self._auxiliary, self._set = recipe.auxiliary_weight, dataset
        self._loss = SceneLoss(
            ignored_pixels_count=settings.ignored_pixels_count,
            weights=balanced_weights(train.pixels()) if settings.class_weights == "balanced" else None,
            ohem=settings.ohem,
            dice=settings.dice,
        )
        self.batches = TrainingBatches(
            dataset, batch_size=recipe.batch_size, seed=settings.seed, workers=workers, bad=bad
        )

    def step(self, model: torch.nn.Module, batch: TaskBatch) -> StepOutput:
        """Compute the loss of both heads, and the share of right pixels."""
        masks = batch.tensors["masks"]
        output: SegmenterOutput = model(normalise(batch.tensors["images"], self.preprocessing))
        loss = self._loss(output.logits, masks)
        parts = {"pixel_accuracy": _accuracy(output.logits.detach(), masks)}
        if output.auxiliary is not None:
            auxiliary = self._loss(output.auxiliary, masks)
            parts["auxiliary_loss"] = auxiliary
            loss = loss + self._auxiliary * auxiliary
        return StepOutput(loss, parts)

    def evaluate(self, model: torch.nn.Module, context: DistributedContext) -> Iterator[tuple[str, float]]:
        """Yield the scores on the validation images."""
        if self.evaluator is not None:
            yield from self.evaluator.scores(model, context).items()

    def samples(self, model: torch.nn.Module) -> Iterator[tuple[str, Image]]:
        """Yield a sheet of the model's input: crops of training images, and what their masks say."""
        chosen = torch.randperm(len(self._train), generator=torch.Generator().manual_seed(self._settings.seed))
        samples = [self._set[0, index] for index in chosen[:SHOWN].tolist()]
        images = pictures(torch.stack([sample.tensors["images"] for sample in samples]), self.preprocessing)
        rows = [(image, sample.tensors["masks"], None) for image, sample in zip(images, samples, strict=True)]
        captions = [shown(self._train.images.names[sample.index]) for sample in samples]
        yield "training-pictures", scene_wall(rows, captions, self._train.classes.palette, self._train.names)


def _accuracy(logits: Tensor, masks: Tensor) -> Tensor:
    """The share of right pixels, at the size of the logits."""
    truth = resize_mask(masks, (int(logits.shape[2]), int(logits.shape[3])))
    there = truth != NO_CLASS
    return ((logits.argmax(1) == truth) & there).sum() / there.sum().clamp(min=1)
