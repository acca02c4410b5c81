"""`--value-range` from the command to every verb that reads images with the model: no range is lost in silence."""

import json
import warnings

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from small_run import SMALL, SMALL_CLASSIFIER, run_losses

import convnextv2
from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.cache import PixelCache
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.errors import Notice, UserError
from convnextv2.records import Preprocessing
from convnextv2.runs.settings import RunSettings
from convnextv2.weights.init import preprocessing_for
from convnextv2.weights.model_file import ModelInfo, read_model_file

QUICK = {"epochs": 1, "in_chans": 1, "workers": 0}


def dim(seed):
    """A picture of 12 bits."""
    y, x = np.mgrid[0:40, 0:44]
    waves = np.sin(x / (3 + seed % 5)) + np.cos(y / (4 + seed % 3))
    return np.rint((waves + 2) / 4 * 4095).astype(np.uint16)


@pytest.fixture(scope="module")
def dim_folder(tmp_path_factory):
    """Sixteen of them, in two classes."""
    folder = tmp_path_factory.mktemp("dim")
    for number in range(16):
        (folder / "ab"[number % 2]).mkdir(exist_ok=True)
        tifffile.imwrite(folder / "ab"[number % 2] / f"{number:02}.tif", dim(number))
    return folder


@pytest.fixture(scope="module")
def trained(dim_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "dim"
    return convnextv2.pretrain(dim_folder, out, **SMALL | QUICK, value_range="0:4095").run


def test_without_a_range_they_are_read_as_the_numbers_they_hold(dim_folder, tmp_path):
    run = convnextv2.pretrain(dim_folder, tmp_path / "run", **SMALL | QUICK).run
    assert (
        "1 band of the images are read as numbers: uint16, nearly all values from 8 to 4090"
        in (run / "log.txt").read_text()
    )
    predictor = convnextv2.load(run).predictor()
    found = predictor.read(next(dim_folder.rglob("*.tif")))
    assert len(found.unique()) > 1000
    assert predictor.normalise(found).std() == pytest.approx(1, abs=0.3)


def test_it_is_said_recorded_and_part_of_the_identity(dim_folder, trained, tmp_path):
    log = (trained / "log.txt").read_text()
    assert "16 of 16 files looked at are TIFF, 16 bits, values 0 to 4095, read from 0 to 4095" in log
    assert json.loads((trained / "config.json").read_text())["settings"]["value_range"] == [0, 4095]
    assert convnextv2.load(trained).preprocessing.value_range == (0, 4095)
    with pytest.raises(UserError, match=r"value_range was \(0.0, 4095.0\), now \(0.0, 1000.0\)"):
        convnextv2.pretrain(None, trained, resume=True, value_range=(0, 1000))
    convnextv2.pretrain(None, trained, resume=True)
    other = convnextv2.pretrain(dim_folder, tmp_path / "other", **SMALL | QUICK, value_range=(0, 65535)).run
    assert run_losses(other) != run_losses(trained)
    again = convnextv2.pretrain(None, tmp_path / "again", config=trained / "config.json").run
    assert run_losses(again) == run_losses(trained)


def test_files_and_cache_give_the_same_pixels_and_a_cache_of_another_range_is_refused(dim_folder):
    images = list_images(dim_folder)
    reading = Reading(channels=1, value_range=(0, 4095))
    cache = PixelCache(images, 10**7, reading)
    fresh = ImageSet(images, lambda image: {"image": image}, reading=reading)
    kept = ImageSet(images, lambda image: {"image": image}, reading=reading, cache=cache)
    for index in range(len(images)):
        assert torch.equal(kept.read(index), fresh.read(index))
        held = cache.get(index)
        assert held is not None
        assert torch.equal(held, fresh.read(index))
        assert int(fresh.read(index).max()) > 200
    with pytest.raises(ValueError, match="other images, or they are read otherwise"):
        ImageSet(images, lambda image: {"image": image}, reading=Reading(channels=1), cache=cache)


def test_what_starts_from_the_model_reads_alike(dim_folder, trained, tmp_path):
    options = {name: value for name, value in (SMALL_CLASSIFIER | QUICK).items() if name not in ("model", "in_chans")}
    run = convnextv2.classify(dim_folder, tmp_path / "run", init=trained, **options).run
    assert convnextv2.load(run).preprocessing.value_range == (0, 4095)
    predictor = convnextv2.load(run).predictor()
    path = dim_folder / "a" / "00.tif"
    whole = torch.from_numpy(decode(path, channels=1, value_range=(0, 4095))).permute(2, 0, 1)
    assert torch.equal(predictor.read(path), predictor.fit(whole))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing to say of images like those it was trained on
        logits = predictor(predictor.read(path)[None])
        answer = next(iter(convnextv2.predict(run, path, workers=0, precision="fp32")))
        convnextv2.evaluate(run, dim_folder, workers=0)
        found = convnextv2.embed(trained, dim_folder, workers=0)
        convnextv2.reconstruct(trained, [path], out=tmp_path / "figures")
    assert answer.labels[0].confidence == pytest.approx(logits.softmax(1).max().item(), abs=1e-5)
    pixels = convnextv2.load(trained).predictor()
    own = pixels.pooled_features(pixels.read(path)[None])[0].detach().numpy()
    np.testing.assert_allclose(found.features[0], own, atol=1e-5)


def test_other_files_than_it_was_trained_on_are_told_in_a_line(trained, dim_folder, tmp_path):
    Image.fromarray((dim(0) >> 4).astype(np.uint8)).save(tmp_path / "x.png")
    with pytest.warns(Notice, match="the model reads values from 0 to 4095, and the 1 files looked at have 8 bits"):
        convnextv2.embed(trained, tmp_path, workers=0)
    (tmp_path / "x.png").unlink()
    tifffile.imwrite(tmp_path / "x.tif", dim(0) + 20_000)
    with pytest.warns(Notice, match="values 20003 to 24090, read from 0 to 4095 .* most values lie outside"):
        convnextv2.embed(trained, tmp_path, workers=0)
    with pytest.warns(Notice, match="fall into 17 of 256 grey levels: give value_range='0:4095'"):
        convnextv2.embed(trained, dim_folder, workers=0, value_range="0:65535")


def test_a_range_for_8_bits_is_told(picture_folder, tmp_path):
    run = convnextv2.pretrain(picture_folder, tmp_path / "run", **SMALL | QUICK, value_range="0:100").run
    assert "files looked at have 8 bits, which stay as they are" in (run / "log.txt").read_text()


@pytest.mark.parametrize(
    "given", ["5", "5:1", "1:1", "a:b", "0:inf", "nan:1", "1:2:3", "", (1,), (2, 1), 7, ("a", 1), {}]
)
def test_no_range(given):
    with pytest.raises(UserError, match=r"give LOW:HIGH, the values that become black and white, as 0:4095"):
        RunSettings(value_range=given)


@pytest.mark.parametrize("given", ["-1024:3071", (-1024, 3071), [-1024, 3071.0], np.array([-1024, 3071])])
def test_ranges(given):
    assert RunSettings(value_range=given).value_range == (-1024, 3071)


def test_files_without_a_range_are_written_as_before(trained):
    info = read_model_file(trained).info
    plain = ModelInfo(
        kind=info.kind, architecture=info.architecture, preprocessing=Preprocessing.for_channels(1), image_size=32
    )
    assert plain.to_metadata()["preprocessing"] == '{"mean": [0.449], "std": [0.226]}'
    assert ModelInfo.from_metadata(info.to_metadata()).preprocessing == info.preprocessing
    assert preprocessing_for(3, read_model_file(trained)) == Preprocessing(value_range=(0, 4095))
    broken = {"preprocessing": json.dumps({"mean": [0.4], "std": [0.2], "value_range": [3, 1]})}
    with pytest.raises(UserError, match="LOW:HIGH"):
        ModelInfo.from_metadata(info.to_metadata() | broken)


def test_a_layout_without_a_place_for_it_says_so(trained, tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        convnextv2.convert(trained, "timm", tmp_path / "model.safetensors")
    assert any("takes values from 0 to 4095" in str(each.message) for each in told)
