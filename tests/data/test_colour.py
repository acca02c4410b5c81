"""Normalisation, RandAugment against timm's own operations, and what random erasing writes where."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import auto_augment

from convnextv2.data.transforms import colour
from convnextv2.data.transforms.augment_operations import AugmentOperation
from convnextv2.data.transforms.colour import Composed, RandAugment, RandomErase, normalise, to_bytes
from convnextv2.records import Preprocessing

CHANNELS = pytest.mark.parametrize("channels", [1, 3])
GEOMETRIC = {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}


def waves(height=48, width=64, channels=3):
    """A smooth coloured picture, uint8 (C, H, W), from dark to bright but without black and white."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phases = [torch.sin(x * (0.11 + 0.04 * c) + y * (0.17 - 0.05 * c) + c) for c in range(channels)]
    return (127.5 + 105 * torch.stack(phases)).round().to(torch.uint8)


def noise(height, width, channels=3):
    return torch.randint(0, 256, (channels, height, width), dtype=torch.uint8)


def timms(image, magnitude):
    """Every different picture that one operation of timm's set makes at this magnitude, and the operation's name."""
    random.seed(0)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    options = {"img_mean": (124, 116, 104), "interpolation": Image.Resampling.BILINEAR}
    peer = auto_augment.rand_augment_transform(f"rand-m{magnitude}-mstd0-p1.0-inc1", options)
    assert len(peer.ops) == 15
    results = {np.array(operation(picture)).tobytes(): operation.name for operation in peer.ops for _ in range(16)}
    return [
        (name, torch.frombuffer(bytearray(result), dtype=torch.uint8).view(*image.shape[1:], 3).permute(2, 0, 1))
        for result, name in results.items()
    ]


def augmented(augment, image, seed):
    torch.manual_seed(seed)
    return augment(image)


def test_normalise_by_hand_and_back():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    preprocessing = Preprocessing((0.5, 0.1, 0.25), (0.5, 0.2, 0.25))
    images = normalise(pixels, preprocessing)
    assert images.dtype == torch.float32
    assert torch.allclose(images.flatten(), torch.tensor([-1.0, 0.5, 3.0]))
    assert torch.equal(to_bytes(images, preprocessing), pixels)


@CHANNELS
def test_every_byte_comes_back(channels):
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(channels, -1, -1)
    preprocessing = Preprocessing.for_channels(channels)
    assert torch.equal(to_bytes(normalise(pixels, preprocessing), preprocessing), pixels)
    assert to_bytes(torch.tensor([-99.0, 99.0]).expand(channels, 1, 2), preprocessing).unique().tolist() == [0, 255]


@pytest.mark.parametrize(("magnitude", "different"), [(0, 5), (3, 24), (9, 24)])
def test_each_operation_is_timms_and_each_is_reached(magnitude, different):
    """Nine operations go two ways; at 0 all but four leave the picture alone."""
    image, augment = waves(), RandAugment(magnitude, std=0, operations=1, probability=1)
    peers, reached = timms(image, magnitude), set()
    assert len(peers) == different
    for seed in range(300):
        out = augmented(augment, image, seed).int()
        distances = [(out - peer.int()).abs() for _, peer in peers]
        nearest = min(range(different), key=lambda i: distances[i].sum())
        name, distance = peers[nearest][0], distances[nearest]
        if name in GEOMETRIC and magnitude:  # timm's edges are hard, ours fade over one pixel
            assert (distance > 1).float().mean() < 0.035, name
        else:
            assert distance.max() <= 1, name
        reached.add(nearest)
    assert len(reached) == different


def test_posterize_leaves_a_bit_at_full_range():
    augment = RandAugment(10, std=0, operations=1, probability=1)
    outs = [augmented(augment, waves(), seed) for seed in range(100)]
    assert all(out.any() for out in outs)
    assert any(out.unique().tolist() == [0, 128] for out in outs)


@CHANNELS
def test_what_a_move_uncovers_has_the_mean_colour(channels):
    augment = RandAugment(operations=1, probability=1)
    outs = [augmented(augment, torch.full((channels, 20, 20), 127, dtype=torch.uint8), seed) for seed in range(60)]
    corners = {tuple(out[:, y, x].tolist()) for out in outs for y in (0, -1) for x in (0, -1)}
    assert ((124, 116, 104) if channels == 3 else (114,)) in corners


