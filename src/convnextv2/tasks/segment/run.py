"""A run of a segmenter, from settings to report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnextv2.data.files.extent import extent
from convnextv2.data.masks.scenes import SceneRequest, read_scene_splits
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.errors import UserError
from convnextv2.inference.predictor import InputSpec
from convnextv2.models import ConvNeXt, layer_ids, timm_backbone
from convnextv2.models.config import EncoderConfig
from convnextv2.models.sizes import SIZES
from convnextv2.models.timm_backbone import TimmBackbone
from convnextv2.models.upernet import SegmenterOutput, UPerNet
from convnextv2.records import RunDescription
from convnextv2.runs.images import fingerprint
from convnextv2.runs.runner import RunResult, call
from convnextv2.runs.settings import SHAPE, size_for
from convnextv2.runs.spec import TaskSpec, register_task
from convnextv2.runs.task_run import Chosen, TaskRun, TrainingData
from convnextv2.settings import StrPath
from convnextv2.signatures import verb
from convnextv2.tasks.segment.artifacts import write_artifacts
from convnextv2.tasks.segment.description import describe_run
from convnextv2.tasks.segment.evaluate import evaluate
from convnextv2.tasks.segment.evaluator import SceneEvaluator
from convnextv2.tasks.segment.model import KIND, SegmenterOptions, build, leave_out_unused, new_segmenter
from convnextv2.tasks.segment.predict import predict, write_segmentations
from convnextv2.tasks.segment.recipes import Recipe, choose_recipe, recipe_name
from convnextv2.tasks.segment.settings import SegmentSettings
from convnextv2.tasks.segment.task import AugmentScene, SegmentTask
from convnextv2.tasks.segment.use import multiple_of
from convnextv2.tasks.segment.windows import WindowSettings
from convnextv2.weights.init import fill_backbone, fill_encoder
from convnextv2.weights.model_file import ModelFile

_CROP, _CROP_ON_CPU = 512, 256
_EVALUATIONS = 10


@verb(SegmentSettings)
def segment(data: StrPath | None = None, out: StrPath | None = None, **settings: Any) -> RunResult:
    """Train a segmenter, from pre-trained weights (`init=`) or from scratch, as `convnextv2 segment` does.

    data: images and their masks, split or not.  out: a new folder for the run.

    Raises UserError for a mistake in these, LoadError for weights that do not fit, RunFailedError if too many masks are
    at fault or the run cannot go on, StoppedError after a signal, when everything is saved.
    """
    return call(SEGMENT, data, out, settings)


class SegmentRun(TaskRun[SegmentSettings]):
    """The parts of a segmenter's run, see `TaskRun`."""

    model: UPerNet

    def read_data(self) -> TrainingData:
        """Read images and masks, and check every mask."""
        s = self.settings
        if s.data is None:
            raise UserError(SEGMENT.needs_data)
        if self.patterns:
            raise UserError("--bands: segmentation reads all bands of an image from one file; leave it out")
        request = SceneRequest(
            classes=s.classes,
            ignore=s.ignore,
            reduce_zero_label=s.reduce_zero_label,
            max_bad_fraction=s.max_bad_fraction,
            max_pixels=s.max_pixels,
            say=self.log.say,
        )
        found = read_scene_splits(
            s.data, request, val_fraction=s.val_fraction, group_pattern=s.group_pattern, seed=s.seed
        )
        self.train = found.train
        self.held_out = {name: part for name, part in (("val", found.val), ("test", found.test)) if part is not None}
        words = {"val": "validate", "test": "test"}
        parts = [f"{len(self.train)} to train", *(f"{len(p)} to {words[n]}" for n, p in self.held_out.items())]
        self.log.say(f"{len(self.train.names)} classes in {s.data}; images with masks: {', '.join(parts)}")
        for note in found.notes:
            self.log.say(f"  {note}")
        if s.patience and found.val is None:
            raise UserError("--patience needs images to validate with: a val folder, or --val-fraction above 0")
        every = (self.train, *self.held_out.values())
        about = {
            "classes": len(self.train.names),
            "pixels_by_class": dict(zip(self.train.names, self.train.pixels().tolist(), strict=True)),
            "validation_pictures": len(found.val) if found.val else 0,
            "test_pictures": len(found.test) if found.test else 0,
            "notes": list(found.notes),
        }
        mark = fingerprint(*((part.images, part.counts) for part in every))
        return TrainingData(self.train.images, mark, about, tuple(part.images for part in self.held_out.values()))

    def default_image_size(self, init: ModelFile | None) -> int:
        """Return the pixels on a side of a crop: those of the paper's recipe, else as the images, 512 at most."""
        if recipe_name(self.settings, len(self.train)) == "ade20k":
            return 640 if init is not None and "22k" in (init.info.published or "") else _CROP
        largest = _CROP if self.context.device.type == "cuda" else _CROP_ON_CPU
        multiple = multiple_of(self.architecture)
        side = self.context.broadcast(lambda: extent(self.data.images, max_pixels=self.header_pixels()).side)
        return (
            largest if side >= largest else size_for(side, multiple) if side < 224 else -(-side // multiple) * multiple
        )

    def as_published(self) -> bool:
        """Return that the size of crops is chosen by `default_image_size`, and the stem as published."""
        return True

    def min_side(self) -> int:
        """Return how small a large JPEG may be decoded: enough for the largest scale, or not at all."""
        return int(self.base_size * self.recipe.max_scale) if self.base_size else self.settings.max_pixels

    def choose_recipe(self) -> tuple[Recipe, Chosen]:
        """Return the recipe requested, or one that fits the folder."""
        config = self.architecture
        size, dim = "tiny", 768
        if isinstance(config, EncoderConfig):
            size, dim = config.name.partition("_")[2] if config.name in SIZES else "tiny", config.dims[3]
        recipe, chosen = choose_recipe(self.settings, size, dim, len(self.train), self.context.world_size)
        self.least_micro_batch = 2 if recipe.head_norm == "batch" else 1
        self.least_micro_batch_why = (
            "a batch norm needs 2 images at a time in each process: give a larger --micro-batch and --batch-size, or "
            "--head-norm group"
        )
        base = self.settings.base_size
        self.base_size = self.image_size if base is None else base
        sizes: Chosen = [] if self.settings.image_size else [("image_size", self.image_size, "crops of the images")]
        if base is None:
            sizes.append(("base_size", self.base_size, "images are scaled to this shorter side; 0 keeps their pixels"))
        return recipe, [*sizes, *chosen]

    def build_model(self) -> UPerNet:
        """Build a backbone with a head for the classes."""
        recipe: Recipe = self.recipe
        self.options = SegmenterOptions(
            head_dim=recipe.head_dim,
            head_norm=recipe.head_norm,
            auxiliary=recipe.auxiliary_weight > 0,
            base_size=self.base_size,
            scenes=self.train.classes.to_dict(),
        )
        model = new_segmenter(
            self.architecture,
            len(self.train.names),
            self.options,
            image_size=self.image_size,
            drop_path_rate=recipe.drop_path,
            dropout=recipe.dropout,
        )
        leave_out_unused(model, self.architecture, self.image_size)
        if self.settings.freeze:
            model.freeze(self.settings.freeze)
        return model

    def fill(self, init: ModelFile) -> str:
        """Load the encoder, and the head if the classes are the same."""
        encoder = self.model.encoder
        if isinstance(encoder, TimmBackbone):
            return fill_backbone(encoder, init, (), self.settings.inflate)
        if init.info.kind == KIND and init.info.classes != self.train.names:
            kept = {name: tensor for name, tensor in init.tensors.items() if name.startswith("encoder.")}
            init = replace(init, tensors=kept)
        return fill_encoder(self.model, init, self.settings.inflate, rest_is="head", names=self.channel_names)

    def model_info(self) -> dict[str, Any]:
        """Return the class names, and how the head is built."""
        return {"classes": self.train.names, "options": self.options.to_dict()}

    def activations(self, images: Tensor) -> Tensor:
        """Compute one step up to the loss, to measure its memory."""
        output: SegmenterOutput = self.model(images)
        size = (int(images.shape[2]), int(images.shape[3]))
        parts = [output.logits, *([] if output.auxiliary is None else [output.auxiliary])]
        resized = [F.interpolate(each.float(), size, mode="bilinear") for each in parts]
        return torch.stack([each.log_softmax(1).mean() for each in resized]).sum()

    def make_task(self, workers: int) -> SegmentTask:
        """See `SegmentTask`."""
        spec = InputSpec(
            in_chans=self.architecture.in_chans, image_size=self.image_size, preprocessing=self.preprocessing
        )
        windows = WindowSettings(size=self.image_size, base=self.base_size, multiple=multiple_of(self.architecture))
        self.evaluators = {
            name: SceneEvaluator(part, spec, windows, workers=workers) for name, part in self.held_out.items()
        }
        augment = AugmentScene.of(self.recipe, self.image_size, self.base_size, self.preprocessing, self.settings)
        return SegmentTask(
            self.model,
            self.image_set(augment, targets=self._mask),
            self.train,
            self.evaluators.get("val"),
            self.settings,
            self.recipe,
            info=self.info,
            workers=workers,
            bad=self.bad,
        )

    def loop_settings(self, total: int, per_epoch: int) -> dict[str, Any]:
        """Return the straight decay, layer-wise decay, EMA, and when to evaluate."""
        recipe: Recipe = self.recipe
        every = max(min(per_epoch, total), total // _EVALUATIONS)
        if self.settings.eval_epochs is not None:
            every = max(1, round(self.settings.eval_epochs * per_epoch))
        return {
            "decay": "poly",
            "lr_scales": lr_scales(self.model, recipe),
            "ema_decay": recipe.ema,
            "ema_warmup": True,
            "eval_every": every,
            "best": "miou" if "val" in self.held_out else None,
            "patience": self.settings.patience,
        }

    def finish(self, loop: LoopSettings) -> None:
        """Evaluate the best weights on every split, and write tables and figures to the run's folder."""
        write_artifacts(self.log.run, self.model, self.evaluators, self.context, self.log, loop.precision)

    def about_model(self) -> dict[str, Any]:
        """Return the source of the recipe's numbers."""
        return {"recipe_source": self.recipe.source}

    def resolved(self) -> dict[str, Any]:
        """Return the recipe's name, and the settings that data and recipe decided."""
        recipe: Recipe = self.recipe
        return {
            "recipe": recipe_name(self.settings, len(self.train)),
            "base_size": self.base_size,
            "ema": recipe.ema or 0.0,
        }

    def report(self) -> RunDescription:
        """See `describe_run`."""
        weights = None if self.settings.init_source is None else str(self.settings.init_source)
        return describe_run(self.architecture.title, self.train, weights, self.held_out)

    def _mask(self, index: int) -> Tensor:
        return torch.from_numpy(self.train.mask(index))


def lr_scales(model: UPerNet, recipe: Recipe) -> dict[str, float]:
    """Return the factor on the learning rate by parameter name; empty without layer-wise decay."""
    encoder = model.encoder
    if recipe.layer_decay == 1:
        return {}
    if isinstance(encoder, ConvNeXt):
        return layer_ids.lr_scales(
            model, encoder.depths, recipe.layer_decay, recipe.layer_decay_type, prefix="encoder."
        )
    assert isinstance(encoder, TimmBackbone)
    return {f"encoder.{name}": scale for name, scale in timm_backbone.lr_scales(encoder, recipe.layer_decay).items()}


_RECIPE = frozenset(
    {
        "epochs", "warmup_epochs", "batch_size", "micro_batch", "lr", "weight_decay", "log_every", "layer_decay",
        "layer_decay_type", "drop_path", "head_dim", "head_norm", "dropout", "auxiliary_weight", "min_scale",
        "max_scale", "ema",
    }
)  # fmt: skip

SEGMENT = register_task(
    TaskSpec(
        verb="segment",
        kind=KIND,
        settings=SegmentSettings,
        run=SegmentRun,
        needs_data="give the images and masks to train on: --data DIR with train/images and train/masks",
        model_title="a segmenter",
        training_title="segmentation",
        build=build,
        evaluate=evaluate,
        predict=predict,
        write=write_segmentations,
        follows={
            "recipe": _RECIPE,
            "init": _RECIPE,
            "model": _RECIPE | {"depths", "dims", "stem_stride"},
            "data": _RECIPE | {"image_size", "base_size"},
            "image_size": frozenset({"base_size", "micro_batch"}),
            **{name: frozenset({"micro_batch"}) for name in SHAPE - {"model", "image_size"}},
        },
    )
)
