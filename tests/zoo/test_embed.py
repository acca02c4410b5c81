"""Embedding a folder."""

import numpy as np
import pytest
import torch

from convnextv2 import create_model
from convnextv2.data.folder import list_images
from convnextv2.errors import RunFailed
from convnextv2.records import Preprocessing
from convnextv2.zoo.embed import embed


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return create_model("convnextv2_atto", num_classes=0, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), stem_stride=1)


def test_portions_and_workers_change_nothing(picture_folder, encoder):
    images = list_images(picture_folder)
    found = [
        embed(encoder, images, preprocessing=Preprocessing(), image_size=32, batch_size=size, workers=workers)
        for size, workers in ((7, 0), (64, 1))
    ]
    assert found[0].names == found[1].names == images.names
    np.testing.assert_allclose(found[0].features, found[1].features, rtol=1e-4, atol=1e-5)


def test_broken_files_are_told_and_left_out(picture_folder, encoder, tmp_path):
    source = sorted(picture_folder.rglob("*.png"))
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(source[number].read_bytes()[: 60 if number == 1 else None])
    found = embed(encoder, list_images(tmp_path), preprocessing=Preprocessing(), image_size=32, workers=0)
    assert found.names == ("0.png", "2.png")
    assert found.features.shape == (2, 16)
    assert [name for name, _ in found.bad] == ["1.png"]
    for name in found.names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(RunFailed, match="none of the 3 files"):
        embed(encoder, list_images(tmp_path), preprocessing=Preprocessing(), image_size=32, workers=0)
