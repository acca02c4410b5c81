"""Files that are no pictures: always BadImageError, one line, no warning, no pixels touched."""

import io
import os
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from convnextv2.data.files import decode as module
from convnextv2.data.files.decode import decode, header_pixels
from convnextv2.errors import BadImageError


def reason(path, **options):
    with pytest.raises(BadImageError) as caught:
        decode(path, **options)
    assert caught.value.path == str(path)
    assert caught.value.reason
    assert "\n" not in caught.value.reason
    return caught.value.reason


def png(width, height, rows=b"", *, colour=2):
    """A PNG whose header claims a size, whatever its pixel data holds."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_things_that_are_not_files(tmp_path):
    assert "no such file" in reason(tmp_path / "gone.jpg")
    (tmp_path / "x.jpg").mkdir()
    assert "folder" in reason(tmp_path / "x.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not a regular file" in reason(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "link.jpg")
    assert "symbolic links" in reason(tmp_path / "link.jpg")
    assert "null" in reason(str(tmp_path / "nul\0.jpg"))


def test_permission(tmp_path, monkeypatch):
    path = tmp_path / "locked.jpg"
    path.write_bytes(b"x")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "open", refuse, raising=False)
    assert reason(path) == "permission denied"


def test_empty_text_and_random(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"")
    assert reason(path) == "an empty file"
    for content in (
        b"hello",
        b"\xff\xd8",
        np.random.default_rng(0).bytes(5000),
        b"<svg/>",
        b"P6 2 2 255\n" + bytes(12),
    ):
        path.write_bytes(content)
        assert "not an image" in reason(path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_truncated_anywhere_but_the_very_end(tmp_path, photo, form):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format=form)
    path = tmp_path / "cut"
    for share in (0.1, 0.3, 0.5, 0.9):
        path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
        reason(path)


def test_the_header_alone_decides_about_size(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png(60_000, 60_000))
    message = reason(path)
    assert "60000 x 60000 = 3600000000" in message
    assert "100000000" in message
    assert "max_pixels" in message
    path.write_bytes(png(100, 100, b"\0" * 301 * 100))
    assert decode(path, max_pixels=10_000).shape == (100, 100, 3)
    assert "10000 pixels, more than 9999" in reason(path, max_pixels=9_999)


def test_the_limit_is_ours_to_raise(tmp_path):
    """200 million pixels pass Pillow's own limit; a header is enough to see that."""
    path = tmp_path / "large.png"
    path.write_bytes(png(20_000, 10_000))
    assert header_pixels(path, max_pixels=10**9) == 200_000_000
    with pytest.raises(BadImageError, match="max_pixels"):
        header_pixels(path)


def test_a_small_file_that_unpacks_to_very_much(tmp_path):
    """100 kB that hold 105 million bytes of pixels: over the limit, nothing is unpacked."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png(10_240, 10_240, bytes(10_241 * 10_240), colour=0))
    assert path.stat().st_size < 200_000
    assert "104857600 pixels" in reason(path)


def test_a_small_header_before_very_much_data_is_cheap(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(8, 8, bytes(50_000_000), colour=0))
    assert decode(path).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "error",
    [OSError, SyntaxError, struct.error, ValueError, EOFError, zlib.error, IndexError, KeyError, TypeError,
     MemoryError, OverflowError, RuntimeError, AssertionError, ZeroDivisionError, RecursionError],
)  # fmt: skip
def test_whatever_a_decoder_raises(tmp_path, photo, monkeypatch, error):
    path = tmp_path / "x.png"
    Image.fromarray(photo).save(path)

    def fail(*_args):
        raise error("two\nlines")

    monkeypatch.setattr(Image.Image, "convert", fail)
    assert "two" in reason(path)


def test_ctrl_c_is_not_swallowed(tmp_path, photo, monkeypatch):
    path = tmp_path / "x.png"
    Image.fromarray(photo).save(path)

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "convert", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode(path)
    assert Image.MAX_IMAGE_PIXELS is not None


def test_pillows_warnings_do_not_leak_and_settings_come_back(tmp_path):
    """A TIFF tag that reaches beyond its file, a picture over Pillow's limit; four threads at once."""
    tiff = tmp_path / "odd.tif"
    Image.new("RGB", (16, 16)).save(tiff, tiffinfo={270: "a description" * 9})
    data = bytearray(tiff.read_bytes())
    entries = struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, entries)[0]):
        at = entries + 2 + 12 * entry
        if struct.unpack_from("<H", data, at)[0] == 270:
            struct.pack_into("<HHII", data, at, 270, 2, 10**6, 8)
    tiff.write_bytes(data)
    with pytest.warns(UserWarning, match="(?i)tag"), Image.open(tiff) as image:
        image.load()
    large = tmp_path / "large.png"
    large.write_bytes(png(20_000, 5_000))
    limit, filters, seen = Image.MAX_IMAGE_PIXELS, warnings.filters[:], threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(decode, [tiff] * 50))
            list(pool.map(header_pixels, [large] * 50))
    assert limit == Image.MAX_IMAGE_PIXELS
    assert warnings.filters == filters
    assert threading.active_count() == seen
