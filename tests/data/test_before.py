"""Draw, then apply gives the bits that one call gave before the two were parted, and the generator's state."""

import hashlib
import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from convnextv2.data.transforms.colour import RandAugment, RandomErase
from convnextv2.data.transforms.geometry import CenterFit, RandomResizedCropFlip
from convnextv2.records import Preprocessing

BICUBIC, BILINEAR = v2.InterpolationMode.BICUBIC, v2.InterpolationMode.BILINEAR
CHANNELS = pytest.mark.parametrize("channels", [1, 3])
SHAPES = [(48, 64), (31, 20), (1, 40), (300, 90)]


def pattern(height, width, channels):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    planes = [(y * (3 + c) + x * (5 + 2 * c) + (y * x) // 7) % 256 for c in range(channels)]
    return torch.stack(planes).to(torch.uint8)


def crop_at_once(size, scale, ratio, flip):
    crop = v2.RandomResizedCrop(size, scale=scale, ratio=ratio, interpolation=BICUBIC, antialias=True)

    def transform(image):
        image = crop(image)
        return image.flip(-1) if flip and torch.rand(()) < 0.5 else image

    return transform


def move(image, degrees=0.0, shift=(0.0, 0.0), slope=(0.0, 0.0)):
    mean = torch.tensor(Preprocessing.for_channels(len(image)).mean).mul(255).round().view(-1, 1, 1)
    shear = [math.degrees(math.atan(s)) for s in slope]
    corner = [0.0, 0.0] if any(slope) else None
    moved = F.affine(image - mean, degrees, list(shift), 1.0, shear, BILINEAR, center=corner)
    return (moved + mean).round().to(torch.uint8)


def solarize(image, level):
    threshold = 256 - int(256 * abs(level))
    return image if threshold > 255 else F.solarize(image, threshold)


AT_ONCE = (
    lambda image, level: move(image, degrees=30 * level),
    lambda image, level: move(image, shift=(0.45 * level * image.shape[2], 0)),
    lambda image, level: move(image, shift=(0, 0.45 * level * image.shape[1])),
    lambda image, level: move(image, slope=(0.3 * level, 0)),
    lambda image, level: move(image, slope=(0, 0.3 * level)),
    lambda image, level: F.adjust_brightness(image, 1 + 0.9 * level),
    lambda image, level: F.adjust_saturation(image, 1 + 0.9 * level),
    lambda image, level: F.adjust_contrast(image, 1 + 0.9 * level),
    lambda image, level: F.adjust_sharpness(image, 1 + 0.9 * level),
    lambda image, level: F.posterize(image, max(1, 4 - int(4 * abs(level)))),
    solarize,
    lambda image, level: torch.where(image < 128, image + int(110 * abs(level)), image),
    lambda image, _: F.autocontrast(image),
    lambda image, _: F.equalize(image),
    lambda image, _: F.invert(image),
)


def augment_at_once(magnitude, std, operations, probability):
    def transform(image):
        for number in torch.randint(len(AT_ONCE), (operations,)).tolist():
            if torch.rand(()) < probability:
                level = torch.normal(magnitude, std, ()).clamp(0, 10).item() / 10
                image = AT_ONCE[number](image, level if torch.rand(()) < 0.5 else -level)
        return image

    return transform


def erase_at_once(probability, preprocessing):
    place = v2.RandomErasing(p=1, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3), value="random")
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))

    def transform(image):
        if torch.rand(()) >= probability:
            return image
        at = place.make_params([image])
        if at["v"] is None:
            return image
        at["v"] = ((at["v"] * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        return F.erase(image, **at)

    return transform


def pairs(channels):
    """(name, transform, the same as one call)"""
    hard = {"operations": 4, "probability": 1.0}
    preprocessing = Preprocessing.for_channels(channels)
    usual = ((0.2, 1.0), (3 / 4, 4 / 3))
    return [
        ("crop", RandomResizedCropFlip(32), crop_at_once((32, 32), *usual, True)),
        ("still", RandomResizedCropFlip((24, 40), flip=False), crop_at_once((24, 40), *usual, False)),
        ("small", RandomResizedCropFlip(32, scale=(0.05, 0.5)), crop_at_once((32, 32), (0.05, 0.5), usual[1], True)),
        ("augment", RandAugment(), augment_at_once(9.0, 0.5, 2, 0.5)),
        ("hard", RandAugment(10.0, std=1.0, **hard), augment_at_once(10.0, 1.0, **hard)),
        ("erase", RandomErase(0.5, preprocessing), erase_at_once(0.5, preprocessing)),
        ("always", RandomErase(1, preprocessing), erase_at_once(1, preprocessing)),
    ]


@CHANNELS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_and_generator_are_those_of_one_call(channels, shape):
    image = pattern(*shape, channels)
    for name, transform, at_once in pairs(channels):
        torch.manual_seed(17)
        now, states = [], []
        for _ in range(40):
            now.append(transform(image))
            states.append(torch.get_rng_state())
        torch.manual_seed(17)
        for seen, state in zip(now, states, strict=True):
            assert torch.equal(seen, at_once(image)), name
            assert torch.equal(state, torch.get_rng_state()), name


GENERATOR = {
    "crop": "7e722731fbfaa4d5",
    "still": "b2fba6c7f585a696",
    "small": "89b24b12df9c739d",
    "augment": "934070083668bc5a",
    "hard": "9ae3bc837c5c5d5b",
    "erase": "1955e909bfaed56c",
    "always": "94503b24b5c31ce4",
}


@pytest.mark.parametrize("name", GENERATOR)
def test_draws_are_those_recorded(name):
    """The state of the generator after 30 draws on each shape, as the version before this split left it."""
    transform = next(transform for other, transform, _ in pairs(3) if other == name)
    torch.manual_seed(17)
    for shape in SHAPES:
        for _ in range(30):
            transform.draw(torch.empty(3, *shape, dtype=torch.uint8, device="meta"))
    assert hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:16] == GENERATOR[name]


@CHANNELS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_center_fit_is_resize_and_crop(channels, shape):
    image = pattern(*shape, channels)
    height, width = shape
    for size, crop_pct in (((32, 32), 0.875), ((24, 40), 0.9), ((20, 20), 1.0)):
        cut = min(height, 16 * width), min(width, 16 * height)
        tall, wide = (int(side / crop_pct) for side in size)
        if tall * cut[1] >= wide * cut[0]:
            cover = tall, max(wide, tall * cut[1] // cut[0])
        else:
            cover = max(tall, wide * cut[0] // cut[1]), wide
        expected = F.resize(F.center_crop(image, list(cut)), list(cover), interpolation=BICUBIC, antialias=True)
        fit = CenterFit(size, crop_pct=crop_pct, resize="crop")
        assert torch.equal(fit(image), F.center_crop(expected, list(size)))
    whole = F.resize(image, [40, 40], interpolation=BICUBIC, antialias=True)
    assert torch.equal(CenterFit(40, resize="whole")(image), whole)
