"""Weights for other channels and other stem strides."""

import pytest
import torch
from torch.nn import functional as F

from convnextv2.errors import UserError
from convnextv2.models import create_model
from convnextv2.weights.adapt import adapt, inflate


def small(in_chans, stem_stride):
    return create_model(
        "convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=0, in_chans=in_chans,
        stem_stride=stem_stride,
    ).eval()  # fmt: skip


def adapted(old, in_chans, stem_stride, how="repeat"):
    new = small(in_chans, stem_stride)
    tensors, said = adapt(old.state_dict(), in_chans=in_chans, stem_stride=stem_stride, how=how)
    new.load_state_dict(tensors)
    return new, said


@pytest.mark.parametrize(("before", "after"), [(4, 2), (4, 1), (2, 1)])
def test_a_finer_stem_sees_the_picture_enlarged(before, after):
    old = small(3, before)
    new, said = adapted(old, 3, after)
    images = torch.randn(2, 3, 64, 64)
    enlarged = F.interpolate(images, scale_factor=before // after, mode="nearest")
    assert torch.allclose(new(images), old(enlarged), atol=1e-5)
    assert said == [f"stem resampled from stride {before} to {after}"]


@pytest.mark.parametrize(("before", "after"), [(2, 4), (1, 4)])
def test_a_coarser_stem_sees_the_picture_shrunk(before, after):
    old = small(3, before)
    new, _ = adapted(old, 3, after)
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(new(images), old(F.avg_pool2d(images, after // before)), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7])
def test_a_picture_whose_channels_repeat_gives_what_it_gave(channels):
    """In both directions: the old picture's channels repeat where there are fewer new ones."""
    old = small(3, 4)
    new, _ = adapted(old, channels, 4)
    fewest = torch.randn(2, min(3, channels), 64, 64)
    before = fewest[:, [c % fewest.shape[1] for c in range(3)]]
    after = fewest[:, [c % fewest.shape[1] for c in range(channels)]]
    assert torch.allclose(new(after), old(before), atol=1e-5)


@pytest.mark.parametrize("chosen", ["0,1,2,0", "2,1,0", "1,1,0,2,2,2"])
def test_a_list_of_channels_says_which_repeat(chosen):
    old = small(3, 4)
    places = [int(number) for number in chosen.split(",")]
    new, _ = adapted(old, len(places), 4, chosen)
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(new(images[:, places]), old(images), atol=1e-5)


def test_a_grey_picture_gives_what_it_gave_in_three_channels():
    old = small(3, 4)
    grey = torch.randn(2, 1, 64, 64)
    for how in ("repeat", "mean"):
        new, said = adapted(old, 1, 4, how)
        assert torch.allclose(new(grey), old(grey.expand(-1, 3, -1, -1)), atol=1e-5)
        assert said == [f"stem inflated from 3 channels to 1 ({how})"]


@pytest.mark.parametrize("how", ["repeat", "mean", "0,1,2,0,1,2"])
def test_six_like_channels_give_what_three_gave(how):
    old = small(3, 4)
    new, _ = adapted(old, 6, 4, how)
    grey = torch.randn(2, 1, 64, 64)
    assert torch.allclose(new(grey.expand(-1, 6, -1, -1)), old(grey.expand(-1, 3, -1, -1)), atol=1e-5)


def test_a_map_says_which_channel_goes_where():
    old, images = small(3, 4), torch.randn(2, 3, 64, 64)
    new, said = adapted(old, 3, 4, "2,1,0")
    assert torch.allclose(new(images), old(images.flip(1)), atol=1e-5)
    assert said == ["stem inflated from 3 channels to 3 (2,1,0)"]
    weight = torch.randn(8, 3, 4, 4)
    assert torch.equal(inflate(weight, 3, "2,1,0"), weight.flip(1))
    assert torch.allclose(inflate(weight, 4, "0,1,2,0")[:, 3], weight[:, 0] * 0.5)


def test_what_fits_is_left_as_it_is():
    old = small(3, 4)
    tensors, said = adapt(old.state_dict(), in_chans=3, stem_stride=4)
    assert said == []
    assert all(torch.equal(tensors[name], value) for name, value in old.state_dict().items())


@pytest.mark.parametrize("how", ["twice", "0,1", "0,1,2,3", "0,1,2,-1", "", "0,1,2,", "0,,1,2"])
def test_other_maps_are_refused(how):
    with pytest.raises(UserError, match=r"inflate"):
        inflate(torch.zeros(8, 3, 4, 4), 4, how)


def test_a_table_of_names_says_which_channel_goes_where():
    weight, names, had = torch.randn(8, 3, 4, 4), ("Red", "nir", "blue"), ("red", "green", "blue")
    by_hand = inflate(weight, 3, "0,0,2")
    for table in ("red=0,nir=0,blue=2", " Nir = red, red=red ,blue=blue"):
        assert torch.equal(inflate(weight, 3, table, names=names, had=had), by_hand)


def test_channels_of_the_same_names_take_each_others_place():
    old, images = small(4, 4), torch.randn(2, 4, 64, 64)
    had = ("red", "green", "blue", "nir")
    same = {"in_chans": 3, "stem_stride": 4, "had": had}
    tensors, said = adapt(old.state_dict(), names=("NIR", "Red", "green"), **same)
    assert said == ["stem inflated from 4 channels to 3 (NIR=3,Red=0,green=1)"]
    new = small(3, 4)
    new.load_state_dict(tensors)
    images[:, 2] = 0  # which the new one does not see
    assert torch.allclose(new(images[:, [3, 0, 1]]), old(images), atol=1e-5)
    _, said = adapt(old.state_dict(), names=("red", "green", "swir"), **same)
    assert said == ["stem inflated from 4 channels to 3 (repeat)"]
    tensors, said = adapt(old.state_dict(), in_chans=4, stem_stride=4, names=had, had=had)
    assert said == []


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("red=0,green=1", r"nir is left out; the bands are red, green, nir"),
        ("red=0,green=1,swir=2", r"there is no band swir; the bands are red, green, nir"),
        ("red=0,green=1,nir=3", r"inflate=?'?nir=3'?: give a number from 0 to 2 or one of red, green, blue"),
        ("red=0,green=1,nir", r"inflate=?'?nir'?: give a number from 0 to 2"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table, says):
    with pytest.raises(UserError, match=says):
        inflate(torch.zeros(8, 3, 4, 4), 3, table, names=("red", "green", "nir"), had=("red", "green", "blue"))


def test_a_table_needs_names():
    with pytest.raises(UserError, match=r"the bands have no names; list the old channel of each, as 0,1,2,0"):
        inflate(torch.zeros(8, 3, 4, 4), 2, "red=0,nir=1")
