"""Decoding: every format and mode to the numbers the module promises."""

import io

import numpy as np
import pytest
from PIL import Image

from convnextv2.data.files.decode import decode, header_pixels
from convnextv2.errors import UserError

LOSSLESS = [
    ("png", {}),
    ("webp", {"lossless": True}),
    ("bmp", {}),
    ("tif", {}),
    ("tif", {"compression": "tiff_lzw"}),
    ("tif", {"compression": "tiff_adobe_deflate"}),
]


def save(tmp_path, image, extension, **options):
    path = tmp_path / f"picture.{extension}"
    image.save(path, **options)
    return path


@pytest.mark.parametrize(("extension", "options"), LOSSLESS)
def test_lossless_formats_are_exact(tmp_path, photo, extension, options):
    path = save(tmp_path, Image.fromarray(photo), extension, **options)
    pixels = decode(path)
    np.testing.assert_array_equal(pixels, photo)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    grey = np.asarray(Image.fromarray(photo).convert("L"))[..., None]
    np.testing.assert_array_equal(decode(path, channels=1), grey)


@pytest.mark.parametrize(
    ("extension", "options"),
    [
        ("jpg", {}),
        ("jpg", {"progressive": True}),
        ("webp", {}),
        ("tif", {"compression": "jpeg"}),
        ("gif", {}),
    ],
)
def test_lossy_formats_are_near(tmp_path, photo, extension, options):
    pixels = decode(save(tmp_path, Image.fromarray(photo), extension, **options))
    assert pixels.shape == photo.shape
    assert np.abs(pixels.astype(int) - photo).mean() < 12


def test_the_content_decides_not_the_name(tmp_path, photo):
    path = tmp_path / "png.jpg"
    Image.fromarray(photo).save(path, format="PNG")
    np.testing.assert_array_equal(decode(path), photo)


@pytest.mark.parametrize("mode", ["L", "1"])
@pytest.mark.parametrize("extension", ["png", "tif", "bmp"])
def test_grey_and_one_bit(tmp_path, photo, mode, extension):
    image = Image.fromarray(photo).convert(mode)
    path = save(tmp_path, image, extension)
    grey = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(decode(path, channels=1)[..., 0], grey)
    np.testing.assert_array_equal(decode(path), np.repeat(grey[..., None], 3, axis=2))
    if mode == "1":
        assert set(np.unique(grey)) == {0, 255}


def test_palette(tmp_path, photo):
    image = Image.fromarray(photo).quantize(16)
    for extension in ("png", "gif", "tif", "bmp"):
        np.testing.assert_array_equal(decode(save(tmp_path, image, extension)), np.asarray(image.convert("RGB")))


def test_palette_with_transparency_lies_on_white(tmp_path):
    palette = Image.new("P", (2, 2))
    palette.putdata([0, 1, 2, 1])
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    expected = [[[255, 0, 0], [255, 255, 255]], [[0, 0, 255], [255, 255, 255]]]
    for extension, transparency in (("png", 1), ("gif", 1), ("png", bytes([255, 0, 255]))):
        path = save(tmp_path, palette, extension, transparency=transparency)
        np.testing.assert_array_equal(decode(path), expected)


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
def test_rgba_lies_on_white(tmp_path, photo, extension):
    alpha = np.zeros(photo.shape[:2], np.uint8)
    alpha[:, 20:] = 255
    alpha[:, 40:] = 128
    options = {"lossless": True} if extension == "webp" else {}
    path = save(tmp_path, Image.fromarray(np.dstack([photo, alpha])), extension, **options)
    pixels = decode(path)
    assert (pixels[:, :20] == 255).all()
    np.testing.assert_array_equal(pixels[:, 20:40], photo[:, 20:40])
    half = photo[:, 40:] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(pixels[:, 40:] - half).max() <= 1


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_grey_with_alpha_lies_on_white(tmp_path, extension):
    image = Image.new("LA", (2, 1))
    image.putdata([(10, 255), (10, 0)])
    path = save(tmp_path, image, extension)
    np.testing.assert_array_equal(decode(path, channels=1), [[[10], [255]]])
    np.testing.assert_array_equal(decode(path), [[[10] * 3, [255] * 3]])


def test_colour_named_transparent_lies_on_white(tmp_path):
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    path = save(tmp_path, image, "png", transparency=(1, 2, 3))
    np.testing.assert_array_equal(decode(path), [[[255] * 3, [9] * 3]])


@pytest.mark.parametrize("extension", ["jpg", "tif"])
def test_cmyk(tmp_path, photo, extension):
    cmyk = Image.fromarray(photo).convert("CMYK")
    path = save(tmp_path, cmyk, extension)
    pixels = decode(path)
    assert np.abs(pixels.astype(int) - photo).mean() < 8
    assert decode(path, channels=1).shape == (*photo.shape[:2], 1)


def test_jpeg_without_adobe_marker_and_ycck(tmp_path, photo):
    """Photoshop's inverted CMYK carries transform 0, YCCK transform 2; the byte is patched in."""
    buffer = io.BytesIO()
    Image.fromarray(photo).convert("CMYK").save(buffer, format="JPEG", quality=95)
    data = bytearray(buffer.getvalue())
    at = data.index(b"Adobe") + 11
    assert data[at] in (0, 2)
    plain, ycck = tmp_path / "0.jpg", tmp_path / "2.jpg"
    for path, transform in ((plain, 0), (ycck, 2)):
        data[at] = transform
        path.write_bytes(data)
    right = plain if buffer.getvalue()[at] == 0 else ycck
    assert np.abs(decode(right).astype(int) - photo).mean() < 5
    assert (decode(plain) != decode(ycck)).mean() > 0.5