def test_how_operations_are_drawn(monkeypatch):
    drawn = []
    operations = tuple(
        AugmentOperation(str(i), lambda level, size, fill, i=i: drawn.append((i, level)) or Composed(()))
        for i in range(15)
    )
    monkeypatch.setattr(colour, "OPERATIONS", operations)
    augment, image = RandAugment(), waves(4, 4)
    for _ in range(3000):
        augment(image)
    numbers, levels = (torch.tensor(values) for values in zip(*drawn, strict=True))
    counts = numbers.bincount(minlength=15)
    assert counts.min() > 150, "3000 pictures, 2 draws, half carried out: 200 each"
    assert counts.max() < 250
    expected = torch.normal(9, 0.5, (100_000,)).clamp(0, 10) / 10
    assert 0.47 < (levels > 0).float().mean() < 0.53
    assert levels.abs().max() == 1
    assert (levels.abs().mean() - expected.mean()).abs() < 0.004
    assert (levels.abs().std() - expected.std()).abs() < 0.004


def test_magnitudes_end_at_ten():
    image = waves()
    full, beyond = (RandAugment(magnitude, std=0, probability=1) for magnitude in (10, 25))
    assert all(torch.equal(augmented(full, image, seed), augmented(beyond, image, seed)) for seed in range(30))


def test_nothing_is_done_with_probability_zero():
    image = waves()
    assert all(RandAugment(probability=0)(image) is image for _ in range(20))
    assert all(RandomErase(0, Preprocessing())(image) is image for _ in range(20))


SHAPES = {"channels": st.sampled_from([1, 3]), "height": st.integers(1, 40), "width": st.integers(1, 40)}


@settings(deadline=None, max_examples=100, derandomize=True)
@given(seed=st.integers(0, 2**31), **SHAPES)
def test_any_picture_keeps_its_shape_and_is_not_written_into(seed, channels, height, width):
    torch.manual_seed(seed)
    image = noise(height, width, channels)
    kept = image.clone()
    transforms = RandAugment(operations=3, probability=1), RandomErase(1, Preprocessing.for_channels(channels))
    for transform in transforms:
        out = augmented(transform, image, seed)
        assert out.shape == image.shape
        assert out.dtype == torch.uint8
        assert torch.equal(image, kept)
        assert torch.equal(augmented(transform, image, seed), out)


@CHANNELS
def test_the_erased_part_is_standard_normal_noise(channels):
    preprocessing = Preprocessing.for_channels(channels)
    erase, image, found = RandomErase(1, preprocessing), torch.zeros(channels, 64, 80, dtype=torch.uint8), []
    shares, ratios = [], []
    for seed in range(200):
        out = augmented(erase, image, seed)
        rows, columns = out.any(0).any(1).nonzero().flatten(), out.any(0).any(0).nonzero().flatten()
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        height, width = int(bottom - top), int(right - left)
        shares.append(height * width / (64 * 80))
        ratios.append(height / width)
        found.append(normalise(out, preprocessing)[:, top:bottom, left:right].flatten(1))
    assert 0.018 < min(shares) < 0.05
    assert 0.3 < max(shares) < 0.345
    assert 0.27 < min(ratios) < 0.4
    assert 2.5 < max(ratios) < 3.7
    values = torch.cat(found, 1)
    low, high = (normalise(torch.full((channels, 1, 1), v, dtype=torch.uint8), preprocessing)[:, 0] for v in (0, 255))
    expected = torch.randn(channels, 300_000).clamp(low, high)
    assert torch.allclose(values.mean(1), expected.mean(1), atol=0.01)
    assert torch.allclose(values.std(1), expected.std(1), atol=0.01)
    assert (values.std(1) - 1).abs().max() < 0.06
    if channels == 3:
        assert torch.corrcoef(values).sub(torch.eye(3)).abs().max() < 0.01, "the channels are drawn apart"


def test_erasing_touches_one_rectangle_of_the_size_asked_for():
    image = waves(50, 50)
    out = augmented(RandomErase(1, Preprocessing(), scale=(0.25, 0.25), ratio=(1, 1)), image, 0)
    changed = (out != image).any(0)
    rows, columns = changed.any(1), changed.any(0)
    assert rows.sum() == columns.sum() == 25
    assert (out == image).all(0)[~(rows[:, None] & columns)].all()


def test_erasing_comes_as_often_as_asked():
    image = noise(12, 12)
    erase = RandomErase(0.25, Preprocessing())
    assert 200 < sum(erase(image) is not image for _ in range(1000)) < 300


def test_a_rectangle_that_never_fits_leaves_the_picture():
    image = noise(3, 200)
    assert RandomErase(1, Preprocessing(), scale=(0.3, 0.3), ratio=(3, 3))(image) is image
