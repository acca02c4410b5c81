"""A model with its preprocessing inside: uint8 images in, outputs out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.given import Images, images_of, is_path
from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.cache import as_tensor
from convnextv2.data.transforms.geometry import CenterFit, Resize
from convnextv2.errors import UserError
from convnextv2.records import Preprocessing
from convnextv2.text import one_line


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How image files become a model's input.

    in_chans: channels.  image_size: pixels on a side.  preprocessing: statistics of the input.  crop_pct, resize: see
    `CenterFit`.
    """

    in_chans: int
    image_size: int
    preprocessing: Preprocessing
    crop_pct: float | None = None
    resize: Resize = "auto"

    @property
    def fit(self) -> CenterFit:
        """The resize and crop that bring a decoded image to `image_size`."""
        return CenterFit(self.image_size, crop_pct=self.crop_pct, resize=self.resize, format=self.preprocessing.format)

    def reading(self, max_pixels: int = MAX_PIXELS) -> Reading:
        """Return how files are decoded, before `fit`.  max_pixels: see `Reading`."""
        statistics = self.preprocessing
        return Reading(self.in_chans, max_pixels, value_range=statistics.value_range, bands=statistics.bands)


class Normalise(nn.Module):
    """The model's float32 input from pixels, see `Preprocessing`; the statistics move with the module.

    Not part of any state dict: a model file has them in its metadata.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self._bands = preprocessing.bands is not None
        low, high = zip(*preprocessing.limits, strict=True)
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std), ("low", low), ("high", high)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 of the same shape.  images: (..., C, H, W), 0 to 255, or values of bands, NaN for missing."""
        if self._bands:
            return ((images.float().clamp(self.low, self.high) - self.mean) / self.std).nan_to_num(0)
        return (images.float() / 255 - self.mean) / self.std


class Predictor(nn.Module):
    """A model for inference with its preprocessing inside, so that no caller can forget it.

        predictor = convnextv2.load("run").predictor()
        logits = predictor(predictor.read("image.jpg")[None])

    It can be pickled and moved as any module, and takes batches: `model` is the trained module, `spec` how files become
    its input.
    """

    def __init__(self, model: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.model, self.spec = model.eval(), spec
        self.normalise = Normalise(spec.preprocessing)

    def forward(self, images: Tensor) -> Any:
        """Return what the model returns.  images: uint8 (B, in_chans, H, W), as `read` gives them."""
        return self.model(self.normalise(images))

    def pooled_features(self, images: Tensor) -> Tensor:
        """Return the backbone's pooled features, (B, D).  images: uint8 (B, in_chans, H, W)."""
        model: Any = self.model
        return model.pooled_features(self.normalise(images))

    def read(self, image: Images) -> Tensor:
        """Decode an image and fit it to the model's input: (C, image_size, image_size), uint8 or float32 for bands.

        image: a file; or a PIL image, an array (H, W[, C]) or a tensor (C, H, W).

        Raises BadImageError if it cannot be read, UserError if it is something else or not one image.
        """
        if is_path(image):
            images = ImageList(Path(image), [Path(image).name], Path(image).parent)
        else:
            images = images_of(image)
            if len(images) != 1:
                raise UserError(f"{len(images)} images: `read` takes one at a time")
        return self.fit(as_tensor(self.spec.reading().raster(images, 0)))

    def fit(self, image: Tensor) -> Tensor:
        """Resize and crop a decoded image, uint8 (C, H, W), to (C, image_size, image_size)."""
        return self.spec.fit(image)

    @torch.no_grad()
    def at_size(self, image_size: int) -> Predictor:
        """Return the same model for images of another size, in pixels on a side.

        Raises UserError if the model does not accept them; some are built for one size.
        """
        if image_size == self.spec.image_size:
            return self
        example = next(self.model.parameters())
        try:
            self.model(example.new_zeros(1, self.spec.in_chans, image_size, image_size))
        except Exception as error:  # timm's models raise all kinds
            raise UserError(
                f"--image-size {image_size} does not suit the model ({one_line(error)}); leave it out for "
                f"{self.spec.image_size}"
            ) from error
        return Predictor(self.model, replace(self.spec, image_size=image_size))