def test_16_bit_grey_has_one_fixed_scale(tmp_path):
    values = np.array([[0, 128, 129, 257], [32768, 65534 - 128, 65535 - 128, 65535]], np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    assert expected[0, 0] == 0
    assert expected[1, 3] == 255
    for extension in ("png", "tif"):
        np.testing.assert_array_equal(
            decode(save(tmp_path, Image.fromarray(values), extension), channels=1)[..., 0], expected
        )
    big_endian = Image.frombytes("I;16B", (4, 2), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode(save(tmp_path, big_endian, "tif"), channels=1)[..., 0], expected)
    dim = decode(save(tmp_path, Image.fromarray(values // 256), "png"))
    assert dim.max() == 1, "a dim picture of the set stays dim"


def test_integer_grey_is_clipped_to_16_bits(tmp_path):
    values = np.array([[-5, 0, 25700, 65535, 1_000_000]], np.int32)
    pixels = decode(save(tmp_path, Image.fromarray(values), "tif"))
    np.testing.assert_array_equal(pixels, np.repeat([[[0], [0], [100], [255], [255]]], 3, axis=2))


def test_float_grey_is_stretched_and_survives_nan(tmp_path):
    values = np.array([[-1.0, 0.0, 1.0, np.nan, np.inf, -np.inf]], np.float32)
    path = save(tmp_path, Image.fromarray(values), "tif")
    np.testing.assert_array_equal(decode(path, channels=1)[0, :, 0], [0, 128, 255, 0, 255, 0])
    for constant in (7.0, np.nan, 3e38):
        path = save(tmp_path, Image.fromarray(np.full((2, 2), constant, np.float32)), "tif")
        assert (decode(path) == 0).all()
    path = save(tmp_path, Image.fromarray(np.array([[-3e38, 3e38]], np.float32)), "tif")
    np.testing.assert_array_equal(decode(path, channels=1)[0, :, 0], [0, 255])


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation(tmp_path, orientation, extension):
    """The same scene, stored as a camera held in each of eight ways would store it."""
    scene = np.zeros((32, 48, 3), np.uint8)
    scene[:16, :16], scene[16:, :16], scene[:16, 32:] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: np.rot90(scene, 1),
        7: scene[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(scene, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if extension == "webp" else {"quality": 95} if extension == "jpg" else {}
    path = save(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), extension, exif=exif, **options)
    pixels = decode(path)
    assert pixels.shape == scene.shape
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - scene).mean() < 3
    assert header_pixels(path) == 32 * 48


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff"])
def test_broken_exif_is_tolerated(tmp_path, photo, exif):
    path = save(tmp_path, Image.fromarray(photo), "jpg", exif=exif)
    assert decode(path).shape == photo.shape


@pytest.mark.parametrize("extension", ["gif", "tif", "png", "webp"])
def test_first_frame_only(tmp_path, extension):
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    frames = [Image.new("RGB", (8, 8), colour) for colour in colours]
    options = {"lossless": True} if extension == "webp" else {}
    path = save(tmp_path, frames[0], extension, save_all=True, append_images=frames[1:], **options)
    assert (decode(path) == colours[0]).all()


def test_multi_picture_jpeg_gives_its_first(tmp_path, photo):
    frames = [Image.fromarray(photo), Image.new("RGB", (8, 8))]
    path = tmp_path / "two.jpg"
    frames[0].save(path, format="MPO", save_all=True, append_images=frames[1:])
    assert decode(path).shape == photo.shape


@pytest.mark.parametrize(
    ("min_side", "shape"),
    [(None, (240, 400)), (300, (240, 400)), (240, (240, 400)), (121, (240, 400)), (120, (120, 200)),
     (60, (60, 100)), (31, (60, 100)), (30, (30, 50)), (1, (30, 50))],
)  # fmt: skip
def test_min_side_halves_jpegs_as_far_as_allowed(tmp_path, min_side, shape):
    y, x = np.mgrid[0:240, 0:400]
    path = save(tmp_path, Image.fromarray((y / 2 + x / 4).astype(np.uint8)), "jpg")
    pixels = decode(path, channels=1, min_side=min_side)
    assert pixels.shape == (*shape, 1)
    assert header_pixels(path, min_side=min_side) == shape[0] * shape[1]
    np.testing.assert_array_equal(pixels, decode(path, channels=1, min_side=min_side))
    whole = Image.fromarray(decode(path, channels=1)[..., 0]).resize(shape[::-1], Image.Resampling.BOX)
    assert np.abs(np.asarray(whole).astype(int) - pixels[..., 0]).mean() < 2


def test_min_side_leaves_other_formats_alone(tmp_path, photo):
    np.testing.assert_array_equal(decode(save(tmp_path, Image.fromarray(photo), "png"), min_side=4), photo)


@pytest.mark.parametrize("channels", [0, 2, 4, 13])
def test_other_channel_counts_are_a_users_mistake(tmp_path, channels):
    with pytest.raises(UserError, match=r"1 \(grey\) or 3"):
        decode(tmp_path / "x.jpg", channels=channels)
