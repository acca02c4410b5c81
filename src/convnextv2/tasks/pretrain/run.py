"""A run of masked pre-training, from settings to report."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

import torch
from torch import Tensor

from convnextv2.atomic import write_text_atomically
from convnextv2.data.files.band_files import images_of_bands
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.given import Images, images_of, is_path
from convnextv2.data.files.parts import paged
from convnextv2.data.files.path_list import PathList
from convnextv2.data.files.reading import ANY
from convnextv2.data.transforms.bands import RandomTurn
from convnextv2.data.transforms.geometry import RandomResizedCropFlip
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.engine.precision import autocast
from convnextv2.errors import LoadError, UserError
from convnextv2.models import ConvNeXt
from convnextv2.models.config import EncoderConfig
from convnextv2.records import RunDescription
from convnextv2.runs.images import fingerprint
from convnextv2.runs.runner import RunResult, call
from convnextv2.runs.spec import TaskSpec, register_task
from convnextv2.runs.task_run import Chosen, TaskRun, TrainingData
from convnextv2.settings import StrPath, converted
from convnextv2.signatures import verb
from convnextv2.tasks.pretrain import recipes
from convnextv2.tasks.pretrain.advice import advise
from convnextv2.tasks.pretrain.description import describe_run
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.settings import PretrainSettings, whole_patches
from convnextv2.tasks.pretrain.task import CropAndMask, PretrainTask
from convnextv2.weights.init import fill_encoder
from convnextv2.weights.model_file import ModelFile, ModelInfo

KIND = "fcmae"


@verb(PretrainSettings, unchecked=("data",))
def pretrain(data: Images | None = None, out: StrPath | None = None, **settings: Any) -> RunResult:
    """Pre-train a ConvNeXt with FCMAE on images without labels, as `convnextv2 pretrain` does.

    data: a folder of images or a text file of paths; or several paths, arrays, tensors, PIL images, or a map-style
    dataset, see `data.files.given.Images`.  out: a new folder for the run.

    A run that was given anything but one path is resumed by giving the same again: the number of images, their paths,
    and of images in memory the pixels of 64 are compared. A dataset must give the same image for an index each time.

    Raises UserError for a mistake in these, RunFailedError if the run cannot go on (a loss that is not finite, too many
    unreadable files), StoppedError after a signal, when everything is saved.
    """
    if data is None or is_path(data):
        return call(PRETRAIN, data, out, settings)
    images = images_of(data)
    if images.held is None:
        images = replace(images, names=PathList(os.path.abspath(name) for name in images.names))
    return call(PRETRAIN, None, out, settings, images)


@dataclass(frozen=True)
class FCMAEOptions:
    """Arguments of `FCMAE` beside its encoder, as a model file keeps them; the defaults are the paper's."""

    mask_ratio: float = 0.6
    decoder_dim: int = 512
    decoder_depth: int = 1
    norm_pix_loss: bool = True
    min_valid: float = 0.5

    def __post_init__(self) -> None:
        """Check types; ranges are checked by `FCMAE`. Raises UserError."""
        hints = get_type_hints(FCMAEOptions)
        for entry in dataclasses.fields(self):
            object.__setattr__(self, entry.name, converted(entry.name, getattr(self, entry.name), hints[entry.name]))


def build_fcmae(info: ModelInfo) -> FCMAE:
    """Build the masked autoencoder that a model file describes, randomly initialised."""
    if not isinstance(info.architecture, EncoderConfig):
        raise LoadError(f"{info.architecture.name} cannot be pre-trained: only a ConvNeXt can")
    if missing := {"decoder_dim", "decoder_depth"} - info.options.keys():
        raise KeyError(*missing)
    holds, message = whole_patches(info.image_size, info.architecture.patch_size)
    if not holds:
        raise UserError(message)
    return FCMAE(ConvNeXt(info.architecture, num_classes=0), **dataclasses.asdict(FCMAEOptions(**info.options)))


