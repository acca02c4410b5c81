"""The reconstruction grid shows what it says."""

import numpy as np
import pytest
import torch

from convnextv2.data.transforms.colour import normalise
from convnextv2.models import ConvNeXt
from convnextv2.models.config import EncoderConfig
from convnextv2.records import Preprocessing
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.masking import normalise_patches, patchify
from convnextv2.tasks.pretrain.samples import band_errors, reconstruction_grid


def test_a_perfect_prediction_gives_back_the_picture():
    torch.manual_seed(0)
    preprocessing = Preprocessing()
    pixels = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    images = normalise(pixels, preprocessing)
    mask = torch.rand(2, 4, 4) < 0.5
    prediction = normalise_patches(patchify(images, 32))
    grid = np.asarray(reconstruction_grid(images, mask, prediction, preprocessing, norm_pix=True)).astype(int)
    assert grid.shape == (2 * 128 + 4, 4 * 128 + 3 * 4, 3)
    original, masked, predicted, pasted = (grid[:128, 132 * i : 132 * i + 128] for i in range(4))
    assert np.array_equal(original, pixels[0].permute(1, 2, 0))
    assert np.abs(predicted - original).max() <= 1  # rounding
    assert np.abs(pasted - original).max() <= 1
    hidden = mask[0].repeat_interleave(32, 0).repeat_interleave(32, 1).numpy()
    assert (masked[hidden] == 128).all()
    assert np.array_equal(masked[~hidden], original[~hidden])


def test_grey_pictures_are_shown_in_grey():
    images = torch.randn(1, 1, 32, 32)
    grid = reconstruction_grid(
        images, torch.ones(1, 2, 2, dtype=bool), torch.zeros(1, 4, 256), Preprocessing.for_channels(1), norm_pix=False
    )
    values = np.asarray(grid)
    assert (values[..., 0] == values[..., 2]).all()


@pytest.mark.parametrize("norm_pix", [True, False])
@pytest.mark.parametrize("some_missing", [True, False])
def test_the_mean_of_the_errors_of_bands_is_the_loss(norm_pix, some_missing):
    torch.manual_seed(0)
    encoder = ConvNeXt(
        EncoderConfig(name="convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), in_chans=5), num_classes=0
    )
    model = FCMAE(encoder, decoder_dim=16, norm_pix_loss=norm_pix).eval()
    images, valid = torch.randn(3, 5, 128, 128) * torch.arange(1, 6)[:, None, None], None
    if some_missing:
        valid = torch.rand(3, 128, 128) < 0.8
        valid[0, :70, :40] = False
    with torch.no_grad():
        found = model.reconstruct(images, valid=valid)
        error, _ = band_errors(images, found.mask, found.prediction, norm_pix=norm_pix, valid=valid)
        nothing = torch.zeros_like(found.prediction)
        zero, of_mean = band_errors(images, found.mask, nothing, norm_pix=norm_pix, valid=valid)
    assert float(error.mean()) == pytest.approx(float(found.loss), rel=1e-5)
    assert bool((of_mean.diff() > 0).all())
    if norm_pix:
        assert torch.equal(zero, of_mean)
        assert float(of_mean.mean()) == pytest.approx(1, abs=1e-3)


def test_a_band_that_is_predicted_exactly_has_no_error():
    torch.manual_seed(0)
    images, mask = torch.randn(2, 3, 64, 64), torch.rand(2, 2, 2) < 0.6
    prediction = patchify(images, 32).unflatten(2, (-1, 3)) + torch.tensor([0.0, 1.0, 2.0])
    error, _ = band_errors(images, mask, prediction.flatten(2), norm_pix=False)
    assert error.tolist() == pytest.approx([0, 1, 4], abs=1e-5)
