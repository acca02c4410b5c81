"""Pages of a TIFF and frames of DICOM as images of their own (--pages images)."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from small_run import SMALL, SMALL_CLASSIFIER, run_losses

import convnextv2
from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.parts import paged, tiled
from convnextv2.data.files.reading import ANY, RGB, Reading
from convnextv2.errors import UserError
from convnextv2.records import Bands

QUICK = {"epochs": 1, "workers": 0}


def page(number, high=40, wide=44):
    y, x = np.mgrid[0:high, 0:wide]
    return np.rint(2000 + 900 * np.sin(x / (3 + number) + y / 5)).astype(np.uint16)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """Stacks of 1, 4 and 5 pages, and the same pages in files of their own, in the same order."""
    root = tmp_path_factory.mktemp("pages")
    numbers = iter(range(10))
    for name, count in (("a", 1), ("b", 4), ("c", 5)):
        pages = [page(number) for number, _ in zip(numbers, range(count), strict=False)] if count > 1 else [page(0)]
        (root / "stacks").mkdir(exist_ok=True)
        (root / "files").mkdir(exist_ok=True)
        tifffile.imwrite(root / "stacks" / f"{name}.tif", np.stack(pages), photometric="minisblack")
        for place, values in enumerate(pages):
            tifffile.imwrite(root / "files" / f"{name}{place}.tif", values, photometric="minisblack")
    return root


def test_every_page_is_an_entry(stacks):
    images = paged(list_images(stacks / "stacks"), ANY)
    expected = ["a.tif", *(f"b.tif:{k}" for k in range(1, 5)), *(f"c.tif:{k}" for k in range(1, 6))]
    assert list(images.names) == expected
    files = list_images(stacks / "files")
    reading = Reading(1, bands=Bands(1, (0,)))
    for index in range(10):
        assert images.path(index).name == f"{expected[index][0]}.tif"
        ours, own = reading.raster(images, index), reading.raster(files, index)
        np.testing.assert_array_equal(ours.values, own.values)
    some = images.subset([7, 2])
    assert list(some.names) == ["c.tif:3", "b.tif:2"]
    np.testing.assert_array_equal(reading.raster(some, 0).values, reading.raster(files, 7).values)
    tiles = tiled(images, 32, ANY)
    assert len(tiles) == 4 * len(images)
    np.testing.assert_array_equal(reading.raster(tiles, 4 * 7).values, reading.raster(files, 7).values[:32, :32])


def test_pages_of_colours_are_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 30, 3)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", pixels, photometric="rgb")
    images = paged(list_images(tmp_path / "images"), ANY)
    for index in range(3):
        np.testing.assert_array_equal(RGB.raster(images, index).values, pixels[index])
    np.testing.assert_array_equal(decode(tmp_path / "images" / "a.tif"), pixels[0])


def test_training_statistics_and_features_are_those_of_files_of_their_own(stacks, tmp_path):
    own, ours = (
        convnextv2.pretrain(stacks / folder, tmp_path / folder, **SMALL | QUICK, **how).run
        for folder, how in (("files", {}), ("stacks", {"pages": "images"}))
    )
    assert run_losses(own) == run_losses(ours)
    assert (own / "stats.json").read_bytes() == (ours / "stats.json").read_bytes()
    made = convnextv2.stats(stacks / "stacks", pages="images", workers=0)
    assert (made.images, made.read_as.count) == (10, 1)
    expected = convnextv2.embed(own, stacks / "files", workers=0)
    found = convnextv2.embed(ours, stacks / "stacks", pages="images", workers=0)
    assert found.names[5] == "c.tif:1"
    assert np.array_equal(found.features, expected.features)
    more = convnextv2.pretrain(out=ours, resume=True)
    assert more.run == ours


def test_labels_are_of_whole_files(stacks, tmp_path):
    run = convnextv2.pretrain(stacks / "files", tmp_path / "run", **SMALL | QUICK).run
    labelled = tmp_path / "labelled"
    for name in ("x", "y"):
        (labelled / name).mkdir(parents=True)
        for number in range(8):
            tifffile.imwrite(labelled / name / f"{number}.tif", page(number), photometric="minisblack")
    trained = convnextv2.classify(labelled, tmp_path / "c", init=run, val_fraction=0.25, **SMALL_CLASSIFIER | QUICK)
    with pytest.raises(UserError, match=r"pages='images': labels are of whole files"):
        convnextv2.evaluate(trained.run, labelled, pages="images")
    found = list(convnextv2.predict(trained.run, stacks / "stacks", pages="images", workers=0))
    assert [Path(result.path).name for result in found][:2] == ["a.tif", "b.tif:1"]
