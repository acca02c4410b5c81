"""Classification as a task for the engine: labelled images in, cross entropy out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from convnextv2.data.labels.labels import LabelledImages
from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.transforms.bands import BandJitter, RandomTurn
from convnextv2.data.transforms.colour import RandAugment, RandomErase, normalise
from convnextv2.data.transforms.display import pictures
from convnextv2.data.transforms.geometry import RandomResizedCropFlip
from convnextv2.data.transforms.mixing import Mixing, soft_targets
from convnextv2.engine.distributed import DistributedContext
from convnextv2.figures import prediction_sheet
from convnextv2.records import Preprocessing, StepOutput, TaskBatch
from convnextv2.runs.batches import TrainingBatches
from convnextv2.tasks.classify.evaluator import Evaluator
from convnextv2.tasks.classify.recipes import Recipe
from convnextv2.tasks.classify.settings import ClassifySettings
from convnextv2.text import shown
from convnextv2.weights.model_file import ModelInfo

SHOWN = 24  # training images on their sheet


@dataclass(frozen=True)
class Augment:
    """Crop, flip and turn, RandAugment or changes of bands, erasing: (C, H, W) to (C, size, size).

    uint8 stays uint8; images of bands become float32.
    """

    crop: RandomResizedCropFlip
    changes: tuple[RandomTurn | RandAugment | BandJitter | RandomErase, ...]

    @staticmethod
    def of(recipe: Recipe, size: int, preprocessing: Preprocessing, settings: ClassifySettings) -> Augment:
        """Build the augmentation of a recipe."""
        jitter, dropout = settings.band_jitter or 0.0, settings.band_dropout
        changes = (
            RandomTurn() if settings.orientation == "any" else None,
            RandAugment(recipe.rand_augment) if recipe.rand_augment else None,
            BandJitter(preprocessing, jitter, dropout) if jitter or dropout else None,
            RandomErase(recipe.erasing, preprocessing) if recipe.erasing else None,
        )
        return Augment(
            RandomResizedCropFlip(size, scale=(recipe.min_scale, 1.0), flip=settings.flip, format=preprocessing.format),
            tuple(change for change in changes if change is not None),
        )

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        image = self.crop(image)
        for change in self.changes:
            image = change(image)
        return {"images": image}


class ClassifyTask:
    """A classifier on labelled images. See `convnextv2.engine.task.Task`."""

    def __init__(
        self,
        model: nn.Module,
        dataset: ImageSet,
        train: LabelledImages,
        evaluator: Evaluator | None,
        settings: ClassifySettings,
        recipe: Recipe,
        *,
        info: ModelInfo,
        workers: int,
        bad: BadImages,
    ) -> None:
        """dataset: the images of `train`, transformed by `Augment`.  The other arguments: as `ClassifyRun` has them."""
        self.model, self.metadata, self.preprocessing = model, info.to_metadata(), info.preprocessing
        self.evaluator, self._train, self._settings, self._recipe = evaluator, train, settings, recipe
        self._mixing = Mixing(recipe.mixup, recipe.cutmix)
        self._weights = class_weights(train) if settings.class_weights == "balanced" else None
        self._set = dataset
        self.batches = TrainingBatches(
            dataset,
            batch_size=recipe.batch_size,
            seed=settings.seed,
            workers=workers,
            bad=bad,
            weights=sampling_weights(train) if settings.balanced_sampling else None,
            targets=lambda indices: {"labels": train.labels[indices]},
        )

    def step(self, model: nn.Module, batch: TaskBatch) -> StepOutput:
        """Compute the cross entropy with smoothed and perhaps mixed labels; binary if images have several labels."""
        labels = batch.tensors["labels"]
        images = normalise(batch.tensors["images"], self.preprocessing)
        targets = soft_targets(labels, len(self._train.classes), self._recipe.smoothing)
        if self._mixing.active:
            images, targets = self._mixing(images, targets)
        logits = model(images).float()
        weights = None if self._weights is None else self._weights.to(logits.device)
        if self._train.multi_label:
            loss = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
            return StepOutput(loss)
        loss = F.cross_entropy(logits, targets, weight=weights)
        # Of mixed images the larger part counts.
        right = (logits.argmax(1) == targets.argmax(1)).float().mean()
        return StepOutput(loss, {"top1": right})

    def evaluate(self, model: nn.Module, context: DistributedContext) -> Iterator[tuple[str, float]]:
        """Yield the scores on the validation images."""
        if self.evaluator is not None:
            yield from self.evaluator.scores(model, context).items()

    def samples(self, model: nn.Module) -> Iterator[tuple[str, Image]]:
        """Yield a sheet of the model's input: augmented training images of one epoch, not yet mixed, and labels."""
        chosen = torch.randperm(len(self._train), generator=torch.Generator().manual_seed(self._settings.seed))
        samples = [self._set[0, index] for index in chosen[:SHOWN].tolist()]
        lines = [[shown(label)] for label in (self._label(sample.index) for sample in samples)]
        images = pictures(torch.stack([sample.tensors["images"] for sample in samples]), self.preprocessing)
        yield "training-pictures", prediction_sheet(images, lines)

    def _label(self, index: int) -> str:
        label = self._train.labels[index]
        if not self._train.multi_label:
            return self._train.classes[int(label)]
        return ", ".join(name for name, holds in zip(self._train.classes, label.tolist(), strict=True) if holds) or "-"


def class_weights(train: LabelledImages) -> Tensor:
    """Compute weights (K,) in the loss by which every class counts the same; their mean over the images is 1.

    If images have several labels: by how much the positives of each class count more, negatives over positives.
    """
    counts = train.counts().clamp(min=1).float()
    if train.multi_label:
        return (len(train) - counts).clamp(min=1) / counts
    return len(train) / (len(counts) * counts)


def sampling_weights(train: LabelledImages) -> Tensor:
    """Compute probabilities (N,) of the images, not normalised, by which every class is drawn equally often."""
    return 1 / train.counts().clamp(min=1)[train.labels].double()


def min_side(size: int, min_scale: float) -> int:
    """Return how small a large JPEG may be decoded, in pixels: the smallest crop need not be enlarged."""
    return round(size / min_scale**0.5)
