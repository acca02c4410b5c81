"""Large images covered by tiles in `embed` and `predict`: each tile is an image of its own."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from small_run import SMALL, SMALL_CLASSIFIER

import convnextv2
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.parts import tiled
from convnextv2.data.files.reading import ANY, Reading
from convnextv2.errors import UserError
from convnextv2.records import Bands

QUICK = {"epochs": 1, "workers": 0}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """One scene of 4 bands, 150 x 100 pixels, without data in its first 40 rows; a photograph lies elsewhere."""
    folder = tmp_path_factory.mktemp("scene")
    values = np.random.default_rng(0).integers(1, 4000, (150, 100, 4)).astype(np.uint16)
    values[:40] = 0
    tags = [(42113, "s", 0, "0", True)]
    tifffile.imwrite(
        folder / "s.tif", values, photometric="minisblack", planarconfig="contig", tile=(32, 32), extratags=tags
    )
    return folder, values


@pytest.fixture(scope="module")
def trained(scene, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return convnextv2.pretrain(scene[0], out, **SMALL | QUICK, crops_per_image=16).run


def test_tiles_cover_an_image_and_what_is_beyond_it_is_missing(scene):
    folder, values = scene
    cut = tiled(list_images(folder), 64, ANY)
    assert list(cut.names) == [f"s.tif:{top},{left}" for top in (0, 64, 128) for left in (0, 64)]
    assert all(cut.path(index) == folder / "s.tif" for index in range(6))
    how = Reading(4, bands=Bands(4, (0, 1, 2, 3)))
    padded = np.zeros((192, 128, 4), np.uint16)
    padded[:150, :100] = values
    for index, (top, left) in enumerate((top, left) for top in (0, 64, 128) for left in (0, 64)):
        found, expected = how.raster(cut, index), padded[top : top + 64, left : left + 64]
        there = (expected != 0).any(2)
        assert np.array_equal(found.values[there], expected[there])
        assert there.all() if found.valid is None else np.array_equal(found.valid, there)
    assert list(cut.subset([4, 1]).names) == ["s.tif:128,0", "s.tif:0,64"]
    assert np.array_equal(how.raster(cut.subset([4, 1]), 0).values, how.raster(cut, 4).values)


def test_pictures_are_filled_up_with_the_mean_colour_and_turned_first(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    tifffile.imwrite(tmp_path / "b.tif", pixels, photometric="rgb", tile=(32, 32), extratags=[(274, "H", 1, 6, True)])
    cut = tiled(list_images(tmp_path), 64, ANY)
    assert list(cut.names) == ["a.png:0,0", "a.png:64,0", "b.tif:0,0", "b.tif:64,0"]
    upright = np.rot90(pixels, -1)
    for index in (0, 2):
        found = Reading().raster(cut, index).values
        assert np.array_equal(found[:, :50], upright[:64])
        assert (found[:, 50:] == (124, 116, 104)).all()
        assert np.array_equal(Reading().raster(cut, index + 1).values[:6, :50], upright[64:])


def test_features_of_tiles_are_those_of_the_tiles(scene, trained, tmp_path):
    folder, values = scene
    found = convnextv2.embed(trained, folder, tile=64, workers=0)
    assert found.names[:2] == ("s.tif:0,0", "s.tif:0,64")
    assert found.features.shape == (6, 16)
    tifffile.imwrite(
        tmp_path / "t.tif", values[64:128, :64], photometric="minisblack", planarconfig="contig"
    )  # a tile without missing pixels, as a file
    predictor = convnextv2.load(trained).predictor()
    pixels = torch.from_numpy(values[64:128, :64].astype(np.float32)).permute(2, 0, 1)
    shrunk = torch.nn.functional.interpolate(pixels[None], size=(32, 32), mode="bicubic", antialias=True)
    expected = predictor.pooled_features(shrunk)[0].detach().numpy()
    np.testing.assert_allclose(found.features[2], expected, atol=1e-4)


def test_predictions_of_tiles(scene, trained, tmp_path):
    folder, values = scene
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            part = values[50 + number : 90 + number] // (1 + (name == "b"))
            tifffile.imwrite(tmp_path / name / f"{number}.tif", part, photometric="minisblack", planarconfig="contig")
    run = convnextv2.classify(
        tmp_path, tmp_path / "run", init=trained, val_fraction=0.2, mixup=0.0, cutmix=0.0, **SMALL_CLASSIFIER | QUICK
    ).run
    found = list(convnextv2.predict(run, folder, tile=50, workers=0))
    assert [prediction.path.rpartition("/")[2] for prediction in found] == [
        f"s.tif:{top},{left}" for top in (0, 50, 100) for left in (0, 50)
    ]
    for verb in (convnextv2.evaluate, convnextv2.probe):
        with pytest.raises(UserError, match="labels are of whole images; it is for embed and predict"):
            verb(run, tmp_path, tile=50, workers=0)


def test_an_image_that_cannot_be_read_is_one_tile(scene, trained, tmp_path):
    (tmp_path / "x.tif").write_bytes(b"II*\0")
    tifffile.imwrite(tmp_path / "y.tif", scene[1], photometric="minisblack", planarconfig="contig")
    found = convnextv2.embed(trained, tmp_path, tile=100, workers=0)
    assert found.names == ("y.tif:0,0", "y.tif:100,0")
    assert [name for name, _ in found.bad] == ["x.tif:0,0"]
