"""One run of a task as named parts: data, weights, architecture, recipe, model, and what the loop needs of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from convnextv2.data.files.extent import extent
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.look import look
from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.image_set import ImageSet, Targets, Transform
from convnextv2.engine import machine
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.engine.parts import advising
from convnextv2.engine.runfolder import read_config
from convnextv2.engine.runlog import RunLog
from convnextv2.engine.task import Task
from convnextv2.errors import UserError
from convnextv2.models.config import TIMM_PREFIX
from convnextv2.records import Preprocessing, RunDescription
from convnextv2.runs.images import check_images, take_images
from convnextv2.runs.input import STATISTICS, STATISTICS_PICTURE, choose_input, patterns_of
from convnextv2.runs.settings import PUBLISHED_SIZE, PUBLISHED_STEM, ModelSettings, size_for, stem_for
from convnextv2.settings import as_value_range
from convnextv2.text import shown
from convnextv2.weights.adapt import COLOURS
from convnextv2.weights.files import checkpoint_of
from convnextv2.weights.init import ArchitectureRequest, history, preprocessing_for
from convnextv2.weights.load import read
from convnextv2.weights.model_file import ModelFile, ModelInfo, read_model_file

S = TypeVar("S", bound=ModelSettings)

Chosen = list[tuple[str, object, str]]
"""What was chosen for the user: name, value, why."""


class Recipe(Protocol):
    """What every task's recipe has; it may have more. A frozen dataclass."""

    @property
    def batch_size(self) -> int:
        """Images per optimiser step, over all processes."""
        ...

    @property
    def epochs(self) -> float:
        """Passes over the images; may be a fraction."""
        ...

    @property
    def warmup_epochs(self) -> float:
        """Epochs of linear warm-up."""
        ...

    @property
    def lr(self) -> float:
        """Highest learning rate, as used (not a base rate)."""
        ...

    @property
    def weight_decay(self) -> float:
        """AdamW weight decay."""
        ...

    @property
    def betas(self) -> tuple[float, float]:
        """AdamW betas."""
        ...


@dataclass(frozen=True)
class TrainingData:
    """The images of one epoch.

    images: in a fixed order.  fingerprint: of them and their labels; a resumed run must find the same.
    about: for config.json.  held_out: the images to evaluate with, if there are any.
    """

    images: ImageList
    fingerprint: str
    about: dict[str, Any] = field(default_factory=dict)
    held_out: tuple[ImageList, ...] = ()

    @property
    def lists(self) -> tuple[ImageList, ...]:
        """All images of the run."""
        return (self.images, *self.held_out)


