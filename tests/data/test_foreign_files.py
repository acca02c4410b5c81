"""Files that other programs wrote (GDAL, ImageMagick, heif-enc; see `fixtures/foreign/make.py`), to the value."""

import sys

import numpy as np
import pytest
from foreign_files import FILES, values

from convnextv2.data.files.decode import decode, opened
from convnextv2.errors import BadImageError


def raster(name, channels=None):
    with opened(FILES / name) as image:
        return image.raster(channels)


EXACT = {
    "gdal_lzw.tif": values(5, "uint16"),  # tiles, predictor 2
    "gdal_planes.tif": values(5, "uint16"),  # tiles in planes, deflate
    "gdal_zstd.tif": values(3, "float32"),  # strips, predictor 3
    "gdal_big.tif": values(3, "float32"),  # BigTIFF, big endian
    "gdal_double.tif": values(2, "float64").astype(np.float32),  # LZMA
    "gdal_packbits.tif": values(2, "int16"),
    "gdal_int32.tif": values(2, "int32").astype(np.float32),
    "gdal_cog.tif": values(4, "uint16"),  # cloud-optimised
    "gdal_12bits.tif": np.rint(values(1, "uint16") * (4095 / 65535)).astype(np.uint16),
    "gdal_1bit.tif": np.where(values(1, "uint8") > 0, 255, 0).astype(np.uint8),
    "gdal_named.tif": values(4, "uint16"),
    "gdal_nodata.tif": values(4, "uint16"),
    "gdal_mask.tif": values(4, "uint8")[..., :3],
    "gdal_1.png": values(1, "uint16"),
    "gdal_3.png": values(3, "uint16"),
    "gdal_4.png": values(4, "uint16")[..., :3],
    "gdal_1.jp2": values(1, "uint16"),
    "gdal_3.jp2": values(3, "uint16"),
    "gdal_4.jp2": values(4, "uint16")[..., :3],
    "gdal_lossless.webp": values(1, "uint8").repeat(3, 2),
    "im_grey.tif": values(1, "uint16"),
    "im_colour.tif": values(3, "uint16"),
    "im_alpha.tif": values(4, "uint16")[..., :3],
    "im_planes.tif": values(3, "uint16"),
    "im_msb.tif": values(3, "uint16"),
    "im_white.tif": 65535 - values(1, "uint16"),  # it sets the tag and leaves the values, and reads them inverted
    "im_pages.tif": values(1, "uint16").repeat(2, 2),
    "im_packbits.tif": values(3, "uint8"),
    "im_grey.png": values(1, "uint16").repeat(3, 2),  # written as colours
    "im_colour.png": values(3, "uint16"),
    "im_alpha.png": values(4, "uint16")[..., :3],
    "im_bytes.bmp": values(3, "uint8"),
    "im_lossless.webp": values(3, "uint8"),
}


@pytest.mark.parametrize("name", EXACT)
def test_read_to_the_value(name):
    found, expected = raster(name), EXACT[name]
    assert found.values.dtype == expected.dtype
    np.testing.assert_array_equal(found.values, expected)
    if name == "gdal_mask.tif":
        np.testing.assert_array_equal(found.valid, values(4, "uint8")[..., 3] > 0)
    elif name == "gdal_nodata.tif":
        np.testing.assert_array_equal(found.valid, (expected != 7).all(2))
        assert not found.valid.all()
    else:
        assert found.valid is None


def test_floats_of_a_program_that_scales():
    """ImageMagick divides by its largest value in its own way: the last bits differ."""
    found = raster("im_float.tif").values
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values(1, "uint16") / 65535, rtol=2e-7)


def test_names_of_bands_and_alpha_that_is_picked():
    with opened(FILES / "gdal_named.tif") as image:
        assert image.layout().names == ("red", "green", "blue", "near infra-red")
    for name in ("gdal_4.png", "gdal_4.jp2", "im_alpha.png", "im_alpha.tif"):
        np.testing.assert_array_equal(raster(name, [3, 0, 1, 2]).values, values(4, "uint16")[..., [3, 0, 1, 2]])


def test_a_compression_that_is_not_read_is_named():
    with pytest.raises(BadImageError, match="TIFF compressed by LERC, a kind that is not read: write it with deflate"):
        raster("gdal_lerc.tif")


def test_heic():
    """The encoder rounds colours to YCbCr, so values are within two steps of 8 or 10 bits."""
    pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    found = raster("heif.heic")
    assert found.values.dtype == np.uint8
    assert found.valid is None
    assert np.abs(found.values.astype(int) - values(3, "uint8")).max() <= 2
    found = raster("heif_alpha.heic")
    np.testing.assert_array_equal(found.valid, values(4, "uint8")[..., 3] > 0)
    assert np.abs(found.values.astype(int) - values(4, "uint8")[..., :3])[found.valid].max() <= 2
    found = raster("heif_10bits.heic")
    assert found.values.dtype == np.uint16
    assert np.abs(found.values.astype(int) - values(3, "uint16")).max() <= 2 * 64 + 32
    picture = decode(FILES / "heif_10bits.heic")
    assert np.abs(picture.astype(int) - np.rint(values(3, "uint16") / 257)).max() <= 1
    assert np.abs(decode(FILES / "heif.heic").astype(int) - values(3, "uint8")).max() <= 2
    corner = decode(FILES / "heif_alpha.heic")[:5, :9]
    assert (corner == 255).all()


def test_without_the_extra_heic_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(BadImageError, match=r"HEIC: install its reader with `pip install convnextv2\[heic\]`"):
        raster("heif.heic")
