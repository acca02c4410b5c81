"""One run of a task as named parts: data, weights, architecture, recipe, model, and what the loop needs of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from convnextv2.data.files.folder import ImageList
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.loop import LoopSettings
from convnextv2.engine.runfolder import read_config
from convnextv2.engine.runlog import RunLog
from convnextv2.engine.task import Task
from convnextv2.errors import UserError
from convnextv2.records import RunDescription
from convnextv2.runs.images import take_images
from convnextv2.runs.settings import ModelSettings
from convnextv2.text import shown
from convnextv2.weights.files import checkpoint_of
from convnextv2.weights.init import ArchitectureRequest, history, preprocessing_for
from convnextv2.weights.load import read
from convnextv2.weights.model_file import ModelFile, ModelInfo, read_model_file

S = TypeVar("S", bound=ModelSettings)

Chosen = list[tuple[str, object, str]]
"""What was chosen for the user: name, value, why."""


class Recipe(Protocol):
    """What every task's recipe holds; it may hold more. A frozen dataclass."""

    @property
    def batch_size(self) -> int: ...
    @property
    def epochs(self) -> float: ...
    @property
    def warmup_epochs(self) -> float: ...
    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...


@dataclass(frozen=True)
class TrainingData:
    """What an epoch goes through once.

    images: in a fixed order.  fingerprint: of them and their labels; a resumed run must find the same.
    about: for config.json.
    """

    images: ImageList
    fingerprint: str
    about: dict[str, Any] = field(default_factory=dict)


class TaskRun(ABC, Generic[S]):
    """One run of a task. `prepare` does what all tasks share, and asks the task for its parts in this order:

    read_data -> (weights to start from, architecture) -> choose_recipe -> build_model -> fill -> describe

    Afterwards the runner asks for `make_task` (the model, batches and step that the loop trains), `loop_settings`, and
    at the end for `finish`. What a part decides is an attribute, so that later parts read it there:

    settings, log, context (the ranks), resuming; data; init (the weights to start from, None for random ones or in a
    resumed run); architecture, image_size, preprocessing; recipe, chosen; model; info (what the model file will say);
    bad, cache (unreadable files, decoded images).
    """

    # Images of which a process must have at least so many at a time, because the step mixes them; and what to say.
    least_micro_batch: int = 1
    least_micro_batch_why: str = ""

    def __init__(self, kind: str, settings: S, context: DistributedContext, log: RunLog, *, resuming: bool) -> None:
        self.kind, self.settings, self.context, self.log, self.resuming = kind, settings, context, log, resuming

    # --- the parts of a task -------------------------------------------------------------------------------------

    @abstractmethod
    def read_data(self) -> TrainingData:
        """List the images (and labels) to train on."""

    @abstractmethod
    def choose_recipe(self) -> tuple[Any, Chosen]:
        """The recipe (see `Recipe`) with the user's values in it, and what was chosen for the user."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The model in training, randomly initialised; the seed is set before."""

    @abstractmethod
    def fill(self, init: ModelFile) -> str:
        """Load the weights to start from into `self.model`; returns what was loaded, in a line."""

    @abstractmethod
    def make_task(self, workers: int) -> Task:
        """What the loop trains; `workers` processes read images."""

    @abstractmethod
    def report(self) -> RunDescription:
        """What the page about the run says and shows."""

    def model_info(self) -> dict[str, Any]:
        """Entries of `ModelInfo` that only this task knows: classes, options of its model, ..."""
        return {}

    def activations(self, images: Tensor) -> Tensor:
        """What one step computes up to the loss, for measuring its memory.  images: (B, C, size, size), zeros."""
        return self.model(images).sum()

    def loop_settings(self, total: int, per_epoch: int) -> dict[str, Any]:
        """Entries of `LoopSettings` beyond the recipe's, given the optimiser steps of the run and of an epoch."""
        return {}

    def finish(self, loop: LoopSettings) -> None:
        """What is left to do after the last step, on every process."""

    def min_side(self) -> int:
        """How small a large JPEG may be decoded, in pixels: enough for the smallest crop."""
        return 3 * self.image_size

    def default_image_size(self, init: ModelFile | None) -> int:
        """Pixels on a side if the user named none."""
        return 224 if init is None else init.info.image_size

    def parameters(self) -> int:
        """How many parameters to tell of."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def about_model(self) -> dict[str, Any]:
        """For config.json, beside name, parameters and origin."""
        return {}

    def resolved(self) -> dict[str, Any]:
        """Settings that were decided beyond the recipe and the architecture."""
        return {}

    # --- what all tasks share ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Decide everything up to the first step."""
        s = self.settings
        self.data = self.read_data()
        saved = self._saved()
        self.init = self._init() if saved is None else None
        known = saved or self.init
        self.architecture = ArchitectureRequest(
            model=s.model, in_chans=s.in_chans, stem_stride=s.stem_stride, depths=s.depths, dims=s.dims
        ).resolve(known)
        self.image_size = s.image_size or self.default_image_size(known)
        self.preprocessing = preprocessing_for(self.architecture.in_chans, known)
        self.recipe, self.chosen = self.choose_recipe()
        torch.manual_seed(s.seed)
        self.model = self.build_model()
        if self.init is not None:
            self.log.say(self.fill(self.init))
        self.bad, self.cache = take_images(
            self.data.images,
            self.data.fingerprint,
            s,
            channels=self.architecture.in_chans,
            min_side=self.min_side(),
            resuming=self.resuming,
            context=self.context,
            log=self.log,
        )
        self.info = self._describe() if saved is None else saved.info

    def origin(self) -> dict[str, str | None]:
        """For config.json: where the weights come from, and the hash of what came."""
        if self.init is None:
            return {"from": "random weights", "from_sha256": None}
        return {"from": str(self.settings.init), "from_sha256": self.init.sha256}

    def _saved(self) -> ModelFile | None:
        """The newest weights of the run that is resumed; None if it was stopped before it saved any."""
        found = checkpoint_of(self.log.run) if self.resuming else None
        return None if found is None else read_model_file(found)

    def _init(self) -> ModelFile | None:
        """The weights to start from; those of a resumed run must be what it began with."""
        source = self.settings.init_source
        if source is None:
            return None
        init = read(source)
        if self.resuming and read_config(self.log.run / "config.json")["model"]["from_sha256"] != init.sha256:
            raise UserError(
                f"--resume: {init.path} is not what the run began with; name the weights with --init, a new --out"
            )
        return init

    def _describe(self) -> ModelInfo:
        data, init = self.settings.data, self.init
        return ModelInfo(
            kind=self.kind,
            architecture=self.architecture,
            preprocessing=self.preprocessing,
            image_size=self.image_size,
            trained_on=shown(data.name) if data else "",
            trained_from=history(init),
            licence=None if init is None else init.info.licence,
            **self.model_info(),
        )
