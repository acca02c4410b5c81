"""Crops: sizes, extremes, what they draw from."""

import numpy as np
import pytest
import torch
from PIL import Image

from convnextv2.data.transforms.geometry import CenterFit, RandomResizedCropFlip


def picture(height, width):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([y * 255 // height, x * 255 // width, (y + x) * 255 // (height + width)]).to(torch.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (40, 60), (64, 64)])
@pytest.mark.parametrize("size", [32, (24, 40)])
def test_sizes_whatever_comes_in(shape, size):
    expected = (32, 32) if size == 32 else size
    for transform in (RandomResizedCropFlip(size), CenterFit(size), CenterFit(size, crop_pct=1.0)):
        for image in (picture(*shape), picture(*shape)[:1]):
            out = transform(image)
            assert out.shape == (image.shape[0], *expected)
            assert out.dtype == torch.uint8
            assert out.is_contiguous()


def test_draws_from_the_global_generator_alone():
    image, transform = picture(50, 70), RandomResizedCropFlip(32)
    torch.manual_seed(3)
    first = [transform(image) for _ in range(5)]
    torch.manual_seed(3)
    second = [transform(image) for _ in range(5)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


def test_flip_happens_half_of_the_time_or_never():
    image = picture(32, 32)
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    never = RandomResizedCropFlip(32, **whole, flip=False)
    assert all(torch.equal(never(image), image) for _ in range(20))
    torch.manual_seed(0)
    sometimes = RandomResizedCropFlip(32, **whole)
    outs = [sometimes(image) for _ in range(400)]
    flipped = sum(torch.equal(out, image.flip(-1)) for out in outs)
    assert flipped + sum(torch.equal(out, image) for out in outs) == 400
    assert 150 < flipped < 250


def test_scale_bounds_the_area():
    image = picture(100, 100)
    torch.manual_seed(0)
    small = RandomResizedCropFlip(16, scale=(0.04, 0.04))
    for _ in range(20):
        out = small(image)[0].int()
        assert out.max() - out.min() < 70, "a twentieth of the area spans about a fifth of the height"


def test_does_not_write_into_its_input():
    image = picture(40, 60)
    kept = image.clone()
    for transform in (RandomResizedCropFlip(32), CenterFit(32), CenterFit(384)):
        transform(image)
        assert torch.equal(image, kept)


def test_center_fit_is_resize_then_centre():
    """Against Pillow's own bicubic filter: 224 of the 256 pixels of the shorter side."""
    image = picture(300, 451)
    expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((384, 256), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(expected)).permute(2, 0, 1)[:, 16:240, 80:304]
    assert (CenterFit(224)(image).int() - expected.int()).abs().max() <= 1


def test_center_fit_at_384_and_above_keeps_the_whole_picture():
    out = CenterFit(384)(picture(100, 200))
    assert out[1, :, 0].max() < 4
    assert out[1, :, -1].min() > 250
    assert CenterFit(384, crop_pct=0.875)(picture(100, 200))[1, :, 0].min() > 50


@pytest.mark.parametrize("size", [32, 384])
def test_either_way_to_fit_can_be_forced(size):
    image = picture(100, 200)
    whole = CenterFit(size, resize="whole")(image)
    expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BICUBIC)
    assert (whole.int() - torch.from_numpy(np.array(expected)).permute(2, 0, 1).int()).abs().max() <= 1
    cropped = CenterFit(size, resize="crop")(image)
    assert torch.equal(cropped, CenterFit(size, crop_pct=0.875)(image))
    assert not torch.equal(cropped, whole)
    assert torch.equal(CenterFit(size)(image), whole if size >= 384 else cropped)
    assert torch.equal(CenterFit(size, crop_pct=0.5, resize="whole")(image), whole)


def test_crop_pct_of_one_keeps_the_shorter_side():
    image = picture(32, 32)
    assert torch.equal(CenterFit(32, crop_pct=1.0)(image), image)
    assert not torch.equal(CenterFit(32)(image), image)
