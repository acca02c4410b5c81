"""Embedding a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convnextv2 import create_model
from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import list_images
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.errors import RunFailedError, UserError
from convnextv2.models.timm_backbone import create_any
from convnextv2.records import Preprocessing
from convnextv2.tasks.classify.weights import describe
from convnextv2.verbs.embed import embed, embed_folder
from convnextv2.verbs.features import Encoder, load_encoder
from convnextv2.weights.files import save_tensors


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
    with pytest.raises(RunFailedError, match="none of the 3 files"):
        embed(encoder, list_images(tmp_path), preprocessing=Preprocessing(), image_size=32, workers=0)


@pytest.mark.parametrize("model", ["convnextv2_atto", "timm:test_convnext"])
def test_a_classifier_gives_what_its_head_works_on(model, picture_folder, tmp_path):
    if model.startswith("timm:"):
        pytest.importorskip("timm")
    shape: dict[str, Any] = {} if model.startswith("timm:") else {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    arguments = {"model": model, "in_chans": 3, "stem_stride": 4, "depths": None, "dims": None, **shape}
    classifier = create_any(model, image_size=64, num_classes=2, **shape).eval()
    metadata = describe(
        arguments,
        classes=("cats", "dogs"),
        multi_label=False,
        preprocessing=Preprocessing((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        image_size=64,
        crop_pct=1.0,
        trained_on="",
        init=None,
    )
    save_tensors(tmp_path / "model.safetensors", classifier.state_dict(), metadata)
    found = embed_folder(tmp_path / "model.safetensors", picture_folder, tmp_path / "f.npy", workers=0)
    assert found.names == list_images(picture_folder).names
    picture = torch.from_numpy(decode(picture_folder / found.names[7])).permute(2, 0, 1)
    pixels = (CenterFit(64, crop_pct=1.0)(picture).float() / 255 - 0.5) / 0.2
    with torch.no_grad():
        expected = classifier.pooled_features(pixels[None])[0].numpy()
    np.testing.assert_allclose(found.features[7], expected, rtol=1e-4, atol=1e-5)
    encoder = load_encoder(tmp_path / "model.safetensors")
    assert encoder.at_size(96).image_size == 96
    random = encoder.with_random_weights(1).model.state_dict()
    assert random.keys() == classifier.state_dict().keys()


def test_a_model_of_one_size_refuses_another():
    pytest.importorskip("timm")
    arguments = {"name": "timm:test_coatnet", "image_size": 64, "num_classes": 2}
    encoder = Encoder(
        create_any(**arguments).eval(), Preprocessing(), 64, None, arguments, Path("run/model.safetensors")
    )
    assert encoder.at_size(64) is encoder
    with pytest.raises(UserError, match=r"--image-size 96 does not suit run/model.safetensors .*; leave it out for 64"):
        encoder.at_size(96)
