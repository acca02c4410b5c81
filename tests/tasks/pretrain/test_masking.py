"""Masks, patches and targets, against counts, orders and sums written out by hand."""

import itertools

import pytest
import torch

from convnextv2.errors import UserError
from convnextv2.tasks.pretrain.masking import normalise_patches, patchify, random_mask, unpatchify, visible_cells

# Cells of a picture and how many of them the published code shows at a mask ratio of 0.6.
PUBLISHED = [
    (4, 1),
    (9, 3),
    (16, 6),
    (25, 10),
    (36, 14),
    (49, 19),
    (64, 25),
    (100, 40),
    (144, 57),
    (196, 78),
    (256, 102),
]


@pytest.mark.parametrize(("cells", "visible"), PUBLISHED)
def test_visible_cells_are_as_many_as_published(cells, visible):
    assert visible_cells(cells, 0.6) == visible


@pytest.mark.parametrize(
    ("cells", "ratio", "visible"),
    [
        (2, 0.6, 1),  # floor(0.8) shows none: one is shown
        (49, 0.999, 1),
        (2, 0.01, 1),  # one is hidden
        (4, 1e-12, 3),
        (10, 0.9, 1),  # 10 * (1 - 0.9) is 0.9999... in floating point
        (100, 0.9, 10),
        (10, 0.3, 7),
        (1000, 0.7, 300),
        (49, 0.75, 12),
    ],
)
def test_visible_cells_are_rounded_down_with_one_seen_and_one_hidden(cells, ratio, visible):
    assert visible_cells(cells, ratio) == visible


@pytest.mark.parametrize(
    ("cells", "ratio", "message"),
    [
        (49, 0.0, "between 0 and 1, got 0.0"),
        (49, 1.0, "between 0 and 1, got 1.0"),
        (49, -0.5, "between 0 and 1"),
        (49, float("nan"), "between 0 and 1"),
        (1, 0.6, "one mask cell cannot be masked.*stem stride"),
    ],
)
def test_what_cannot_be_masked_is_a_clear_line(cells, ratio, message):
    with pytest.raises(UserError, match=message) as error:
        visible_cells(cells, ratio)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("rows", "columns"), [(7, 7), (1, 2), (2, 1), (3, 5)])
@pytest.mark.parametrize("ratio", [0.1, 0.6, 0.95])
def test_every_picture_hides_the_same_number(rows, columns, ratio):
    mask = random_mask(50, rows, columns, ratio)
    assert mask.shape == (50, rows, columns)
    assert mask.dtype == torch.bool
    hidden = rows * columns - visible_cells(rows * columns, ratio)
    assert mask.sum((1, 2)).eq(hidden).all()


def test_masks_are_uniform_and_independent_between_pictures():
    generator = torch.Generator().manual_seed(1)
    pictures, part = 20_000, 6 / 10
    mask = random_mask(pictures, 2, 5, 0.6, generator).flatten(1).double()
    spread = 5 * (part * (1 - part) / pictures) ** 0.5
    assert (mask.mean(0) - part).abs().max() < spread
    # two cells of one picture are both hidden in 6/10 * 5/9 of the draws, two of neighbouring pictures in 6/10 * 6/10
    assert abs((mask[:, 0] * mask[:, 7]).mean() - part * 5 / 9) < spread
    assert abs((mask[1:, 3] * mask[:-1, 3]).mean() - part**2) < spread


def test_masks_come_from_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (random_mask(4, 7, 7, 0.6, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_patches_are_row_major_with_channels_last(channels):
    cell, rows, columns = 4, 2, 3
    images = torch.randn(2, channels, rows * cell, columns * cell)
    patches = patchify(images, cell)
    assert patches.shape == (2, rows * columns, cell * cell * channels)
    for b, c, y, x in itertools.product(*map(range, images.shape)):
        d = ((y % cell) * cell + x % cell) * channels + c
        assert patches[b, y // cell * columns + x // cell, d] == images[b, c, y, x]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unpatchify_is_the_inverse(memory_format):
    images = torch.randn(2, 3, 64, 96).to(memory_format=memory_format)
    assert torch.equal(unpatchify(patchify(images, 32), 32, rows=2, columns=3), images)
    patches = torch.randn(2, 6, 16 * 16 * 5)
    assert torch.equal(patchify(unpatchify(patches, 16, rows=3, columns=2), 16), patches)


def test_targets_have_their_own_mean_and_unbiased_variance():
    patches = torch.randn(2, 3, 20, dtype=torch.float64) * 5 + 2
    for patch, result in zip(patches.flatten(0, 1), normalise_patches(patches).flatten(0, 1), strict=True):
        mean = sum(patch) / 20
        variance = sum((x - mean) ** 2 for x in patch) / 19
        torch.testing.assert_close(result, (patch - mean) / (variance + 1e-6).sqrt(), rtol=1e-12, atol=1e-12)


def test_a_patch_of_one_colour_has_the_target_zero():
    assert normalise_patches(torch.full((1, 3072), 0.3, dtype=torch.float64)).abs().max() < 1e-9
