"""Figures that show what a masked autoencoder sees and what it predicts."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from convnextv2.data.transforms.colour import to_bytes
from convnextv2.records import Preprocessing
from convnextv2.tasks.pretrain.masking import patchify, unpatchify

_GAP = 4
_SMALLEST = 128  # smaller images are enlarged to about this many pixels


def reconstruction_grid(
    images: Tensor, mask: Tensor, prediction: Tensor, preprocessing: Preprocessing, *, norm_pix: bool
) -> Image.Image:
    """Draw one row per image: original, masked, predicted, and predicted with the visible cells pasted in.

    images: (B, C, H, W), normalised.  mask: (B, h, w), True is masked.
    prediction: (B, h * w, p * p * C); with `norm_pix` denormalised by each cell's true mean and deviation.
    """
    images, mask, prediction = images.float().cpu(), mask.cpu(), prediction.float().cpu()
    rows, columns = mask.shape[1:]
    cell = images.shape[2] // rows
    if norm_pix:
        variance, mean = torch.var_mean(patchify(images, cell), dim=-1, keepdim=True, correction=1)
        prediction = prediction * (variance + 1e-6).sqrt() + mean
    predicted = unpatchify(prediction, cell, rows, columns)
    masked = mask.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, None]
    columns_nchw = [
        to_bytes(images, preprocessing),
        to_bytes(images, preprocessing).masked_fill(masked, 128),
        to_bytes(predicted, preprocessing),
        to_bytes(torch.where(masked, predicted, images), preprocessing),
    ]
    factor = max(1, _SMALLEST // images.shape[2])
    table = torch.stack(columns_nchw, 1)  # (B, 4, C, H, W)
    table = table if table.shape[2] == 3 else table[:, :, :1].expand(-1, -1, 3, -1, -1)
    table = table.repeat_interleave(factor, 3).repeat_interleave(factor, 4)
    table = torch.nn.functional.pad(table, (0, _GAP, 0, _GAP), value=255)
    figure = table.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (B * H, 4 * W, 3)
    return Image.fromarray(figure[:-_GAP, :-_GAP].contiguous().numpy())