class TaskRun(ABC, Generic[S]):
    """One run of a task. `prepare` does what all tasks share, and calls the parts of the task in this order:

    read_data -> (weights to start from, architecture) -> choose_recipe -> build_model -> fill -> describe

    Afterwards the runner calls `make_task` (the model, batches and step that the loop trains), `loop_settings`, and at
    the end `finish`. What a part decides is an attribute, so that later parts read it there:

    settings, log, context (the ranks), resuming, given (the images, if the call gave these and no path); patterns (of
    files of a band each, by which `read_data` lists the images); data; init
    (the weights to start from, None for random ones or in a resumed run); architecture, image_size, preprocessing;
    recipe, chosen; model; info (the metadata of the model file); bad, cache (unreadable files, decoded images).
    """

    # Least number of images that a process must have at a time, because the step mixes them; and the error message.
    least_micro_batch: int = 1
    least_micro_batch_why: str = ""

    def __init__(
        self,
        kind: str,
        settings: S,
        context: DistributedContext,
        log: RunLog,
        *,
        resuming: bool,
        images: ImageList | None = None,
    ) -> None:
        self.kind, self.settings, self.context, self.log, self.resuming = kind, settings, context, log, resuming
        self.given = images

    # --- the parts of a task -------------------------------------------------------------------------------------

    @abstractmethod
    def read_data(self) -> TrainingData:
        """List the images (and labels) to train on."""

    @abstractmethod
    def choose_recipe(self) -> tuple[Any, Chosen]:
        """Return the recipe (see `Recipe`) with the user's values in it, and what was chosen for the user."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Build the model to train, randomly initialised; the seed is set before."""

    @abstractmethod
    def fill(self, init: ModelFile) -> str:
        """Load the weights to start from into `self.model`; returns what was loaded, in a line."""

    @abstractmethod
    def make_task(self, workers: int) -> Task:
        """Build what the loop trains; `workers` processes read images."""

    @abstractmethod
    def report(self) -> RunDescription:
        """Return the texts of the page about the run."""

    def model_info(self) -> dict[str, Any]:
        """Return entries of `ModelInfo` that only this task knows: classes, options of its model, ..."""
        return {}

    def activations(self, images: Tensor) -> Tensor:
        """Compute one step up to the loss, a scalar, to measure its memory.  images: (B, C, size, size), zeros.

        To be defined by a task whose model takes more than images, or returns more than a tensor.
        """
        output = self.model(images)
        if not isinstance(output, Tensor):
            raise TypeError(f"define {type(self).__name__}.activations: the model returns a {type(output).__name__}")
        return output.sum()

    def loop_settings(self, total: int, per_epoch: int) -> dict[str, Any]:
        """Return entries of `LoopSettings` beyond the recipe's, given the optimiser steps of the run and an epoch."""
        return {}

    def finish(self, loop: LoopSettings) -> None:
        """Do what is left after the last step, on every process."""

    def min_side(self) -> int:
        """Return how small a large JPEG may be decoded, in pixels: enough for the smallest crop."""
        return 3 * self.image_size

    def default_image_size(self, init: ModelFile | None) -> int:
        """Return the pixels on a side if the user gave none and they do not follow from the files."""
        return PUBLISHED_SIZE if init is None else init.info.image_size

    def as_published(self) -> bool:
        """Return whether image size and stem are the published ones by default, whatever the files are."""
        return False

    def samples_of_an_epoch(self) -> int:
        """Return how many samples an epoch has."""
        return len(self.data.images)

    def header_pixels(self) -> int:
        """Return how many pixels a file may have of which only the header is read."""
        return self.settings.max_pixels

    def parameters(self) -> int:
        """Count the parameters that are reported."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def about_model(self) -> dict[str, Any]:
        """Return entries of config.json's model, beside name, parameters and origin."""
        return {}

    def advise(self, loop: LoopSettings, seconds: float) -> list[str]:
        """Return what the user should know before the first step, a sentence each: too few steps, too little data.

        seconds: of an optimiser step on this machine.
        """
        return []

    def resolved(self) -> dict[str, Any]:
        """Return settings that were decided beyond the recipe and the architecture."""
        return {}

    # --- what all tasks share ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Decide everything up to the first step."""
        s = self.settings
        saved = self._saved()
        self.init = self._init() if saved is None else None
        known = saved or self.init
        held = None if known is None else known.info.preprocessing
        self.patterns = patterns_of(s, held)
        self.data = self.read_data()
        check_images(
            self.data.lists,
            self.data.fingerprint,
            self.source,
            resuming=self.resuming,
            context=self.context,
            log=self.log,
        )
        numbers = held if saved is not None else self._choose_input(held)
        in_chans = s.in_chans if numbers is None or numbers.bands is None else len(numbers.mean)
        size, stem, fitted = s.image_size, s.stem_stride, []
        if known is None and not self.as_published():
            size, stem, fitted = self.context.broadcast(lambda: self._fitting(as_pictures=numbers is None))
        self.architecture = ArchitectureRequest(
            model=s.model, in_chans=in_chans, stem_stride=stem, depths=s.depths, dims=s.dims
        ).resolve(known)
        self.image_size = size or self.default_image_size(known)
        self.preprocessing = numbers or preprocessing_for(self.architecture.in_chans, known)
        if s.value_range is not None:
            self.preprocessing = replace(self.preprocessing, value_range=as_value_range(s.value_range))
        if not self.resuming and self.preprocessing.bands is None:
            self.context.broadcast(self._look)
        self.recipe, chosen = self.choose_recipe()
        self.chosen = [*fitted, *chosen]
        torch.manual_seed(s.seed)
        self.model = self.build_model()
        if self.init is not None:
            self.log.say(self.fill(self.init))
        self.bad, self.cache = take_images(
            self.data.images,
            s,
            reading=self.reading,
            resuming=self.resuming,
            context=self.context,
            log=self.log,
        )
        self.info = self._describe() if saved is None else saved.info

    @property
    def source(self) -> Path | None:
        """Where the images lie, or what they are if the call gave them itself."""
        return self.settings.data if self.given is None else self.given.source

    @property
    def reading(self) -> Reading:
        """How the images to train on are decoded."""
        return Reading(
            self.architecture.in_chans,
            self.settings.max_pixels,
            self.min_side(),
            self.preprocessing.value_range,
            self.preprocessing.bands,
        )

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the channels of the images are called, "" for one without a name; empty if none has one."""
        bands = self.preprocessing.bands
        if bands is not None:
            return bands.names
        return COLOURS if self.architecture.in_chans == 3 else ()

    def image_set(
        self, transform: Transform, targets: Targets | None = None, *, crops: int = 1, window: int | None = None
    ) -> ImageSet:
        """Return the images to train on, from the files or the run's cache, which give the same pixels.

        transform, targets, crops, window: see `ImageSet`.
        """
        return ImageSet(
            self.data.images,
            transform,
            reading=self.reading,
            seed=self.settings.seed,
            cache=self.cache,
            targets=targets,
            crops=crops,
            window=window,
        )

    def origin(self) -> dict[str, str | None]:
        """Return entries of config.json: where the weights come from, and their hash."""
        if self.init is None:
            return {"from": "random weights", "from_sha256": None}
        return {"from": str(self.settings.init), "from_sha256": self.init.sha256}

    def _saved(self) -> ModelFile | None:
        """The newest weights of the run that is resumed; None if it was stopped before it saved any."""
        found = checkpoint_of(self.log.run) if self.resuming else None
        if found is None:
            return None
        with advising(found, read_config(self.log.run / "config.json").get("run")):
            return read_model_file(found)

    def _init(self) -> ModelFile | None:
        """The weights to start from; those of a resumed run must be what it began with."""
        source = self.settings.init_source
        if source is None:
            return None
        init = read(source)
        if self.resuming and read_config(self.log.run / "config.json")["model"].get("from_sha256") != init.sha256:
            raise UserError(
                f"--resume: {init.path} is not what the run began with; name the weights with --init, a new --out"
            )
        return init

    def description(self) -> RunDescription:
        """Return what `report` does, and what the picture of the statistics is if the run made them."""
        said = self.report()
        made = (self.log.run / STATISTICS).is_file()
        return replace(said, samples=(*said.samples, STATISTICS_PICTURE)) if made else said

    def _choose_input(self, held: Preprocessing | None) -> Preprocessing | None:
        """How the files are read as numbers, if they are; the main process finds out and says so.

        held: of the weights to start from.
        """
        workers = self.settings.workers
        if workers is None:
            workers = min(max(1, machine.processors() - 1), 8)
        most = self.header_pixels()
        found = self.context.broadcast(lambda: choose_input(self.data.images, self.settings, held, workers, most))
        for line in found.said:
            self.log.say(line)
        if self.context.is_main:
            found.write(self.log.run)
        return found.preprocessing

    def _fitting(self, *, as_pictures: bool) -> tuple[int | None, int | None, Chosen]:
        """Image size and stem of a new model: as asked, else as the files are; and what was chosen.

        as_pictures: whether the files are read as pictures, which may have no colour.
        """
        s, size, stem = self.settings, self.settings.image_size, self.settings.stem_stride
        is_ours = not (s.model or "").startswith(TIMM_PREFIX)
        if size is not None and (stem is not None or not is_ours) and s.in_chans is not None:
            return size, stem, []
        seen = extent(self.data.images, max_pixels=self.header_pixels())
        if seen.grey and s.in_chans is None and as_pictures and not self.resuming:
            self.log.say("the images have no colour: --in-chans 1 reads them as grey, which is faster")
        if not seen.files:
            return size, stem, []
        chosen: Chosen = []
        if stem is None and is_ours:
            stem = stem_for(size or seen.side)
            chosen.append(("stem_stride", stem, f"for images of {size or seen.side} pixels"))
        if size is None:
            size = size_for(seen.side, 8 * (stem or PUBLISHED_STEM))
            why = f"the shorter side of the files is {seen.side} pixels, the median of {seen.files}"
            chosen.insert(0, ("image_size", size, why))
        return size, stem, chosen

    def _look(self) -> None:
        """Say what kinds of numbers the files hold. Raises UserError if the way they are read loses their range."""
        value_range, asked = self.preprocessing.value_range, self.settings.value_range is not None
        found = look(self.data.images, value_range, max_pixels=self.settings.max_pixels)
        if found.lost and not asked:
            raise UserError(f"{found.said}: {found.lost}")
        if found.said:
            self.log.say("; ".join(filter(None, (found.said, found.lost))))
        if asked and found.files and found.files == found.plain:
            self.log.say(f"--value-range: the {found.files} files looked at have 8 bits, which stay as they are")

    def _describe(self) -> ModelInfo:
        data, init = self.settings.data, self.init
        trained_on = shown(data.name) if data else ""
        if self.given is not None:
            trained_on = f"{len(self.given):,} images in {self.given.source}"
        return ModelInfo(
            kind=self.kind,
            architecture=self.architecture,
            preprocessing=self.preprocessing,
            image_size=self.image_size,
            trained_on=trained_on,
            trained_from=history(init),
            licence=None if init is None else init.info.licence,
            **self.model_info(),
        )
