"""Figures that show what a masked autoencoder sees and what it predicts."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from convnextv2.data.transforms.colour import to_bytes
from convnextv2.data.transforms.display import to_rgb
from convnextv2.records import Preprocessing
from convnextv2.tasks.pretrain.masking import moments, normalise_patches, patchify, unpatchify

BANDS_NOTE = """\
Squared error in the masked patches of the images shown, in the units of the loss; their mean is that of these images. \
"Of the patch's mean" is the error of predicting nothing but each patch's average. A band that is explained worse than \
the others is noisy, unlike its neighbours, or needs more training."""

_GAP = 4
_SMALLEST = 128  # smaller images are enlarged to about this many pixels


def reconstruction_grid(
    images: Tensor,
    mask: Tensor,
    prediction: Tensor,
    preprocessing: Preprocessing,
    *,
    norm_pix: bool,
    valid: Tensor | None = None,
) -> Image.Image:
    """Draw one row per image: original, masked, predicted, and predicted with the visible cells pasted in.

    images: (B, C, H, W), normalised.  mask: (B, h, w), True is masked.
    prediction: (B, h * w, p * p * C); with `norm_pix` denormalised by each cell's true mean and deviation.
    valid: bool (B, H, W), the pixels that exist, None if all do; the others are white.
    Of more than three channels the first three are shown, of two red and green.
    """
    images, mask, prediction = images.float().cpu(), mask.cpu(), prediction.float().cpu()
    rows, columns = mask.shape[1:]
    cell = images.shape[2] // rows
    there = torch.ones_like(images[:, :1], dtype=torch.bool) if valid is None else valid[:, None].cpu()
    if norm_pix:
        mean, deviation = moments(patchify(images, cell), patchify(there.expand_as(images), cell))
        prediction = prediction * deviation + mean
    predicted = unpatchify(prediction, cell, rows, columns)
    masked = mask.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, None]
    original, filled = to_bytes(images, preprocessing), torch.where(masked, predicted, images)
    columns_nchw = [
        original,
        original.masked_fill(masked, 128),
        to_bytes(predicted, preprocessing),
        to_bytes(filled, preprocessing),
    ]
    columns_nchw = [to_rgb(column, preprocessing.shown).masked_fill(~there, 255) for column in columns_nchw]
    factor = max(1, _SMALLEST // images.shape[2])
    table = torch.stack(columns_nchw, 1)  # (B, 4, C, H, W)
    table = table.repeat_interleave(factor, 3).repeat_interleave(factor, 4)
    table = torch.nn.functional.pad(table, (0, _GAP, 0, _GAP), value=255)
    figure = table.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (B * H, 4 * W, 3)
    return Image.fromarray(figure[:-_GAP, :-_GAP].contiguous().numpy())


def band_errors(
    images: Tensor, mask: Tensor, prediction: Tensor, *, norm_pix: bool, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the error of each channel in the masked cells, (C,) float32, and that of predicting each cell's mean.

    The arguments are those of `reconstruction_grid`; cells that do not exist are not masked. The mean of the errors is
    the loss of these images; NaN if nothing is masked.
    """
    channels, cell = images.shape[1], images.shape[2] // mask.shape[1]
    target, there = patchify(images.float(), cell), None
    if valid is not None:
        there = patchify(valid[:, None].expand_as(images), cell)
    mean = moments(target, there)[0]
    if norm_pix:
        target, mean = normalise_patches(target, there), torch.zeros_like(mean)
    counted = mask.flatten(1)[..., None].expand_as(target)
    counted = counted if there is None else counted & there

    def of_bands(values: Tensor) -> Tensor:
        return values.unflatten(2, (-1, channels)).sum((0, 1, 2))

    count = of_bands(counted.float())
    errors = (torch.where(counted, (guess - target).square(), 0) for guess in (prediction.float(), mean))
    error, of_mean = (of_bands(each) / count for each in errors)
    return error, of_mean
