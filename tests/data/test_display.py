"""Images of any kind as RGB for the eye."""

import pytest
import torch

from convnextv2.data.transforms.colour import normalise, to_bytes
from convnextv2.data.transforms.display import pictures, to_rgb
from convnextv2.errors import UserError
from convnextv2.records import Bands, Preprocessing


def image(*shape, dtype=torch.uint8, top=256):
    return torch.randint(0, top, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def test_bytes_are_shown_as_they_are():
    for channels, expected in ((1, [0, 0, 0]), (3, [0, 1, 2]), (7, [0, 1, 2])):
        images = image(2, channels, 5, 6)
        out = to_rgb(images)
        assert out.dtype == torch.uint8
        assert out.is_contiguous()
        assert torch.equal(out, images[:, expected])
    two = to_rgb(image(2, 5, 6))
    assert torch.equal(two[:2], image(2, 5, 6))
    assert not two[2].any()


def test_bands_are_chosen():
    images = image(4, 8, 5, 6)
    assert torch.equal(to_rgb(images, (3, 2, 1)), images[:, [3, 2, 1]])
    assert torch.equal(to_rgb(images, (7,)), images[:, [7, 7, 7]])
    for bands in ((0, 8, 1), (-1, 0, 1), (0, 1, 2, 3), ()):
        with pytest.raises(UserError, match="0 to 7"):
            to_rgb(images, bands)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.float32, torch.float64], ids=str)
def test_percentiles_of_each_image(dtype):
    images = torch.stack(
        [image(4, 50, 50, dtype=torch.float64, top=100), image(4, 50, 50, dtype=torch.float64, top=9000)]
    )
    out = to_rgb(images.to(dtype))
    assert out.shape == (2, 3, 50, 50)
    for one, shown in zip(images, out, strict=True):
        low, high = torch.quantile(one[:3], torch.tensor([0.02, 0.98], dtype=torch.float64))
        expected = ((one[:3] - low) / (high - low) * 255).clamp(0, 255)
        assert (shown - expected).abs().max() < 0.6
    assert torch.equal(to_rgb(images[0].to(dtype)), out[0]), "an image looks the same in any batch"


def test_a_given_range_holds_for_all():
    images = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, torch.nan, torch.inf, -torch.inf]).view(1, 1, 2, 4)
    out = to_rgb(images, value_range=(0.0, 1.0))
    assert out[0, 0].flatten().tolist() == [0, 0, 128, 255, 255, 0, 255, 0]
    assert to_rgb(torch.tensor([0, 100, 200], dtype=torch.uint8).view(1, 1, 3), value_range=(100, 200))[0].tolist() == [
        [0, 0, 255]
    ]


def test_odd_images():
    assert not to_rgb(torch.full((3, 4, 4), 7.0)).any(), "one value only"
    assert not to_rgb(torch.full((3, 4, 4), torch.nan)).any()
    assert to_rgb(torch.zeros(0, 5, 4, 4)).shape == (0, 3, 4, 4)
    holes = torch.rand(3, 40, 40)
    holes[:, :10] = torch.nan
    shown = to_rgb(holes)
    assert not shown[:, :10].any()
    assert shown[:, 10:].float().std() > 50
    large = torch.rand(3, 1500, 1500)
    assert 120 < to_rgb(large).float().mean() < 135


def test_bands_are_stretched_and_missing_pixels_are_white():
    bands = Bands(4, (0, 1, 2, 3), clip=((0.0, 255.0),) * 4, show=(3, 0), stretch=((10.0, 20.0),) * 3 + ((0.0, 100.0),))
    statistics = Preprocessing((15.0,) * 4, (5.0,) * 4, bands=bands)
    image = torch.tensor([10.0, 15, 20, torch.nan]).repeat(4, 1).view(4, 2, 2)
    shown = pictures(image, statistics)
    assert shown[:, 0, 0].tolist() == [26, 0, 0]
    assert shown[:, 1, 0].tolist() == [51, 255, 0]
    assert shown[:, 1, 1].tolist() == [255] * 3
    seen = normalise(image, statistics)
    assert to_bytes(seen, statistics)[0].flatten().tolist() == [0, 128, 255, 128]
    of_bytes = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    assert pictures(of_bytes, Preprocessing()) is of_bytes
