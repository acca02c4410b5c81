"""Embedding a folder."""

import numpy as np
import pytest
import torch

from convnextv2 import create_model, embed, load
from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import list_images
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.errors import RunFailedError, UserError
from convnextv2.inference.predictor import InputSpec, Predictor
from convnextv2.inference.settings import InferenceSettings
from convnextv2.models import EncoderConfig, TimmConfig, build_backbone
from convnextv2.records import Preprocessing
from convnextv2.verbs.embed import embed_images
from convnextv2.weights.files import save_tensors
from convnextv2.weights.model_file import ModelInfo


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    shape = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "stem_stride": 1}
    model = create_model("convnextv2_atto", num_classes=0, **shape)
    return Predictor(model, InputSpec(in_chans=3, image_size=32, preprocessing=Preprocessing()))


def test_portions_and_workers_change_nothing(picture_folder, predictor):
    images = list_images(picture_folder)
    found = [
        embed_images(predictor, images, InferenceSettings(batch_size=size, workers=workers))
        for size, workers in ((7, 0), (64, 1))
    ]
    assert found[0].names == found[1].names == images.names
    np.testing.assert_allclose(found[0].features, found[1].features, rtol=1e-4, atol=1e-5)


def test_broken_files_are_told_and_left_out(picture_folder, predictor, tmp_path):
    source = sorted(picture_folder.rglob("*.png"))
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(source[number].read_bytes()[: 60 if number == 1 else None])
    found = embed_images(predictor, list_images(tmp_path), InferenceSettings(workers=0))
    assert found.names == ("0.png", "2.png")
    assert found.features.shape == (2, 16)
    assert [name for name, _ in found.bad] == ["1.png"]
    for name in found.names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(RunFailedError, match="none of the 3 files"):
        embed_images(predictor, list_images(tmp_path), InferenceSettings(workers=0))


@pytest.mark.parametrize("model", ["convnextv2_atto", "timm:test_convnext"])
def test_a_classifier_gives_what_its_head_works_on(model, picture_folder, tmp_path):
    if model.startswith("timm:"):
        pytest.importorskip("timm")
        config = TimmConfig(name=model)
    else:
        config = EncoderConfig.named(model, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
    classifier = build_backbone(config, image_size=64, num_classes=2).eval()
    info = ModelInfo(
        kind="classifier",
        architecture=config,
        classes=("cats", "dogs"),
        preprocessing=Preprocessing((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        image_size=64,
        crop_pct=1.0,
        trained_on="",
    )
    save_tensors(tmp_path / "model.safetensors", classifier.state_dict(), info.to_metadata())
    found = embed(tmp_path / "model.safetensors", picture_folder, tmp_path / "f.npy", workers=0)
    assert found.names == list_images(picture_folder).names
    picture = torch.from_numpy(decode(picture_folder / found.names[7])).permute(2, 0, 1)
    pixels = (CenterFit(64, crop_pct=1.0)(picture).float() / 255 - 0.5) / 0.2
    with torch.no_grad():
        expected = classifier.pooled_features(pixels[None])[0].numpy()
    np.testing.assert_allclose(found.features[7], expected, rtol=1e-4, atol=1e-5)
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.predictor(image_size=96).spec.image_size == 96
    random = loaded.with_random_weights(1).model.state_dict()
    assert random.keys() == classifier.state_dict().keys()


def test_a_model_of_one_size_refuses_another():
    pytest.importorskip("timm")
    model = build_backbone(TimmConfig(name="timm:test_coatnet"), image_size=64, num_classes=2)
    predictor = Predictor(model, InputSpec(in_chans=3, image_size=64, preprocessing=Preprocessing()))
    assert predictor.at_size(64) is predictor
    with pytest.raises(UserError, match=r"image_size=96 does not suit the model .*; leave it out for 64"):
        predictor.at_size(96)
