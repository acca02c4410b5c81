"""Settings, recipe, the parts of a run, and the registration."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from convnextv2.extend import (
    MetricInfo,
    ModelSettings,
    RandomResizedCropFlip,
    RunDescription,
    RunResult,
    SampleInfo,
    StepOutput,
    TaskRun,
    TaskSpec,
    TrainingBatches,
    TrainingData,
    fill_encoder,
    fingerprint,
    list_images,
    normalise,
    register_task,
    train,
)
from mean_colour.data import CropWithColour
from mean_colour.inference import evaluate, predict
from mean_colour.model import MeanColour, build

KIND = "mean-colour"


@dataclass(frozen=True, kw_only=True)
class MeanColourSettings(ModelSettings):
    """Settings of this task, beside those of every run."""

    hidden: int = 8
    """Width of the head."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        yield from super().rules()
        yield from self.in_range("hidden", 1, float("inf"))


@dataclass(frozen=True)
class Recipe:
    batch_size: int
    epochs: float
    warmup_epochs: float
    lr: float
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)


class MeanColourTask:
    """What the loop trains."""

    def __init__(self, run: "MeanColourRun", workers: int) -> None:
        self.model, self.metadata, self.preprocessing = run.model, run.info.to_metadata(), run.preprocessing
        dataset = run.image_set(CropWithColour(RandomResizedCropFlip(run.image_size)))
        self.batches = TrainingBatches(
            dataset, batch_size=run.recipe.batch_size, seed=run.settings.seed, workers=workers, bad=run.bad
        )
        self.judged = dataset

    def step(self, model, batch) -> StepOutput:
        predicted = model(normalise(batch.tensors["images"], self.preprocessing))
        return StepOutput(torch.nn.functional.mse_loss(predicted.float(), batch.tensors["colour"]))

    def evaluate(self, model, context) -> Iterator[tuple[str, float]]:
        sample = self.judged[0, 0].tensors
        predicted = model(normalise(sample["images"][None], self.preprocessing))[0]
        yield "closeness", 1 - float((predicted.float() - sample["colour"]).abs().mean())

    def samples(self, model) -> Iterator[tuple[str, Image.Image]]:
        colour = model(normalise(self.judged[0, 0].tensors["images"][None], self.preprocessing))[0]
        yield "guess", Image.new("RGB", (64, 64), tuple((255 * colour).round().int().tolist()))


class MeanColourRun(TaskRun[MeanColourSettings]):
    """The parts of a run, see `TaskRun`."""

    model: MeanColour

    def read_data(self) -> TrainingData:
        images = list_images(self.settings.data)
        return TrainingData(images, fingerprint((images, None)))

    def choose_recipe(self):
        s = self.settings
        return Recipe(s.batch_size or 8, s.epochs or 10, s.warmup_epochs or 0, s.lr or 1e-3), []

    def build_model(self) -> MeanColour:
        self.options = {"hidden": self.settings.hidden}
        return build(self._describe())

    def fill(self, init) -> str:
        return fill_encoder(self.model, init, self.settings.inflate, names=self.channel_names)

    def model_info(self) -> dict[str, Any]:
        return {"options": self.options}

    def make_task(self, workers: int) -> MeanColourTask:
        return MeanColourTask(self, workers)

    def loop_settings(self, total: int, per_epoch: int) -> dict[str, Any]:
        return {"eval_every": per_epoch, "best": "closeness"}

    def report(self) -> RunDescription:
        return RunDescription(
            headline=f"The mean colour by {self.architecture.name}",
            learns=f"on {len(self.data.images)} images",
            primary="closeness",
            metrics=(MetricInfo("closeness", "Closeness", percent=True, description="One is the very colour."),),
            samples=(SampleInfo("guess", "The colour predicted for the first image."),),
            commands=(("convnextv2 predict --run {run} images/", "The mean colour of your own images."),),
        )


MEAN_COLOUR = register_task(
    TaskSpec(
        verb="mean-colour",
        kind=KIND,
        settings=MeanColourSettings,
        run=MeanColourRun,
        needs_data="say which images to learn from: --data DIR",
        build=build,
        evaluate=evaluate,
        predict=predict,
    )
)


def mean_colour(data: Path | None = None, out: Path | None = None, **settings: Any) -> RunResult:
    """Train; as `convnextv2.pretrain` and `convnextv2.classify` do for theirs."""
    return train(MEAN_COLOUR, data, out, settings)