def options_of_others(beside: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return arguments of the masked autoencoder with these tensors (any shapes) beside its encoder.

    What they do not determine is as published.
    """
    token = beside.get("mask_token", beside.get("proj.bias"))
    blocks = [int(match[1]) for match in map(re.compile(r"decoder\.(\d{1,4})\..*").fullmatch, beside) if match]
    options = FCMAEOptions(decoder_depth=min(max(blocks, default=0), 63) + 1)
    if token is not None:
        options = replace(options, decoder_dim=token.numel())
    return dataclasses.asdict(options)


class PretrainRun(TaskRun[PretrainSettings]):
    """The parts of a pre-training run, see `TaskRun`."""

    model: FCMAE

    def read_data(self) -> TrainingData:
        """List all images of the folder; labels are not used."""
        source, images = self.source, self.given
        assert source is not None
        if images is None:
            images = list_images(source)
        images = images_of_bands(images, self.patterns)
        images = paged(images, ANY) if self.settings.pages == "images" and images.held is None else images
        ignored = ", ".join(f"{count} {kind or 'without extension'}" for kind, count in images.ignored.items())
        self.log.say(f"{len(images)} images in {source}" + (f" (ignored: {ignored})" if ignored else ""))
        return TrainingData(images, fingerprint((images, None)), {"passed_over": dict(images.ignored)})

    def default_image_size(self, init: ModelFile | None) -> int:
        """Return that of the weights to start from, in whole patches."""
        size = super().default_image_size(init)
        if init is None or not isinstance(self.architecture, EncoderConfig):
            return size
        patch = self.architecture.patch_size
        return max(2, round(size / patch)) * patch

    def as_published(self) -> bool:
        """Return whether the recipe is the paper's."""
        return self.settings.recipe == "paper"

    def choose_recipe(self) -> tuple[recipes.Recipe, Chosen]:
        """Return the paper's recipe, or one that fits the folder."""
        settings, images = self.settings, self.samples_of_an_epoch()
        recipe, chosen = recipes.resolve(settings, images, self.context.world_size)
        if settings.recipe == "paper" and settings.batch_size is None and images < recipe.batch_size:
            raise UserError(
                f"{images} images make zero steps with the paper's batch of {recipe.batch_size}: "
                "use --recipe auto, or a smaller --batch-size"
            )
        return recipe, chosen

    def build_model(self) -> FCMAE:
        """Build the encoder, and a decoder as requested, else as in the weights to start from, else the paper's."""
        init, config = self.init, self.architecture
        if not isinstance(config, EncoderConfig):
            where = f"--init {init.path} holds a" if init else "--model"
            raise LoadError(f"{where} {config.name}: only a ConvNeXt can be pre-trained")
        holds, message = whole_patches(self.image_size, config.patch_size)
        if not holds:
            raise UserError(message)
        had = init.info.options if init is not None and init.info.kind == KIND else {}
        names = [field.name for field in dataclasses.fields(FCMAEOptions)]
        requested = {name: value for name in names if (value := getattr(self.settings, name)) is not None}
        self.options = FCMAEOptions(**{**had, **requested})
        return FCMAE(ConvNeXt(config, num_classes=0), **dataclasses.asdict(self.options))

    def fill(self, init: ModelFile) -> str:
        """Load its encoder, and its decoder if it has one that fits."""
        return fill_encoder(self.model, init, self.settings.inflate, rest_is="decoder", names=self.channel_names)

    def model_info(self) -> dict[str, Any]:
        """Return the decoder's arguments."""
        return {"options": dataclasses.asdict(self.options)}

    def activations(self, images: Tensor) -> Tensor:
        """Compute the loss, a scalar, of one pass.  images: (B, C, H, W)."""
        return self.model(images).loss

    def make_task(self, workers: int) -> PretrainTask:
        """See `PretrainTask`."""
        scale, format = (self.settings.min_scale, 1.0), self.preprocessing.format
        crop = RandomResizedCropFlip(self.image_size, scale=scale, flip=self.settings.flip, format=format)
        model = self.model
        turn = RandomTurn() if self.settings.orientation == "any" else None
        transform = CropAndMask(crop, self.image_size // model.cell, model.mask_ratio, model.min_valid, turn)
        self.task = PretrainTask(
            self.model,
            self.image_set(transform, crops=self.settings.crops_per_image, window=self._window()),
            info=self.info,
            batch_size=self.recipe.batch_size,
            seed=self.settings.seed,
            workers=workers,
            bad=self.bad,
        )
        return self.task

    def finish(self, loop: LoopSettings) -> None:
        """Write how well each band is predicted to the run's folder, for the report."""
        if self.preprocessing.bands is None or not self.context.is_main:
            return
        self.model.eval()
        with torch.no_grad(), autocast(loop.precision, self.context.device):
            table = self.task.band_table(self.model, loop.total_steps)
        if table is not None:
            write_text_atomically(self.log.run / "table-reconstruction.json", json.dumps(table))

    def _window(self) -> int | None:
        """Pixels on a side of the parts that crops are taken from: at the middle of their range, of the image's size.

        A crop takes down to `min_scale` of the area, 0.45 of the side by default.
        """
        return round(1.5 * self.image_size) if self.settings.crops_per_image > 1 else None

    def samples_of_an_epoch(self) -> int:
        """Return how many samples an epoch has: several of each image if asked for."""
        return len(self.data.images) * self.settings.crops_per_image

    def header_pixels(self) -> int:
        """See `TaskRun`: any number where only parts are decoded."""
        return super().header_pixels() if self.settings.crops_per_image == 1 else ANY

    def loop_settings(self, total: int, per_epoch: int) -> dict[str, Any]:
        """Return when reconstructions are drawn and their loss is logged."""
        drawn = self.settings.pictures
        every = max(1, total // (drawn + 1)) if drawn else 0
        return {"eval_every": every, "samples_every": every}

    def advise(self, loop: LoopSettings, seconds: float) -> list[str]:
        """See `advice.advise`; weights to start from have learned already."""
        if self.init is not None:
            return []
        return list(
            advise(
                self.samples_of_an_epoch(),
                loop.total_steps,
                seconds,
                image_size=self.image_size,
                patch=self.model.cell,
                minutes=self.settings.minutes,
            )
        )

    def parameters(self) -> int:
        """Count the encoder's parameters: what is kept after pre-training."""
        return sum(parameter.numel() for parameter in self.model.encoder.parameters())

    def about_model(self) -> dict[str, Any]:
        """Return the number of the decoder's parameters."""
        return {"decoder_parameters": super().parameters() - self.parameters()}

    def resolved(self) -> dict[str, Any]:
        """Return the decoder's arguments."""
        return dataclasses.asdict(self.options)

    def report(self) -> RunDescription:
        """See `describe_run`."""
        return describe_run(self.architecture.title, len(self.data.images), normalised=self.options.norm_pix_loss)


_OPTIONS = frozenset(field.name for field in dataclasses.fields(FCMAEOptions))
_RECIPE = frozenset({"epochs", "warmup_epochs", "batch_size", "micro_batch", "lr", "weight_decay", "log_every"})

PRETRAIN = register_task(
    TaskSpec(
        verb="pretrain",
        kind=KIND,
        settings=PretrainSettings,
        run=PretrainRun,
        needs_data="give the images to train on: --data DIR, a folder of images or a text file of paths",
        model_title="a masked autoencoder with its decoder",
        training_title="masked pre-training",
        build=build_fcmae,
        foreign=options_of_others,
        follows={"recipe": _RECIPE, "init": _OPTIONS},
    )
)
