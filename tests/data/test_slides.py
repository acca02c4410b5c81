"""Whole slides by OpenSlide: a slide as a scanner's program writes it, made here, and its parts."""

import shutil
import sys

import numpy as np
import pytest
import tifffile

from convnextv2 import embed, pretrain
from convnextv2.data.files.decode import decode, opened
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.raster import Tile
from convnextv2.errors import BadImageError

SCANNER = "Aperio Image Library v11.2.1\r\n{wide}x{high} [0,0 {wide}x{high}] (240x240) JPEG|AppMag = 20|MPP = 0.5"


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """700 x 900 pixels in tiles of 240, deflated so that it is known to the value, with a thumbnail and a level."""
    y, x, band = np.mgrid[:700, :900, :3]
    pixels = ((y * 3 + x * 7 + band * 50) % 256).astype(np.uint8)
    path = tmp_path_factory.mktemp("slides") / "a.svs"
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "compression": "adobe_deflate", "tile": (240, 240)}
        file.write(pixels, description=SCANNER.format(wide=900, high=700), metadata=None, **options)
        file.write(pixels[::8, ::8], photometric="rgb", description="Aperio thumbnail", metadata=None)
        file.write(pixels[::4, ::4], description="Aperio Image Library v11.2.1\r\nlevel", metadata=None, **options)
    return path, pixels


def test_read_whole_and_in_parts(slide):
    pytest.importorskip("openslide", reason="the extra slides is not installed")
    path, pixels = slide
    with opened(path) as image:
        assert type(image).__name__ == "Slide"
        assert image.about().plain
        np.testing.assert_array_equal(image.raster().values, pixels)
        np.testing.assert_array_equal(image.raster([2], Tile(300, 500, 256)).values, pixels[300:556, 500:756, 2:])
    np.testing.assert_array_equal(decode(path), pixels)
    with pytest.raises(BadImageError, match=r"or read parts of it: crops_per_image in pretrain, tile in embed"):
        decode(path, max_pixels=1000)


def test_without_openslide_a_slide_that_is_a_tiff_is_read_as_that(slide, monkeypatch, tmp_path):
    path, pixels = slide
    monkeypatch.setitem(sys.modules, "openslide", None)
    np.testing.assert_array_equal(decode(path), pixels)
    shutil.copy(path, tmp_path / "a.ndpi")
    with pytest.raises(BadImageError, match=r"whole slide: install its reader with `pip install convnextv2\[slides\]`"):
        decode(tmp_path / "a.ndpi")


def test_a_folder_of_slides_is_pre_trained_on_and_embedded(slide, tmp_path):
    pytest.importorskip("openslide", reason="the extra slides is not installed")
    path, _ = slide
    folder = tmp_path / "slides"
    folder.mkdir()
    for number in range(2):
        shutil.copy(path, folder / f"{number}.svs")
    assert list(list_images(folder).names) == ["0.svs", "1.svs"]
    small = {"model": "convnextv2_atto", "depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    run = tmp_path / "run"
    pretrain(folder, run, **small, image_size=64, crops_per_image=8, epochs=1, batch_size=8, workers=0, pictures=0)
    found = embed(run, folder, tile=256, workers=0)
    assert len(found.features) == 2 * 3 * 4
