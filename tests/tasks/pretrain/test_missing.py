"""Pixels without data do not exist: they change no output and no gradient, dense-masked and packed alike."""

from __future__ import annotations

import pytest
import torch

from convnextv2.data.transforms.geometry import RandomResizedCropFlip
from convnextv2.errors import BadImageError, UserError
from convnextv2.models import ConvNeXt
from convnextv2.models.config import EncoderConfig
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.masking import absent_cells, normalise_patches, patchify, random_mask
from convnextv2.tasks.pretrain.task import CropAndMask

CELL, SIDE = 16, 64


def build(*, depth: int = 2, grn: bool = True) -> FCMAE:
    torch.manual_seed(0)
    name = "convnextv2_atto" if grn else "convnext_tiny"
    config = EncoderConfig.named(name, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), in_chans=4, stem_stride=2)
    model = FCMAE(ConvNeXt(config, num_classes=0), decoder_dim=24, decoder_depth=depth).double()
    for name, parameter in model.named_parameters():
        if "grn" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def missing_pixels(seed: int) -> torch.Tensor:
    """bool (2, SIDE, SIDE), True exists: holes of all sizes, a strip, and single pixels."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    for image in valid:
        for _ in range(4):
            top, left = torch.randint(SIDE, (2,), generator=generator).tolist()
            high, wide = torch.randint(1, 30, (2,), generator=generator).tolist()
            image[top : top + high, left : left + wide] = False
        image[torch.rand(SIDE, SIDE, generator=generator) < 0.05] = False
    return valid


def run(model: FCMAE, images: torch.Tensor, mask: torch.Tensor, valid: torch.Tensor | None, *, sparse: bool):
    model.zero_grad()
    loss = model(images, mask, sparse, valid).loss
    loss.backward()
    return loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_what_missing_pixels_hide_changes_no_bit(seed, sparse):
    model, valid = build(), missing_pixels(seed)
    images = torch.randn(2, 4, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask = random_mask(2, 4, 4, 0.6, torch.Generator().manual_seed(seed), absent=absent_cells(valid, CELL, 0.5))
    there = valid[:, None]
    found = []
    for hidden in (0.0, -9999.0, torch.nan, torch.inf):
        given = torch.where(there, images, hidden).requires_grad_()
        loss, gradients = run(model, given, mask, valid, sparse=sparse)
        assert loss.isfinite()
        assert given.grad is not None
        assert not given.grad[~there.expand_as(images)].any(), "a missing pixel has a gradient"
        found.append((loss.detach(), gradients, given.grad))
    (first, gradients, of_images), *others = found
    for loss, other, other_of_images in others:
        assert torch.equal(loss, first)
        assert torch.equal(other_of_images, of_images)
        assert all(torch.equal(other[name], gradient) for name, gradient in gradients.items())


@pytest.mark.parametrize("grn", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_packed_equals_dense_masked(seed, grn):
    model, valid = build(grn=grn), missing_pixels(seed)
    images = torch.randn(2, 4, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask = random_mask(2, 4, 4, 0.6, torch.Generator().manual_seed(seed), absent=absent_cells(valid, CELL, 0.5))
    packed, of_packed = run(model, images, mask, valid, sparse=True)
    masked, of_masked = run(model, images, mask, valid, sparse=False)
    torch.testing.assert_close(packed, masked, rtol=1e-12, atol=1e-12)
    for name, gradient in of_packed.items():
        torch.testing.assert_close(gradient, of_masked[name], rtol=1e-9, atol=1e-11, msg=name)
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode(images, mask, True, valid), model.encode(images, mask, False, valid), rtol=1e-12, atol=1e-12
        )


def test_without_missing_pixels_nothing_changes():
    model = build()
    images = torch.randn(2, 4, SIDE, SIDE, dtype=torch.float64)
    mask = random_mask(2, 4, 4, 0.6)
    all_there = torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    one, of_one = run(model, images, mask, None, sparse=True)
    two, of_two = run(model, images, mask, all_there, sparse=True)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    for name, gradient in of_one.items():
        torch.testing.assert_close(gradient, of_two[name], rtol=1e-9, atol=1e-11, msg=name)


def test_a_cell_without_data_is_as_if_the_image_ended_there():
    """An image whose right half has no data gives the features of the left half alone, zero-padded."""
    model = build()
    images = torch.randn(1, 4, SIDE, SIDE, dtype=torch.float64)
    valid = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    valid[..., : SIDE // 2] = True
    nothing = torch.zeros(1, 4, 4, dtype=torch.bool)
    with torch.no_grad():
        half = model.encode(images[..., : SIDE // 2], nothing[..., :2])
        whole = model.encode(images, nothing, valid=valid)
    torch.testing.assert_close(whole[:, :, :2], half, rtol=1e-12, atol=1e-12)
    assert not whole[:, :, 2:].any()


def test_the_error_is_of_existing_pixels_in_masked_cells_with_enough_of_them():
    model, valid = build(), missing_pixels(3)
    images = torch.randn(2, 4, SIDE, SIDE, dtype=torch.float64)
    absent = absent_cells(valid, CELL, model.min_valid)
    mask = random_mask(2, 4, 4, 0.6, absent=absent)
    assert absent.any()
    assert not (mask & absent).any()
    with torch.no_grad():
        found = model.reconstruct(images, mask, valid=valid)
    there = patchify(valid[:, None].expand_as(images), CELL)
    target, prediction = patchify(images, CELL), found.prediction
    total = count = 0.0
    for image in range(2):
        for cell in range(16):
            if not mask[image].flatten()[cell]:
                continue
            exists = there[image, cell]
            values = target[image, cell][exists]
            normalised = (values - values.mean()) / (values.var() + 1e-6).sqrt()
            total += float((prediction[image, cell][exists] - normalised).square().sum())
            count += len(values)
    assert float(found.loss) == pytest.approx(total / count, rel=1e-12)


def test_masks_leave_out_cells_that_do_not_exist():
    absent = torch.zeros(3, 4, 5, dtype=torch.bool)
    absent[0, :, :2] = True  # 12 left
    absent[1] = True
    absent[1, 2, 2] = False  # one left
    absent[2] = True
    mask = random_mask(3, 4, 5, 0.6, absent=absent)
    assert not (mask & absent).any()
    assert mask.flatten(1).sum(1).tolist() == [8, 0, 0]  # floor(12 * 0.4) = 4 are visible


def test_masks_without_missing_cells_are_those_of_before():
    one = random_mask(3, 4, 5, 0.6, torch.Generator().manual_seed(1))
    two = random_mask(3, 4, 5, 0.6, torch.Generator().manual_seed(1), absent=torch.zeros(3, 4, 5, dtype=torch.bool))
    assert torch.equal(one, two)


def test_least_share_of_a_cell():
    valid = torch.ones(1, 4, 8, dtype=torch.bool)
    valid[0, :2, 4:] = False  # half of the second cell
    valid[0, 0, 0] = False
    assert absent_cells(valid, 4, 0.5).tolist() == [[[False, False]]]
    assert absent_cells(valid, 4, 0.51).tolist() == [[[False, True]]]
    assert absent_cells(valid, 4, 1.0).tolist() == [[[True, True]]]


def test_patches_are_normalised_by_what_exists():
    patches = torch.randn(3, 10, dtype=torch.float64)
    there = torch.rand(3, 10) < 0.7
    there[2] = False
    found = normalise_patches(torch.where(there, patches, torch.nan), there)
    for row in range(2):
        values = patches[row][there[row]]
        expected = (values - values.mean()) / (values.var() + 1e-6).sqrt()
        torch.testing.assert_close(found[row][there[row]], expected)
    assert not found[~there].any()


def test_crops_look_for_data():
    image = torch.full((2, 200, 200), torch.nan)
    image[:, :90, :90] = torch.rand(2, 90, 90)
    crop = CropAndMask(RandomResizedCropFlip(32, scale=(0.2, 1.0), format=torch.float32), 4, 0.6)
    torch.manual_seed(0)
    found = [crop(image) for _ in range(20)]
    for sample in found:
        there = (~absent_cells(~sample["images"].isnan().any(0, keepdim=True), 8, 0.5))[0]
        assert there.sum() >= 2
        assert not (sample["mask"] & ~there).any()
        assert (there & ~sample["mask"]).any()
    with pytest.raises(BadImageError, match="no crop of 50 has two patches with data in 50 % of them"):
        crop(torch.full((2, 200, 200), torch.nan))


def test_a_map_of_pixels_that_does_not_fit_is_refused():
    model = build()
    images = torch.zeros(2, 4, SIDE, SIDE, dtype=torch.float64)
    with pytest.raises(UserError, match=r"valid must be boolean \(B, H, W\)"):
        model(images, valid=torch.ones(2, 4, 4, dtype=torch.bool))
    with pytest.raises(UserError, match="min_valid must be above 0"):
        FCMAE(model.encoder, min_valid=0)
