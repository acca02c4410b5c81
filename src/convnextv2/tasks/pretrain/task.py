"""Pre-training as a task for the engine: masked images in, the error of the reconstruction out."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL.Image import Image
from torch import Tensor, nn

from convnextv2.data.files.raster import Window
from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.transforms.bands import RandomTurn
from convnextv2.data.transforms.colour import existing, normalise
from convnextv2.data.transforms.geometry import CenterFit, RandomResizedCropFlip
from convnextv2.engine.distributed import DistributedContext
from convnextv2.errors import BadImageError
from convnextv2.records import StepOutput, TaskBatch
from convnextv2.runs.batches import TrainingBatches
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.masking import absent_cells, random_mask
from convnextv2.tasks.pretrain.samples import BANDS_NOTE, band_errors, reconstruction_grid
from convnextv2.weights.model_file import ModelInfo

_TRIES = 50
SHOWN = 8  # images of a reconstruction grid


@dataclass(frozen=True)
class CropAndMask:
    """The augmentation of one image, and its mask, from the same random numbers."""

    crop: RandomResizedCropFlip
    cells: int
    mask_ratio: float
    min_valid: float = 0.5
    turn: RandomTurn | None = None

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """image: (C, H, W), see `ImageSet.read`.  Returns images (C, size, size) and mask (cells, cells).

        Of an image in which pixels are missing, a part with at least two cells to see and to predict is looked for.
        Raises BadImageError if there is none.
        """
        for _ in range(_TRIES):
            crop = self.crop(image)
            crop = crop if self.turn is None else self.turn(crop)
            valid = existing(crop)
            if valid is None:
                return {"images": crop, "mask": random_mask(1, self.cells, self.cells, self.mask_ratio)[0]}
            absent = absent_cells(valid[None], crop.shape[-1] // self.cells, self.min_valid)
            if (~absent).sum() >= 2:
                mask = random_mask(1, self.cells, self.cells, self.mask_ratio, absent=absent)[0]
                return {"images": crop, "mask": mask}
        raise BadImageError("", f"no crop of {_TRIES} has two patches with data in {100 * self.min_valid:g} % of them")


class PretrainTask:
    """FCMAE on a list of images. See `convnextv2.engine.task.Task`."""

    def __init__(
        self,
        model: FCMAE,
        dataset: ImageSet,
        *,
        info: ModelInfo,
        batch_size: int,
        seed: int,
        workers: int,
        bad: BadImages,
    ) -> None:
        """dataset: transformed by `CropAndMask`.  seed: of the order.  The other arguments: as `TaskRun` has them."""
        self.model, self.metadata, self.preprocessing = model, info.to_metadata(), info.preprocessing
        # The final norm and a head are not used in pre-training: no gradient reaches them.
        model.encoder.norm.requires_grad_(False)
        model.encoder.head.requires_grad_(False)
        self._set, self._image_size, self._seed = dataset, info.image_size, seed
        self.batches = TrainingBatches(dataset, batch_size=batch_size, seed=seed, workers=workers, bad=bad)
        self._shown: tuple[Tensor, Tensor, Tensor | None] | None = None

    def step(self, model: nn.Module, batch: TaskBatch) -> StepOutput:
        """Compute the error of the reconstruction over masked cells."""
        pixels = batch.tensors["images"]
        images = normalise(pixels, self.preprocessing)
        return StepOutput(model(images, batch.tensors["mask"], valid=existing(pixels)).loss)

    def evaluate(self, model: nn.Module, context: DistributedContext) -> Iterator[tuple[str, float]]:
        """Yield the loss of the images that are shown, under their fixed masks: comparable over the whole run."""
        images, mask, valid = self._show()
        if len(images):
            yield "shown_loss", float(model(images, mask, valid=valid).loss)

    def samples(self, model: nn.Module) -> Iterator[tuple[str, Image]]:
        """Yield the reconstructions of the same few images under the same masks every time."""
        assert isinstance(model, FCMAE)
        images, mask, valid = self._show()
        if len(images):
            prediction = model.reconstruct(images, mask, valid=valid).prediction
            norm_pix = model.norm_pix_loss
            yield (
                "reconstruction",
                reconstruction_grid(images, mask, prediction, self.preprocessing, norm_pix=norm_pix, valid=valid),
            )

    def band_table(self, model: FCMAE, step: int) -> dict[str, object] | None:
        """Return a table of the report: how well each band of the shown images is predicted. None if none can be read.

        model: with the weights to judge.  step: after which they were.
        """
        images, mask, valid = self._show()
        bands = self.preprocessing.bands
        if bands is None or not len(images):
            return None
        prediction = model.reconstruct(images, mask, valid=valid).prediction
        error, of_mean = band_errors(images, mask, prediction, norm_pix=model.norm_pix_loss, valid=valid)
        names = bands.names or ("",) * len(bands.channels)
        called = [f"{band + 1} {name}".strip() for band, name in zip(bands.channels, names, strict=True)]
        rows = [
            (name, f"{own:.4f}", f"{mean:.4f}", f"{100 * (1 - own / mean):.0f} %" if mean > 0 else "")
            for name, own, mean in zip(called, error.tolist(), of_mean.tolist(), strict=True)
        ]
        columns = ("band", "error", "of the patch's mean", "explained")
        return {"title": "Error of each band", "columns": columns, "rows": rows, "note": BANDS_NOTE, "step": step}

    def _show(self) -> tuple[Tensor, Tensor, Tensor | None]:
        if self._shown is None:
            size, total = self._image_size, len(self._set.images)
            middle = None if self._set.window is None else Window(0.5, 0.5, self._set.window)
            fit = CenterFit(size, format=self.preprocessing.format)
            found, count = [], min(SHOWN, total)
            spread = (index * total // count for index in range(count))
            for index in itertools.islice(itertools.chain(spread, range(total)), 10 * count):
                with contextlib.suppress(BadImageError):
                    found.append(fit(self._set.read(index, middle)))
                if len(found) == count:
                    break
            device = self.model.mask_token.device
            images = torch.stack(found) if found else torch.zeros(0, self.model.encoder.in_chans, size, size)
            cells = size // self.model.cell
            generator = torch.Generator().manual_seed(self._seed)
            valid = existing(images)
            absent = None if valid is None else absent_cells(valid, self.model.cell, self.model.min_valid)
            mask = random_mask(len(images), cells, cells, self.model.mask_ratio, generator, absent=absent)
            shown = normalise(images.to(device), self.preprocessing), mask.to(device)
            self._shown = *shown, None if valid is None else valid.to(device)
        return self._shown
