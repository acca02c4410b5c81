"""Any number of channels and any number format go through every transform that takes them."""

import pytest
import torch

from convnextv2.data.transforms.augment_operations import OPERATIONS
from convnextv2.data.transforms.colour import RandAugment, RandomErase, normalise, to_bytes
from convnextv2.data.transforms.geometry import Affine, CenterFit, RandomResizedCropFlip
from convnextv2.data.transforms.pixel_format import FORMATS, to_format
from convnextv2.errors import UserError
from convnextv2.records import Preprocessing

EVERY = pytest.mark.parametrize("dtype", FORMATS, ids=str)
CHANNELS = pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])


def waves(channels, height=40, width=56, low=0.0, high=255.0):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    planes = [torch.sin(x * (0.3 + 0.05 * c) + y * (0.4 - 0.02 * c) + c) for c in range(channels)]
    return (torch.stack(planes).double() + 1) / 2 * (high - low) + low


@EVERY
@CHANNELS
def test_geometry_takes_them_all(dtype, channels):
    image = to_format(waves(channels), dtype)
    for transform in (RandomResizedCropFlip(32), CenterFit((24, 40)), RandAugment(operations=3, probability=1)):
        torch.manual_seed(2)
        out = transform(image)
        torch.manual_seed(2)
        alone = torch.cat([transform(image)])  # drawn again
        assert torch.equal(out, alone)
        assert out.dtype == dtype
        assert len(out) == channels
        assert out.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.int32, torch.float32], ids=str)
def test_a_format_is_resized_like_the_numbers_it_holds(dtype):
    """Against float64: rounded for integers, clipped to the format and to nothing else."""
    low, high = (-30000, 32767) if dtype == torch.int16 else (0, 65535)
    image = to_format((waves(5, low=0, high=1) > 0.5) * float(high - low) + low, dtype)  # hard edges overshoot
    for transform in (CenterFit(64), CenterFit(16), Affine((40, 56), degrees=20), Affine((40, 56), slope=(0.2, 0))):
        parameters = transform if isinstance(transform, Affine) else transform.draw(image)
        exact = parameters.on_image(image.double())
        out = parameters.on_image(image).double()
        if not dtype.is_floating_point:
            limits = torch.iinfo(dtype)
            exact = exact.round().clamp(limits.min, limits.max)
        assert (out - exact).abs().max() <= (1 if not dtype.is_floating_point else 1e-5 * exact.abs().max())
    assert dtype != torch.uint16 or CenterFit(64)(image).int().max() == 65535


def test_overshoot_does_not_wrap():
    step = torch.zeros(1, 8, 8, dtype=torch.uint16)
    step[:, :, 4:] = 65535
    out = CenterFit(32, resize="whole")(step).int()
    assert out.min() == 0
    assert out.max() == 65535
    assert (out[:, :, :12] < 20000).all()
    assert (out[:, :, 20:] > 45000).all()


@pytest.mark.parametrize(("channels", "dtype", "count"), [
    (1, torch.uint8, 15), (3, torch.uint8, 15), (5, torch.uint8, 14), (2, torch.uint8, 14),
    (3, torch.uint16, 5), (5, torch.float32, 5), (1, torch.int16, 5),
])  # fmt: skip
def test_what_randaugment_draws_from(channels, dtype, count):
    image = to_format(waves(channels), dtype)
    usable = RandAugment.usable(image)
    assert len(usable) == count
    refused = {operation.name: operation.accepts(image) for operation in OPERATIONS if operation not in usable}
    assert all(reason is not None and name in reason for name, reason in refused.items())
    assert ("saturation" in refused) == (count < 15)
    seen = set()
    augment = RandAugment(operations=1, probability=1)
    for seed in range(150):
        torch.manual_seed(seed)
        step = augment.draw(image).steps[0]
        out = step.on_image(image)
        assert out.shape == image.shape
        assert out.dtype == dtype
        seen.add((type(step), getattr(step, "change", None)) if count > 5 else str(step)[:20])
    assert count == 5 or len(seen) == count - 4


def test_a_format_that_nothing_takes_is_one_line():
    with pytest.raises(UserError, match="bool") as caught:
        RandAugment()(torch.zeros(3, 8, 8, dtype=torch.bool))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("operation", OPERATIONS[5:], ids=lambda operation: operation.name)
def test_colours_of_many_channels_are_those_of_each_channel(operation):
    """Five channels, uint8: every channel as if it were a grey image."""
    image = to_format(waves(5), torch.uint8)
    if operation.name == "saturation":
        assert "5" in operation.accepts(image)
        return
    step = operation.make(0.7, (40, 56), None)
    assert torch.equal(step.on_image(image), torch.cat([step.on_image(channel[None]) for channel in image]))


@EVERY
def test_uncovered_places(dtype):
    image = to_format(waves(5, low=10, high=90), dtype)
    moved = Affine((40, 56), shift=(20, 0))(image)
    if dtype == torch.uint8:
        assert (moved[:, :, 0] == 114).all()
    else:  # the mean of each channel: no range is agreed upon
        means = image.double().mean((1, 2))
        assert (moved[:, :, 0].double() - means[:, None]).abs().max() < 0.51
    filled = Affine((40, 56), shift=(20, 0), fill=(1, 2, 3, 4, 5))(image)
    assert filled[:, 0, 0].tolist() == [1, 2, 3, 4, 5]


@CHANNELS
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32], ids=str)
def test_erasing_normalising_and_back(channels, dtype):
    preprocessing = Preprocessing(tuple(0.3 + 0.01 * c for c in range(channels)), (0.25,) * channels)
    image = to_format(waves(channels), dtype)
    normalised = normalise(image, preprocessing)
    assert normalised.dtype == torch.float32
    back = to_bytes(normalised, preprocessing)
    assert torch.equal(back, to_format(image.double(), torch.uint8))
    torch.manual_seed(0)
    out = RandomErase(1, preprocessing)(image)
    assert out.dtype == dtype
    changed = (out != image).any(0).float().mean()
    assert 0.01 < changed < 0.35


def test_statistics_of_other_channels_are_refused():
    for call in (normalise, to_bytes):
        with pytest.raises(ValueError, match="statistics of 3 channels for images of 5"):
            call(torch.zeros(2, 5, 4, 4), Preprocessing())
    with pytest.raises(ValueError, match="statistics of 3 channels for images of 1"):
        RandomErase(1, Preprocessing())(torch.zeros(1, 9, 9, dtype=torch.uint8))


def test_rounding_is_half_to_even_and_clipped():
    values = torch.tensor([-3.0, 0.5, 1.5, 2.5, 254.5, 300.0])
    assert to_format(values, torch.uint8).tolist() == [0, 0, 2, 2, 254, 255]
    assert to_format(values * 1000, torch.int16).tolist() == [-3000, 500, 1500, 2500, 32767, 32767]
    assert to_format(values, torch.float32).tolist() == values.tolist()
