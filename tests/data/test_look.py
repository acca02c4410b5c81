"""What a look at a folder says of its numbers: what is found, what to give, and when a range is lost."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.look import FILES, look

RED = np.stack([np.arange(256) * 257, np.zeros(256), np.zeros(256)]).astype(np.uint16)


def scene(seed, most=1.0):
    y, x = np.mgrid[0:60, 0:80]
    waves = (np.sin(x / 9) + np.cos(y / 7)) / 4 + 0.5 + np.random.default_rng(seed).normal(0, 0.03, x.shape)
    return np.clip(waves, 0, 1) * most


def border(values, value):
    values = values.copy()
    values[:, :10] = value
    return values


def folder(tmp_path, make, count=6, **options):
    for number in range(count):
        array = make(number)
        tifffile.imwrite(
            tmp_path / f"{number:03}.tif", array, **{"photometric": "minisblack", "metadata": None} | options
        )
    return list_images(tmp_path)


LOST = {
    "12 bits in 16": (lambda n: scene(n, 4095).astype(np.uint16), "0:4095", "16 bits"),
    "8 bits in 16": (lambda n: scene(n, 255).astype(np.uint16), "0:255", "16 bits"),
    "10 bits in 32": (lambda n: scene(n, 1023).astype(np.int32), "0:1023", "32 bits, signed"),
    "thermal": (lambda n: (scene(n, 2000) + 7000).astype(np.uint16), "7000:9000", "16 bits"),
    "CT": (lambda n: border(scene(n, 3000) - 1000, -2000).astype(np.int16), "-1000:2000", "16 bits, signed"),
    "12 bits and 65535": (
        lambda n: border(scene(n, 4000), 65535).astype(np.uint16),
        "0:4095",
        "65535, perhaps missing",
    ),
    "signed and -32768": (
        lambda n: border(scene(n, 4000), -32768).astype(np.int16),
        "0:4095",
        "-32768, perhaps missing",
    ),
    "float and -9999": (lambda n: border(scene(n), -9999).astype(np.float32), "0:1", "-9999, perhaps missing"),
}


@pytest.mark.parametrize("what", LOST)
def test_a_range_that_is_lost(tmp_path, what):
    make, give, said = LOST[what]
    images = folder(tmp_path, make)
    found = look(images)
    assert said in found.said
    assert f"give --value-range {give}" in found.lost
    assert "\n" not in found.said + found.lost
    low, high = map(float, give.split(":"))
    assert not look(images, (low, high)).lost
    pixels = decode(images.path(0), channels=1, value_range=(low, high))[..., 0]
    expected = np.clip((make(0).astype(float) - low) / (high - low), 0, 1) * 255
    np.testing.assert_array_equal(pixels, np.rint(expected))


KEPT = {
    "all of 16 bits": lambda n: scene(n, 65535).astype(np.uint16),
    "14 bits": lambda n: scene(n, 16383).astype(np.uint16),
    "binary": lambda n: (scene(n) > 0.5).astype(np.uint16) * 65535,
    "flat": lambda n: np.full((30, 30), 1000, np.uint16),
    "float": lambda n: scene(n).astype(np.float32),
    "float with NaN": lambda n: border(scene(n), np.nan).astype(np.float32),
    "flat float": lambda n: np.zeros((9, 9), np.float32),
    "nothing but NaN": lambda n: np.full((9, 9), np.nan, np.float32),
}


@pytest.mark.parametrize("what", KEPT)
def test_a_range_that_is_kept(tmp_path, what):
    found = look(folder(tmp_path, KEPT[what]))
    assert found.files == 6
    assert found.plain == 0
    assert found.said.startswith("6 of 6 files looked at are TIFF, ")
    assert not found.lost


@pytest.mark.parametrize(
    "make", [lambda n: (scene(n) > 0.5) * 255, lambda n: np.full((9, 9), 7), lambda n: scene(n, 9)]
)
def test_8_bits_need_no_word_and_no_decoding(tmp_path, make, monkeypatch):
    for number in range(3):
        Image.fromarray(make(number).astype(np.uint8)).save(tmp_path / f"{number}.png")
        tifffile.imwrite(tmp_path / f"{number}.tif", make(number).astype(np.uint8))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    found = look(list_images(tmp_path))
    assert (found.files, found.plain, found.said, found.lost) == (6, 6, "", "")


def test_what_headers_tell(tmp_path):
    pages = folder(tmp_path, lambda n: np.zeros((n + 2, 9, 9), np.uint8), count=3)
    assert look(pages).said == "3 of 3 files looked at are TIFF, 8 bits, of up to 4 pages, of which the first is read"
    (tmp_path / "b").mkdir()
    bands = folder(tmp_path / "b", lambda n: np.zeros((9, 9, 4), np.uint8), photometric="rgb", extrasamples=[0])
    assert "with 1 more sample a pixel, not read" in look(bands).said
    (tmp_path / "n").mkdir()
    named = folder(
        tmp_path / "n", lambda n: border(scene(n, 60000), 7).astype(np.uint16), extratags=[(42113, 2, 0, "7")]
    )
    assert "with 7 named as missing data in GDAL's tag" in look(named).said


def test_a_palette_whose_index_is_the_intensity(tmp_path):
    index = (np.arange(60 * 80) % 256).reshape(60, 80).astype(np.uint8)
    images = folder(tmp_path, lambda n: index, photometric="palette", colormap=RED)
    found = look(images)
    assert "--value-range 0:255 reads its index as grey" in found.said
    assert not found.lost
    assert (decode(images.path(0))[..., 1:] == 0).all()
    np.testing.assert_array_equal(decode(images.path(0), value_range=(0, 255)), np.repeat(index[..., None], 3, 2))
    grey = np.stack([np.arange(256) * 257] * 3).astype(np.uint16)
    (tmp_path / "g").mkdir()
    assert not look(folder(tmp_path / "g", lambda n: index, photometric="palette", colormap=grey)).said
    photo = Image.effect_noise((64, 64), 90).convert("RGB").quantize(200)
    photo.save(tmp_path / "g" / "photo.png")
    assert not look(list_images(tmp_path / "g")).said


def test_the_same_files_every_time_and_bad_ones_left_out(tmp_path, monkeypatch):
    images = folder(tmp_path, lambda n: scene(n, 4095).astype(np.uint16), count=5)
    images.path(2).write_bytes(b"II*\0 no more")
    found = look(images)
    assert found == look(images)
    assert found.files == 4
    many = type(images)(images.source, tuple(images.names) * 100, images.root)
    opened = []
    monkeypatch.setattr("convnextv2.data.files.look._look_at", lambda path, *_: opened.append(path) or _plain())
    look(many)
    assert len(opened) == FILES


def _plain():
    from convnextv2.data.files.decoders.opened import About

    return About("PNG, 8 bits")


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("int8", -100, 101), ("uint16", 501, 4000), ("float32", -0.5, 0.25)]
)
def test_values_below_above_and_nan(tmp_path, dtype, low, high):
    spread = np.linspace(low - (high - low) / 8, high + (high - low) / 8, 300).reshape(15, 20).astype(dtype)
    if dtype == "float32":
        spread[0, 5] = np.nan
    expected = np.nan_to_num(np.rint(np.clip((spread.astype(float) - low) / (high - low), 0, 1) * 255)).astype(np.uint8)
    for photometric, shown in (("minisblack", expected), ("miniswhite", 255 - expected)):
        path = tmp_path / "x.tif"
        tifffile.imwrite(path, spread, photometric=photometric)
        pixels = decode(path, channels=1, value_range=(low, high))[..., 0]
        shown = np.where(np.isnan(spread), 0, shown) if dtype == "float32" else shown
        np.testing.assert_array_equal(pixels, shown)


def test_8_bits_stay_as_they_are(tmp_path, photo):
    for name in ("x.png", "x.tif", "x.bmp"):
        Image.fromarray(photo).save(tmp_path / name)
        np.testing.assert_array_equal(decode(tmp_path / name, value_range=(0, 100)), photo)
