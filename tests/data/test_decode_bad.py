"""Files that are no pictures: always BadImageError, one line, no warning, no pixels touched."""

import contextlib
import io
import os
import struct
import threading
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from convnextv2.data.files import decode as module
from convnextv2.data.files.decode import decode, header_pixels
from convnextv2.data.files.decoders import jpeg2000, table
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

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert "two" in reason(path)


def test_ctrl_c_is_not_swallowed(tmp_path, photo, monkeypatch):
    path = tmp_path / "x.png"
    Image.fromarray(photo).save(path)

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFile.ImageFile, "load", interrupt)
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


def box(brand):
    return struct.pack(">I4s4sI4s", 20, b"ftyp", brand, 0, brand) + bytes(100)


@pytest.mark.parametrize(
    ("content", "named", "advice"),
    [
        (box(b"isom"), "video", "frames"),
        (box(b"qt  "), "video", "frames"),
        (b"RIFF\0\0\0\0AVI LIST", "video (AVI)", "frames"),
        (b"\x1aE\xdf\xa3" + bytes(50), "video (WebM", "frames"),
        (b"PK\3\4" + bytes(50), "zip", "unpack"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip", "unpack"),
        (b"%PDF-1.7", "PDF", "render"),
        (b"<svg/>", "SVG", "render"),
        (b"<?xml version='1.0'?><svg/>", "SVG", "render"),
        (b"<!DOCTYPE html><html>", "web page", "download"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS", "git lfs pull"),
        (b"P6 2 2 255\n" + bytes(12), "PNM", "PNG or JPEG"),
        (b"8BPS\0\1", "Photoshop", "PNG or JPEG"),
        (b"\xff\x0a" + bytes(20), "JPEG XL", "PNG or JPEG"),
        (bytes(128) + b"DICM" + bytes(50), "DICOM", "leave it out"),
        (b"\x89HDF\r\n\x1a\n", "HDF5", "TIFF"),
        (b"SIMPLE  =                    T", "FITS", "TIFF"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw file", "develop"),
        (b"\0\5\x16\7" + bytes(50), "resource fork", "remove"),
    ],
)
def test_well_known_kinds_are_named(tmp_path, content, named, advice):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    said = reason(path)
    assert named in said
    assert advice in said
    assert "damaged" not in said


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (np.zeros((9, 9, 5), np.uint8), {"planarconfig": "contig"}, "5 samples of 8 bits"),
        (np.zeros((7, 9, 9), np.uint16), {"planarconfig": "separate"}, "7 samples of 16 bits"),
        (np.zeros((9, 9), np.complex64), {}, "64 bits, complex"),
        (np.zeros((4, 16, 16), np.uint8), {"volumetric": True, "tile": (16, 16, 16)}, "1 sample of 8 bits"),
        (np.zeros((9, 9, 3), np.uint8), {"photometric": "icclab"}, "ICCLAB"),
        (np.zeros((16, 16), np.uint8), {"compression": "jpegxl"}, "JPEGXL"),
    ],
    ids=["five bands", "seven bands", "complex", "volume", "ICCLab", "JPEG XL"],
)
def test_kinds_of_tiff_that_are_not_read_are_not_called_damaged(tmp_path, array, options, said):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, array, **{"photometric": "minisblack", "metadata": None} | options)
    message = reason(path)
    assert said in message
    assert "a kind that is not read" in message
    assert "damaged" not in message


def test_avif_and_jpeg_2000_of_a_pillow_without_them(tmp_path, photo, monkeypatch):
    for form, where, name in (("AVIF", table, "READS_AVIF"), ("JPEG2000", jpeg2000, "READS_JPEG_2000")):
        path = tmp_path / "x"
        Image.fromarray(photo).save(path, format=form)
        decode(path)
        monkeypatch.setattr(where, name, False)
        assert "this Pillow was built without" in reason(path)


def tiff(entries, pixels=b"", *, next_directory=0):
    """A TIFF of these tags: (number, type, count, value or offset)."""
    start = 8 + len(pixels)
    listed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(entries)) + listed
        + struct.pack("<I", next_directory)
    )  # fmt: skip


def grey(width, height, size, *, offset=8, **changed):
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    tags |= {273: (4, 1, offset), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, size)}
    tags |= {int(number[1:]): value for number, value in changed.items()}
    return [(number, *value) for number, value in sorted(tags.items())]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (grey(60_000, 60_000, 100), "3600000000 pixels"),
        (grey(20, 20, 400), "."),
        (grey(10, 10, 100, offset=10**9), "."),
        (grey(10, 10, 100, _273=(4, 2**30, 8)), "tag 273 is not there"),
        (grey(10, 10, 100, _258=(3, 2**31, 8)), "tag 258 is not there"),
        (grey(10, 10, 100, _277=(3, 1, 60_000), _338=(3, 1, 0)), "60000 samples"),
        (grey(10, 10, 100, _322=(4, 1, 2**31), _323=(4, 1, 2**31)), "."),
        (grey(10, 10, 0, offset=0), "missing"),
        (grey(0, 10, 100), "."),
        (grey(10, 10, 100, _259=(3, 1, 5)), "."),
        (grey(10, 10, 100, _259=(3, 1, 7)), "."),
        ([(256, 4, 1, 10)] * 5000, "5000 tags"),
        ([*grey(10, 10, 100), *[(60_000 + k, 7, 400, 8) for k in range(900)]], "claim more than the file holds"),
    ],
    ids=lambda value: value if isinstance(value, str) else len(value),
)
def test_absurd_tiffs_end_soon(tmp_path, entries, said, caplog, capfd):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(entries, bytes(100)))
    tracemalloc.start()
    assert said in reason(path) or said == "."
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert not caplog.records


def test_a_chain_of_pages_that_leads_back(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(grey(10, 10, 100), bytes(100), next_directory=108))
    assert (decode(path) == 0).all()
    with module.opened(path) as image:
        assert image.about().pages == 1


@pytest.mark.parametrize("codec", ["zlib", "lzw", "zstd", "lzma", "packbits", "jpeg", "jpeg2000", "webp", "png"])
def test_a_strip_that_unpacks_to_very_much(tmp_path, codec):
    """A strip of a large image in the place of a small one's; whatever is made of it takes no more than is needed."""
    large = np.zeros((3000, 3000), np.uint8) if codec != "webp" else np.zeros((3000, 3000, 3), np.uint8)
    path = tmp_path / "x.tif"
    options = {"photometric": "rgb" if codec == "webp" else "minisblack", "metadata": None}
    tifffile.imwrite(path, large, compression=codec, rowsperstrip=3000, **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(16)
    tracemalloc.start()
    with contextlib.suppress(BadImageError):
        assert (decode(path) == 0).all()
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


def test_tifffile_goes_on_logging_for_others(tmp_path, caplog):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff([*grey(10, 10, 100), (305, 2, 100, 10**6)], bytes(100)))
    assert (decode(path) == 0).all()
    assert not caplog.records
    tifffile.imread(path)
    assert caplog.records
