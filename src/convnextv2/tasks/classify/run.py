"""A run of a classifier, from settings to report."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from convnextv2.data.labels.labels import LabelledImages, few_labels
from convnextv2.data.labels.splits import Splits, read_splits
from convnextv2.engine import machine
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.errors import UserError
from convnextv2.inference.predictor import InputSpec
from convnextv2.models import ConvNeXt, build_backbone, layer_ids, timm_backbone
from convnextv2.models.timm_backbone import TimmBackbone
from convnextv2.records import RunDescription
from convnextv2.runs.images import fingerprint
from convnextv2.runs.runner import RunResult, call
from convnextv2.runs.settings import SHAPE
from convnextv2.runs.spec import TaskSpec, register_task
from convnextv2.runs.task_run import Chosen, TaskRun, TrainingData
from convnextv2.settings import StrPath
from convnextv2.signatures import verb
from convnextv2.tasks.classify.artifacts import write_artifacts
from convnextv2.tasks.classify.choose import choose_recipe, recipe_name
from convnextv2.tasks.classify.description import describe_run
from convnextv2.tasks.classify.evaluate import evaluate
from convnextv2.tasks.classify.evaluator import Evaluator
from convnextv2.tasks.classify.metrics import main_metric
from convnextv2.tasks.classify.predict import predict
from convnextv2.tasks.classify.recipes import Recipe
from convnextv2.tasks.classify.settings import NO_CLASS_TO_DRAW, ClassifySettings
from convnextv2.tasks.classify.task import Augment, ClassifyTask, min_side
from convnextv2.text import shown
from convnextv2.weights.init import fill_backbone
from convnextv2.weights.model_file import ModelFile

KIND = "classifier"

_JITTER = 0.2
"""Strength of `BandJitter` in place of RandAugment; chosen by us, as no source has one for bands."""
_EVALUATIONS = 30
_FEW_OF_A_CLASS, _FEW_TO_VALIDATE = 5, 50


@verb(ClassifySettings)
def classify(data: StrPath | None = None, out: StrPath | None = None, **settings: Any) -> RunResult:
    """Train a classifier, from pre-trained weights (`init=`) or from scratch, as `convnextv2 classify` does.

    data: class folders, split or not, or a CSV of path and label.  out: a new folder for the run.

    Raises UserError for a mistake in these, LoadError for weights that do not fit, RunFailedError if the run cannot go
    on, StoppedError after a signal, when everything is saved.
    """
    return call(CLASSIFY, data, out, settings)


class ClassifyRun(TaskRun[ClassifySettings]):
    """The parts of a classifier's run, see `TaskRun`."""

    model: ConvNeXt | TimmBackbone
    least_micro_batch_why = (
        "each process must work on 2 images at a time, as they are mixed: give a larger --micro-batch and "
        "--batch-size, or --mixup 0 --cutmix 0"
    )

    def read_data(self) -> TrainingData:
        """Read the labelled images, and choose those to train on."""
        splits = self._splits()
        train = self.train = few_labels(splits.train, self.settings.label_fraction, self.settings.seed)
        self.held_out = {name: part for name, part in (("val", splits.val), ("test", splits.test)) if part is not None}
        self._tell(splits)
        self._check(splits)
        parts = (train, *self.held_out.values())
        mark = fingerprint(*((part.images, part.labels) for part in parts))
        about = {
            "classes": len(train.classes),
            "pictures_by_class": dict(zip(train.classes, train.counts().tolist(), strict=True)),
            "validation_pictures": len(splits.val) if splits.val else 0,
            "test_pictures": len(splits.test) if splits.test else 0,
            "notes": list(splits.notes),
        }
        held_out = tuple(part.images for part in self.held_out.values())
        return TrainingData(train.images, mark, about, held_out)

    def as_published(self) -> bool:
        """Return whether the recipe is one of the paper's."""
        return recipe_name(self.settings, len(self.train)) != "small-data"

    def choose_recipe(self) -> tuple[Recipe, Chosen]:
        """Return the recipe requested, or one that fits the folder."""
        recipe, chosen = choose_recipe(self.settings, self.architecture.name, len(self.train), self.context.world_size)
        self.least_micro_batch = 2 if recipe.mixup or recipe.cutmix else 1
        self.band_jitter = self.settings.band_jitter or 0.0
        if self.preprocessing.bands is None:
            if self.band_jitter or self.settings.band_dropout:
                raise UserError("--band-jitter and --band-dropout are for bands, and these are pictures: leave it out")
        elif recipe.rand_augment:
            if self.settings.rand_augment:
                raise UserError("--rand-augment changes the colours of 8-bit RGB, and these are bands: leave it out")
            recipe, why = replace(recipe, rand_augment=0.0), "it changes the colours of 8-bit RGB, and these are bands"
            chosen = [*chosen, ("rand_augment", 0.0, why)]
            if self.settings.band_jitter is None:
                self.band_jitter = _JITTER
                chosen = [*chosen, ("band_jitter", _JITTER, "in place of RandAugment")]
        return recipe, chosen

    def build_model(self) -> ConvNeXt | TimmBackbone:
        """Build a backbone with a head for the classes."""
        recipe: Recipe = self.recipe
        model = build_backbone(
            self.architecture,
            num_classes=len(self.train.classes),
            image_size=self.image_size,
            drop_path_rate=recipe.drop_path,
            head_init_scale=recipe.head_init,
        )
        if isinstance(model, TimmBackbone):
            ignored = [*model.ignored, *(["layer_decay_type group"] if recipe.layer_decay_type == "group" else [])]
            if ignored:
                self.log.say(f"{self.architecture.name} does not take {', '.join(ignored)}: left out")
        return model

    def fill(self, init: ModelFile) -> str:
        """Load the encoder, and the head if the classes are the same."""
        return fill_backbone(self.model, init, self.train.classes, self.settings.inflate, names=self.channel_names)

    def model_info(self) -> dict[str, Any]:
        """Return the class names, and how images are cropped for evaluation."""
        return {
            "classes": self.train.classes,
            "multi_label": self.train.multi_label,
            "crop_pct": self.settings.crop_pct,
        }

    def min_side(self) -> int:
        """See `task.min_side`."""
        return min_side(self.image_size, self.recipe.min_scale)

    def make_task(self, workers: int) -> ClassifyTask:
        """See `ClassifyTask`."""
        self.evaluators = {name: self._evaluator(part, workers) for name, part in self.held_out.items()}
        settings = replace(self.settings, band_jitter=self.band_jitter)
        augment = Augment.of(self.recipe, self.info.image_size, self.info.preprocessing, settings)
        return ClassifyTask(
            self.model,
            self.image_set(augment),
            self.train,
            self.evaluators.get("val"),
            self.settings,
            self.recipe,
            info=self.info,
            workers=workers,
            bad=self.bad,
        )

    def loop_settings(self, total: int, per_epoch: int) -> dict[str, Any]:
        """Return layer-wise decay, EMA, and when to evaluate."""
        recipe: Recipe = self.recipe
        every = max(min(per_epoch, total), total // _EVALUATIONS)
        if self.settings.eval_epochs is not None:
            every = max(1, round(self.settings.eval_epochs * per_epoch))
        return {
            "min_lr": min(recipe.min_lr, recipe.lr),
            "lr_scales": lr_scales(self.model, recipe),
            "ema_decay": recipe.ema,
            "ema_warmup": recipe.ema_warmup,
            "eval_every": every,
            "best": main_metric(self.train.multi_label) if "val" in self.held_out else None,
            "patience": self.settings.patience,
        }

    def advise(self, loop: LoopSettings, seconds: float) -> list[str]:
        """Return warnings of classes with hardly an image, and of too few images to validate with."""
        counts, found = self.train.counts(), []
        few = int((counts < _FEW_OF_A_CLASS).sum())
        if few:
            least = int(counts.argmin())
            name, number = shown(self.train.classes[least]), int(counts[least])
            found.append(
                f"{few} of {len(counts)} classes have fewer than {_FEW_OF_A_CLASS} training images (the fewest: "
                f"{number} of {name}): label more of them"
            )
        val = self.held_out.get("val")
        if val is not None and len(val) < _FEW_TO_VALIDATE:
            points = 100 * math.sqrt(0.25 / len(val))
            found.append(
                f"{len(val)} images to validate with are few: their score is uncertain by about {points:.0f} points "
                "(one standard error), and so is the choice of the best checkpoint"
            )
        return found

    def finish(self, loop: LoopSettings) -> None:
        """Evaluate the best weights on every split, and write tables and figures to the run's folder."""
        write_artifacts(self.log.run, self.model, self.evaluators, self.context, self.log, loop.precision)

    def about_model(self) -> dict[str, Any]:
        """Return the source of the recipe's numbers."""
        return {"recipe_source": self.recipe.source}

    def resolved(self) -> dict[str, Any]:
        """Return the recipe's name, and the settings that data and recipe decided."""
        return {
            "recipe": recipe_name(self.settings, len(self.train)),
            "multi_label": self.train.multi_label,
            "ema": self.recipe.ema or 0.0,
            "band_jitter": None if self.preprocessing.bands is None else self.band_jitter,
        }

    def report(self) -> RunDescription:
        """See `describe_run`."""
        weights = None if self.settings.init_source is None else str(self.settings.init_source)
        return describe_run(self.architecture.title, self.train, weights, self.held_out)

    def _splits(self) -> Splits:
        settings = self.settings
        assert settings.data is not None
        return read_splits(
            settings.data,
            val_fraction=settings.val_fraction,
            group_column=settings.group_column,
            group_pattern=settings.group_pattern,
            label_separator=settings.label_separator,
            label_column=settings.label_column,
            multi_label=settings.multi_label,
            bands=self.patterns,
            seed=settings.seed,
        )

    def _tell(self, splits: Splits) -> None:
        train = self.train
        drawn = f" of {len(splits.train)}" if len(train) < len(splits.train) else ""
        parts = [f"{len(train)}{drawn} to train"]
        words = {"val": "validate", "test": "test"}
        parts += [f"{len(part)} to {words[name]}" for name, part in self.held_out.items()]
        self.log.say(f"{len(train.classes)} classes in {self.settings.data}; images: {', '.join(parts)}")
        for note in splits.notes:
            self.log.say(f"  {note}")

    def _check(self, splits: Splits) -> None:
        settings, train = self.settings, self.train
        if settings.balanced_sampling and train.multi_label:
            raise UserError(NO_CLASS_TO_DRAW)
        if settings.patience and splits.val is None:
            raise UserError("--patience needs images to validate with: a val folder, or --val-fraction above 0")
        free = machine.free_bytes(torch.device("cpu"))
        for name, part in self.held_out.items():
            needed = 16 * len(part) * len(train.classes)
            if needed > free // 2:
                raise UserError(
                    f"the logits of {len(part)} {name} images of {len(train.classes)} classes need about "
                    f"{needed / 2**30:.0f} GiB, and {free / 2**30:.0f} are free: give a smaller --val-fraction, 0 for "
                    "none"
                )

    def _evaluator(self, data: LabelledImages, workers: int) -> Evaluator:
        spec = InputSpec(
            in_chans=self.architecture.in_chans,
            image_size=self.image_size,
            preprocessing=self.preprocessing,
            crop_pct=self.settings.crop_pct,
        )
        batch_size = min(max(self.recipe.batch_size, 16), 128)
        return Evaluator(
            data, spec, batch_size=batch_size, workers=workers, max_pixels=self.settings.max_pixels, keep=True
        )


def lr_scales(model: nn.Module, recipe: Recipe) -> dict[str, float]:
    """Return the factor on the learning rate by parameter name; empty without layer-wise decay."""
    if recipe.layer_decay == 1:
        return {}
    if isinstance(model, TimmBackbone):
        return timm_backbone.lr_scales(model, recipe.layer_decay)
    assert isinstance(model, ConvNeXt)
    return layer_ids.lr_scales(model, model.depths, recipe.layer_decay, recipe.layer_decay_type)


_RECIPE = frozenset(
    {
        "epochs", "warmup_epochs", "batch_size", "micro_batch", "lr", "weight_decay", "log_every", "layer_decay",
        "layer_decay_type", "smoothing", "mixup", "cutmix", "rand_augment", "erasing", "min_scale", "drop_path", "ema",
        "head_init", "band_jitter",
    }
)  # fmt: skip

CLASSIFY = register_task(
    TaskSpec(
        verb="classify",
        kind=KIND,
        settings=ClassifySettings,
        run=ClassifyRun,
        needs_data="give the labelled images to train on: --data DIR, one folder per class, or a CSV of path,label",
        model_title="a classifier",
        training_title="classification",
        evaluate=evaluate,
        predict=predict,
        follows={
            "recipe": _RECIPE,
            "init": _RECIPE,
            "model": _RECIPE | {"depths", "dims", "stem_stride"},
            "label_fraction": _RECIPE,
            "data": _RECIPE | {"multi_label"},
            **{name: frozenset({"micro_batch"}) for name in SHAPE - {"model"}},
        },
        replaced=frozenset({"multi_label"}),
    )
)
