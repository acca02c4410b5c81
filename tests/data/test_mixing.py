"""Soft targets by hand, and pictures mixed exactly as their targets say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convnextv2.data.transforms.mixing import Mixing, soft_targets
from convnextv2.errors import UserError

WAYS = pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0), (0, 1.0), (0.8, 1.0)])


def test_soft_targets_by_hand():
    labels = torch.tensor([2, 0])
    assert torch.equal(soft_targets(labels, 4), torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0]]))
    smoothed = soft_targets(labels, 4, 0.1)
    assert smoothed.dtype == torch.float32
    assert torch.allclose(smoothed, torch.tensor([[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]))
    assert torch.equal(soft_targets(labels, 4, 1.0), torch.full((2, 4), 0.25))


def test_many_classes_a_picture_are_smoothed_towards_a_half():
    has = torch.tensor([[1.0, 0, 1], [0, 0, 0]], dtype=torch.float64)
    assert torch.equal(soft_targets(has, 3), has.float())
    smoothed = soft_targets(has, 3, 0.1)
    assert smoothed.dtype == torch.float32
    assert torch.allclose(smoothed, torch.tensor([[0.95, 0.05, 0.95], [0.05, 0.05, 0.05]]))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=9), smoothing=st.floats(0, 0.9))
def test_soft_targets_sum_to_one_and_keep_the_class(labels, smoothing):
    targets = soft_targets(torch.tensor(labels), 7, smoothing)
    assert torch.allclose(targets.sum(1), torch.ones(len(labels)))
    assert targets.argmax(1).tolist() == labels


def plain(count, channels=3, height=10, width=14):
    """Picture i is all i + 1 and its class is i, so that a mixed batch tells what it was made of."""
    images = torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(-1, channels, height, width).clone()
    return images, soft_targets(torch.arange(count), count)


def mixed(mixing, seed, images, targets):
    torch.manual_seed(seed)
    return mixing(images, targets)


def test_mixup_fades_by_the_share_of_the_targets():
    images, targets = torch.randn(5, 3, 8, 8, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    mixing, shares, before = Mixing(0.8, 0), [], [4, 0, 1, 2, 3]
    for seed in range(500):
        out, mixed_targets = mixed(mixing, seed, images, targets)
        share = mixed_targets[0, 0]
        assert torch.allclose(out, share * images + (1 - share) * images[before])
        assert torch.allclose(mixed_targets, share * targets + (1 - share) * targets[before])
        shares.append(share)
    shares = torch.stack(shares)
    assert (shares.mean() - 0.5).abs() < 0.05, "Beta(0.8, 0.8)"
    assert (shares.var() - 1 / (4 * (2 * 0.8 + 1))).abs() < 0.01, "Beta(0.8, 0.8)"


def test_the_share_is_torchs_beta_under_the_seed():
    images, targets = plain(2)
    out, mixed_targets = mixed(Mixing(0.8, 0), 7, images, targets)
    torch.manual_seed(7)
    torch.randint(1, ())  # which of the ways
    share = torch.distributions.Beta(torch.tensor(0.8), torch.tensor(0.8)).sample().item()
    assert torch.allclose(mixed_targets, torch.tensor([[share, 1 - share], [1 - share, share]]))
    assert torch.allclose(out[0], torch.tensor(share * 1 + (1 - share) * 2))


@pytest.mark.parametrize(("height", "width"), [(10, 14), (7, 5), (1, 9), (32, 32)])
def test_cutmix_shares_by_the_area_of_its_box(height, width):
    images, targets = plain(4, height=height, width=width)
    mixing, shares = Mixing(0, 1.0), set()
    for seed in range(100):
        out, mixed_targets = mixed(mixing, seed, images, targets)
        other = out != images
        assert torch.equal(out[other], images.roll(1, 0)[other]), "from the picture before, or its own"
        rows, columns = other[0, 0].any(1), other[0, 0].any(0)
        assert (other == (rows[:, None] & columns)).all(), "the same box in every picture and channel"
        for place in (rows, columns):
            edges = place.int().diff(prepend=torch.zeros(1, dtype=torch.int32)).clamp(min=0).sum()
            assert edges <= 1, "in one piece"
        share = 1 - rows.sum().item() * columns.sum().item() / (height * width)
        assert torch.equal(mixed_targets, targets * share + targets.roll(1, 0) * (1 - share))
        shares.add(share)
    assert len(shares) > 1 or height == 1, "a box in a single row has no height"


def test_both_come_half_of_the_time():
    images, targets = plain(3)
    mixing = Mixing(0.8, 1.0)
    outs = [mixed(mixing, seed, images, targets)[0] for seed in range(400)]
    assert 160 < sum(torch.equal(out, out.round()) for out in outs) < 240, "CutMix leaves each pixel's value alone"


@WAYS
@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_shapes_types_and_sums_stay(mixup, cutmix, seed, count, channels, height, width, dtype):
    torch.manual_seed(seed)
    images, targets = torch.rand(count, channels, height, width).to(dtype), soft_targets(torch.arange(count), 6, 0.1)
    kept, kept_targets = images.clone(), targets.clone()
    mixing = Mixing(mixup, cutmix)
    out, mixed_targets = mixed(mixing, seed, images, targets)
    assert (out.shape, out.dtype) == (images.shape, dtype)
    assert (mixed_targets.shape, mixed_targets.dtype) == (targets.shape, torch.float32)
    assert torch.allclose(mixed_targets.sum(1), torch.ones(count))
    assert out.min() >= images.min() * 0.99
    assert out.max() <= images.max() * 1.01
    assert torch.equal(images, kept)
    assert torch.equal(targets, kept_targets)
    again, again_targets = mixed(mixing, seed, images, targets)
    assert torch.equal(again, out)
    assert torch.equal(again_targets, mixed_targets)


@WAYS
def test_one_picture_stays_as_it_is(mixup, cutmix):
    images, targets = torch.rand(1, 3, 9, 9), soft_targets(torch.tensor([1]), 3, 0.1)
    for seed in range(20):
        out, mixed_targets = mixed(Mixing(mixup, cutmix), seed, images, targets)
        assert torch.allclose(out, images)
        assert torch.allclose(mixed_targets, targets)


@WAYS
def test_draws_are_the_cpus_wherever_the_pictures_are(mixup, cutmix):
    images, targets = plain(3)
    mixed(Mixing(mixup, cutmix), 5, images, targets)
    state = torch.get_rng_state()
    out, _ = mixed(Mixing(mixup, cutmix), 5, images.to("meta"), targets.to("meta"))
    assert out.device.type == "meta"
    assert torch.equal(torch.get_rng_state(), state)


def test_off_is_off():
    images, targets = plain(3)
    assert not Mixing(0, 0).active
    out, same_targets = Mixing(0, 0)(images, targets)
    assert out is images
    assert same_targets is targets
    assert Mixing(0.1, 0).active
    assert Mixing(0, 0.1).active


@pytest.mark.parametrize(
    ("mixup", "cutmix", "named"), [(-1, 0, "mixup=-1"), (0, -0.5, "cutmix=-0.5"), (float("nan"), 0, "mixup=nan")]
)
def test_a_negative_parameter_is_refused(mixup, cutmix, named):
    with pytest.raises(UserError, match=f"{named}: give 0 for none"):
        Mixing(mixup, cutmix)
