"""The reconstruction grid shows what it says."""

import numpy as np
import torch

from convnextv2.data.transforms.colour import normalise
from convnextv2.records import Preprocessing
from convnextv2.tasks.pretrain.masking import normalise_patches, patchify
from convnextv2.tasks.pretrain.samples import reconstruction_grid


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
