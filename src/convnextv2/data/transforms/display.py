"""Images of any number of channels and any number format, as RGB for figures."""

from __future__ import annotations

import torch
from torch import Tensor

from convnextv2.data.transforms.pixel_format import to_float
from convnextv2.errors import UserError
from convnextv2.records import Preprocessing

_PERCENTILES = (0.02, 0.98)
_MOST = 1_000_000  # values that percentiles are taken from; of larger images, evenly spread ones


def to_rgb(
    images: Tensor, bands: tuple[int, ...] | None = None, *, value_range: tuple[float, float] | None = None
) -> Tensor:
    """Return images of any kind as uint8 RGB, (..., C, H, W) to (..., 3, H, W), for figures.

    One channel is repeated; two become red and green; of more, the first three are shown, or `bands`.

    uint8 is shown as it is. In any other format black and white are the 2nd and 98th percentile of each image's shown
    channels together, so that their colours keep their relation; NaN becomes black.

    Args:
        images: (..., C, H, W).
        bands: one, two or three channels to show as red, green and blue, 0 to C - 1; None as above.
        value_range: the values shown as black and as white, for every image alike; None as above.

    Raises:
        UserError: `bands` names a channel that the images do not have, or more than three.
    """
    channels = images.shape[-3]
    chosen = tuple(range(min(channels, 3))) if bands is None else tuple(bands)
    if not 1 <= len(chosen) <= 3 or not all(0 <= band < channels for band in chosen):
        raise UserError(f"bands {chosen} of an image of {channels} channels: give one to three of 0 to {channels - 1}")
    shown = images[..., list(chosen), :, :]
    if shown.dtype != torch.uint8 or value_range is not None:
        shown = _to_bytes(shown, value_range)
    if len(chosen) == 1:
        return shown.expand(*shown.shape[:-3], 3, *shown.shape[-2:]).contiguous()
    if len(chosen) == 2:
        return torch.cat([shown, torch.zeros_like(shown[..., :1, :, :])], -3)
    return shown.contiguous()


def pictures(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return pixels as a model is given them, (..., C, H, W), as they are shown: bytes unchanged, bands as RGB.

    Each band is stretched as `Preprocessing.black_and_white` says; missing pixels are white.
    """
    if preprocessing.bands is None:
        return images
    low, high = (images.new_tensor(limit).view(-1, 1, 1) for limit in zip(*preprocessing.black_and_white, strict=True))
    scaled = ((images - low) / (high - low) * 255).round().clamp(0, 255)
    missing = images.isnan().any(-3, keepdim=True)
    return to_rgb(scaled.nan_to_num(0).to(torch.uint8), preprocessing.shown).masked_fill(missing, 255)


def _to_bytes(images: Tensor, value_range: tuple[float, float] | None) -> Tensor:
    """uint8 (..., C, H, W), from black to white over a range, or over the percentiles of each image."""
    values = to_float(images)
    if value_range is None:
        flat = values.reshape(-1, *values.shape[-3:])
        limits = torch.stack([_percentiles(image) for image in flat]) if len(flat) else flat.new_zeros(0, 2)
        low, high = (limit.view(*values.shape[:-3], 1, 1, 1) for limit in limits.unbind(1))
    else:
        low, high = (values.new_tensor(limit) for limit in value_range)
    # An image of one value only is black.
    scaled = (values - low) / torch.where(high > low, high - low, torch.inf) * 255
    return scaled.nan_to_num(0, 255, 0).round().clamp(0, 255).to(torch.uint8)


def _percentiles(image: Tensor) -> Tensor:
    """(2,): the values of an image below which 2 and 98 % of its finite ones lie; zeros if it has none."""
    values = image.flatten()
    values = values[:: -(-len(values) // _MOST) or 1]
    values = values[values.isfinite()]
    return torch.quantile(values, values.new_tensor(_PERCENTILES)) if len(values) else values.new_zeros(2)
