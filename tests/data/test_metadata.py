"""Metadata do not spoil pixels: whatever texts, profiles and comments hold, the image is read, and is the same."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from convnextv2.data.files.decode import decode

BOMB = zlib.compress(bytes(100_000_000), 9)


def chunk(kind, data, checksum=None):
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def encoded(photo, form, **options):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, format=form, **options)
    return file.getvalue()


PNG = {
    "a text of 20 MB": chunk(b"tEXt", b"k\0" + b"a" * 20_000_000),
    "texts of 80 MB": b"".join(chunk(b"tEXt", b"k%d\0" % number + bytes(900_000)) for number in range(90)),
    "a compressed text of 100 MB": chunk(b"zTXt", b"k\0\0" + BOMB),
    "an international text of 100 MB": chunk(b"iTXt", b"k\0\1\0\0\0" + BOMB),
    "a profile of 100 MB": chunk(b"iCCP", b"k\0\0" + BOMB),
    "an unknown compression of a profile": chunk(b"iCCP", b"k\0\7x"),
    "an empty profile": chunk(b"iCCP", b""),
    "a cut gamma": chunk(b"gAMA", b""),
    "cut chromaticities": chunk(b"cHRM", b"ab"),
    "a cut resolution": chunk(b"pHYs", b"ab"),
    "a wrong checksum of a text": chunk(b"tEXt", b"k\0v", 7),
    "a cut animation": chunk(b"acTL", b""),
}


@pytest.mark.parametrize("what", PNG)
@pytest.mark.parametrize("where", [b"IDAT", b"IEND"])
def test_png(tmp_path, photo, what, where):
    plain = encoded(photo, "PNG")
    at = plain.index(where) - 4
    path = tmp_path / "x.png"
    path.write_bytes(plain[:at] + PNG[what] + plain[at:])
    tracemalloc.start()
    np.testing.assert_array_equal(decode(path), photo)
    assert tracemalloc.get_traced_memory()[1] < 80_000_000
    tracemalloc.stop()


def test_the_orientation_is_kept_when_a_text_is_not(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(photo, "PNG", exif=exif)
    at = plain.index(b"IDAT") - 4
    path = tmp_path / "x.png"
    path.write_bytes(plain[:at] + PNG["a compressed text of 100 MB"] + plain[at:])
    np.testing.assert_array_equal(decode(path), np.rot90(photo, -1))


def test_16_bit_png(tmp_path, photo):
    import imagecodecs

    plain = bytes(imagecodecs.png_encode(photo.astype(np.uint16) * 257))
    at = plain.index(b"IDAT") - 4
    path = tmp_path / "x.png"
    path.write_bytes(plain[:at] + b"".join(PNG.values()) + plain[at:])
    np.testing.assert_array_equal(decode(path), photo)


def test_damaged_pixels_stay_damaged(tmp_path, photo):
    plain = encoded(photo, "PNG")
    at = plain.index(b"IDAT") - 4
    path = tmp_path / "x.png"
    path.write_bytes((plain[:at] + PNG["an empty profile"] + plain[at:])[:-200])
    with pytest.raises(Exception, match=r"."):
        decode(path)


JPEG = {
    "short parts of a profile": segment(0xE2, b"ICC_PROFILE\0"),
    "a profile without its first part": segment(0xE2, b"ICC_PROFILE\0\5\2abc"),
    "a cut JFIF": segment(0xE0, b"JFIF\0"),
    "a cut Adobe": segment(0xEE, b"Adobe"),
    "Photoshop's resources, cut": segment(0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\x10"),
    "a broken index of pictures": segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
    "broken EXIF": segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "XMP that is no XML": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x"),
    "a comment of zeros": segment(0xFE, bytes(60_000)),
    "600 segments": segment(0xE5, bytes(65_000)) * 600,
}


@pytest.mark.parametrize("what", JPEG)
def test_jpeg(tmp_path, photo, what):
    plain = encoded(photo, "JPEG")
    path, other = tmp_path / "x.jpg", tmp_path / "y.jpg"
    other.write_bytes(plain)
    path.write_bytes(plain[:2] + JPEG[what] + plain[2:])
    np.testing.assert_array_equal(decode(path), decode(other))
    path.write_bytes(plain[:20] + JPEG[what] + plain[20:])
    np.testing.assert_array_equal(decode(path, min_side=10), decode(other, min_side=10))


@pytest.mark.parametrize(
    "metadata", [{"exif": b"Exif\0\0" + bytes(90)}, {"xmp": b"<x" * 9_000_000}, {"icc_profile": b"no"}]
)
def test_webp(tmp_path, photo, metadata):
    path = tmp_path / "x.webp"
    path.write_bytes(encoded(photo, "WEBP", lossless=True, **metadata))
    np.testing.assert_array_equal(decode(path), photo)
