"""Crops at random scales and changes of light and colour, for scenes with a class for each pixel."""

import colorsys

import numpy as np
import pytest
import torch

from convnextv2.data.transforms.scenes import (
    CropResizePad,
    Distortion,
    PhotometricDistortion,
    ScaleJitterCrop,
)
from convnextv2.data.transforms.transform import AnnotatedImage


def scene(height=120, width=160):
    """Two channels that say where a pixel was, and a mask of the left and the right half."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return AnnotatedImage(torch.stack([x, y, x]).to(torch.uint8), mask=(x >= width // 2).to(torch.uint8))


@pytest.mark.parametrize("size", [32, 64, 200])
def test_image_and_mask_stay_together(size):
    torch.manual_seed(0)
    transform, whole = ScaleJitterCrop(size), scene()
    for _ in range(30):
        drawn = transform.draw(whole.image)
        found = drawn(whole)
        assert found.image.shape == (3, size, size)
        assert found.mask.shape == (size, size)
        high, wide = drawn.size
        assert (found.mask[high:] == 255).all()
        assert (found.mask[:, wide:] == 255).all()
        covered, values = found.mask[:high, :wide], found.image[0, :high, :wide].float()
        # Within a pixel of the edge between the halves the bicubic filter mixes both sides.
        step = drawn.width / drawn.size[1]
        left, right = covered == 0, covered == 1
        assert (values[left] <= 80 + 2 * max(1, step)).all()
        assert (values[right] >= 79 - 2 * max(1, step)).all()


def test_scales_are_those_of_the_shorter_side():
    """At factor 1 the shorter side becomes `size`; an image longer than four times its width counts as that."""
    torch.manual_seed(0)
    transform = ScaleJitterCrop(64, scale=(1.0, 1.0), flip=False)
    drawn = transform.draw(torch.zeros(3, 128, 200))
    assert (drawn.height, drawn.width, drawn.size) == (128, 128, (64, 64))
    drawn = transform.draw(torch.zeros(3, 100, 1000))  # 25.6 x 256 pixels
    assert (drawn.size, drawn.height, drawn.width) == ((26, 64), 100, 250)
    factors = [128 / ScaleJitterCrop(64).draw(torch.zeros(3, 128, 128)).height for _ in range(400)]
    assert min(factors) == pytest.approx(1, abs=0.01)  # a part is never larger than the image
    assert max(factors) == pytest.approx(2, abs=0.05)
    smaller = [ScaleJitterCrop(64).draw(torch.zeros(3, 128, 128)).size[0] for _ in range(400)]
    assert min(smaller) <= 34
    assert max(smaller) == 64


def test_what_is_beyond_the_image_is_missing():
    torch.manual_seed(0)
    small = ScaleJitterCrop(64, scale=(0.5, 0.5), flip=False)
    picture = small(torch.full((3, 40, 40), 7, dtype=torch.uint8))
    assert (picture[:, :32, :32] == 7).all()
    assert picture[:, 40, 40].tolist() == [124, 116, 104]  # ImageNet's mean colour
    numbers = small(torch.full((5, 40, 40), 7.0))
    assert torch.isfinite(numbers[:, :32, :32]).all()
    assert numbers[:, 32:].isnan().all()


def test_a_crop_that_one_class_fills_is_looked_for_elsewhere():
    torch.manual_seed(0)
    mask = torch.zeros(200, 200, dtype=torch.uint8)
    mask[90:110, 90:110] = 1
    mask[:, :5] = 255
    target = AnnotatedImage(torch.zeros(3, 200, 200, dtype=torch.uint8), mask=mask)
    size = {"scale": (5.0, 5.0), "flip": False}

    def share_with_both(most):
        crop = ScaleJitterCrop(64, most_of_a_class=most, **size)  # parts of 40 pixels
        return sum(len(crop(target).mask.unique()) > 1 for _ in range(200)) / 200

    without, some = share_with_both(0.0), share_with_both(0.99)
    assert without < 0.15  # never mixed enough: the last of eleven places
    assert some > 3 * without


def test_colours_change_as_colorsys_has_them():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 6, 7)).astype(np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1], pixels[:, 0, 2] = 0, 255, 90  # no colour
    for saturation, hue in ((0.5, 0.0), (1.5, 0.1), (1.0, -0.1), (1.0, 0.0)):
        found = Distortion(saturation=saturation, hue=hue)(torch.from_numpy(pixels)).numpy()
        for y, x in np.ndindex(6, 7):
            h, s, v = colorsys.rgb_to_hsv(*(pixels[:, y, x] / 255))
            expected = np.array(colorsys.hsv_to_rgb((h + hue) % 1, min(1, s * saturation), v)) * 255
            assert np.abs(found[:, y, x] - expected).max() <= 0.51


def test_brightness_and_contrast_are_clipped_in_their_order():
    image = torch.tensor([0, 100, 240], dtype=torch.uint8).view(1, 1, 3)
    assert Distortion(brightness=32, contrast=0.5)(image).flatten().tolist() == [16, 66, 128]
    assert Distortion(brightness=-32, contrast=1.5, contrast_last=True)(image).flatten().tolist() == [0, 102, 255]


def test_half_of_the_changes_are_made_and_masks_stay():
    torch.manual_seed(0)
    transform, whole = PhotometricDistortion(), scene()
    drawn = [transform.draw(whole.image) for _ in range(1000)]
    for name, neutral, low, high in (
        ("brightness", 0, -32, 32), ("contrast", 1, 0.5, 1.5), ("saturation", 1, 0.5, 1.5), ("hue", 0, -0.1, 0.1)
    ):  # fmt: skip
        values = torch.tensor([getattr(each, name) for each in drawn])
        assert 0.45 < (values == neutral).float().mean() < 0.55
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    assert torch.equal(transform(whole).mask, whole.mask)
    with pytest.raises(ValueError, match=r"uint8 of 1 or 3 channels, not torch\.uint8 of 5"):
        transform.draw(torch.zeros(5, 8, 8, dtype=torch.uint8))


def test_what_is_drawn_can_be_applied_again():
    torch.manual_seed(0)
    whole, transform = scene(), ScaleJitterCrop(48)
    drawn = transform.draw(whole.image)
    assert isinstance(drawn, CropResizePad)
    assert torch.equal(drawn(whole).image, transform.apply(drawn, whole.image))
