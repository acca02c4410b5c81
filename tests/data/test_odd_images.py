"""A hundred images as instruments and archives write them, each compared value by value with the array it was made of.

tifffile, Pillow and imagecodecs write them; kinds that none writes are put together by `raw_tiff`. What is expected is
computed here from the array, or read by Pillow where it converts colours.
"""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from convnextv2.data.files.decode import decode, header_pixels

H, W = 37, 50


def grid(levels, height=H, width=W, channels=None):
    """Whole numbers from 0 to levels - 1, all of that range and in no simple order."""
    shape = (height, width) if channels is None else (height, width, channels)
    count = int(np.prod(shape))
    numbers = (np.arange(count) * 7919) % count
    return (numbers * (levels - 1) // (count - 1)).reshape(shape)


def shade(values, low, high):
    """The bytes of values between black and white; NaN is black."""
    clipped = np.clip(values.astype(np.float64), low, high)
    return np.nan_to_num(np.rint((clipped - low) / (high - low) * 255)).astype(np.uint8)


def over_white(colour, alpha):
    """Bytes over white; alpha from 0 to 1."""
    return np.rint(colour * alpha[..., None] + 255 * (1 - alpha[..., None]))


def tiff(array, **options):
    file = io.BytesIO()
    options = {"photometric": "minisblack", "metadata": None} | options
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def raw_tiff(tags, data, order="<"):
    """A TIFF of one strip with exactly these tags: {number: (type, values)}."""
    tags = {273: (4, [8])} | tags | {279: (4, [len(data)])}
    sizes = {1: "B", 3: "H", 4: "I"}
    at, later, entries = 8 + len(data) + len(data) % 2, b"", b""
    start = at + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}{sizes[kind]}", *values)
        if len(value) > 4:
            value, later = struct.pack(f"{order}I", start + len(later)), later + value
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + value.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    body = head + data + bytes(len(data) % 2) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return body + later


def basic(width, height, bits, photometric, **more):
    """The tags that every image has; more: by name."""
    numbers = {"fill_order": 266, "extra": 338, "format": 339, "palette": 320, "planar": 284, "orientation": 274}
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, bits), 259: (3, [1]), 262: (3, [photometric])}
    tags |= {277: (3, [len(bits)]), 278: (4, [height])}
    return tags | {numbers[name]: (3, values) for name, values in more.items()}


def packed(values, bits):
    """Rows of numbers of so many bits, each row filled up to a whole byte."""
    rows = [np.array([list(np.binary_repr(v, bits)) for v in row]).reshape(-1).astype(np.uint8) for row in values]
    return b"".join(np.packbits(row).tobytes() for row in rows)


def mirrored(data):
    """Every byte with its bits in the other order."""
    return np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()


CASES = {}


def case(name, content, expected):
    assert name not in CASES
    CASES[name] = (content, np.asarray(expected))


g8, g16, rgb8, rgb16 = grid(256), grid(65536), grid(256, channels=3), grid(65536, channels=3)
u16 = g16.astype(np.uint16)
signed = (g16 - 32768).astype(np.int16)
reals = (grid(1000) / 999 * 8 - 3).astype(np.float32)

for bits in range(1, 33):  # WhiteIsZero and BlackIsZero at every width
    most = 2**bits - 1
    numbers = grid(min(2**bits, 1 << 20)).astype(np.uint64) * (most // (min(2**bits, 1 << 20) - 1))
    shown = (0, most) if bits < 16 else (0, 65535)
    black = shade(numbers, *shown)
    data = numbers.astype(f"<u{bits // 8}").tobytes() if bits in (8, 16, 32) else packed(numbers.tolist(), bits)
    for photometric, expected in ((1, black), (0, 255 - black)):
        case(f"{bits} bits, photometric {photometric}", raw_tiff(basic(W, H, [bits], photometric), data), expected)
    if bits in (1, 2, 4, 8, 16):
        case(f"{bits} bits, fill order 2", raw_tiff(basic(W, H, [bits], 1, fill_order=[2]), mirrored(data)), black)
    if bits in (1, 4, 12, 16):
        big = numbers.astype(f">u{bits // 8}").tobytes() if bits == 16 else data
        case(f"{bits} bits, big endian, white is zero", raw_tiff(basic(W, H, [bits], 0), big, ">"), 255 - black)

for dtype, values in (("int8", (g8 - 128)), ("int16", signed), ("int32", g16 * 40 - 70_000), ("uint32", g16 * 3)):
    values = values.astype(dtype)
    black = shade(values, 0, 255 if dtype == "int8" else 65535)
    case(dtype, tiff(values), black)
    case(f"{dtype}, white is zero", tiff(values, photometric="miniswhite"), 255 - black)
    case(
        f"{dtype}, big endian, deflate, predictor",
        tiff(values, byteorder=">", compression="zlib", predictor=True),
        black,
    )
case("int64", tiff(g16.astype(np.int64) * 2 - 30_000), shade(g16 * 2 - 30_000, 0, 65535))

for dtype in ("float16", "float32", "float64"):
    values = reals.astype(dtype)
    black = shade(values, values.min(), values.max())
    case(dtype, tiff(values), black)
    case(f"{dtype}, white is zero", tiff(values, photometric="miniswhite"), 255 - black)
    case(f"{dtype}, predictor 3, tiled", tiff(values, compression="zlib", predictor=3, tile=(16, 16)), black)
holes = np.where(g8 % 9 == 0, np.nan, reals)
white = np.where(np.isnan(holes), 0, 255 - shade(holes, np.nanmin(holes), np.nanmax(holes)))
case("float with NaN", tiff(holes), np.where(np.isnan(holes), 0, shade(holes, np.nanmin(holes), np.nanmax(holes))))
case("float with NaN, white is zero", tiff(holes, photometric="miniswhite"), white)
colour_reals = np.stack([reals, reals * 2, reals - 1], axis=-1)
case("float RGB", tiff(colour_reals, photometric="rgb"), shade(colour_reals, colour_reals.min(), colour_reals.max()))

LAYOUTS = {
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 32)},
    "big, tiles": {"bigtiff": True, "tile": (32, 16)},
    "big endian": {"byteorder": ">"},
}
for name, layout in LAYOUTS.items():
    for codec in (None, "lzw", "zlib", "zstd"):
        how = {"compression": codec, "predictor": codec is not None, **layout}
        for planar in ("contig", "separate"):
            for array in (rgb8.astype(np.uint8), rgb16.astype(np.uint16)):
                stored = array if planar == "contig" else np.ascontiguousarray(array.transpose(2, 0, 1))
                expected = shade(array, 0, np.iinfo(array.dtype).max)
                content = tiff(stored, photometric="rgb", planarconfig=planar, **how)
                case(f"{array.dtype} RGB, {planar}, {name}, {codec}", content, expected)
for codec in ("packbits", "lzma", "webp", "jpeg2000", "png"):
    how = {"compressionargs": {"level": 0}} if codec == "jpeg2000" else {}
    how |= {"compressionargs": {"lossless": True}} if codec == "webp" else {}
    case(f"RGB in {codec}", tiff(rgb8.astype(np.uint8), photometric="rgb", compression=codec, **how), rgb8)
case("16-bit grey in jpeg2000", tiff(u16, compression="jpeg2000", compressionargs={"level": 0}), shade(u16, 0, 65535))
case("RGB of 5, 6 and 5 bits", raw_tiff(basic(W, H, [5, 6, 5], 2), grid(65536).astype("<u2").tobytes()), None)

share = grid(256).astype(np.uint8)
share[:, :9], share[:, 9:20] = 0, 255
for bits, dtype in ((8, np.uint8), (16, np.uint16)):
    most = 2**bits - 1
    colour = grid(most + 1, channels=3).astype(dtype)
    alpha = (share.astype(np.uint32) * (most // 255)).astype(dtype)
    four = np.dstack([colour, alpha])
    expected = over_white(shade(colour, 0, most), alpha / most)
    case(f"{bits}-bit RGBA, unassociated", tiff(four, photometric="rgb", extrasamples=["unassalpha"]), expected)
    premultiplied = np.dstack([np.rint(colour * (alpha[..., None] / most)).astype(dtype), alpha])
    case(f"{bits}-bit RGBA, associated", tiff(premultiplied, photometric="rgb", extrasamples=["assocalpha"]), expected)
    case(
        f"{bits}-bit RGB and a band",
        tiff(four, photometric="rgb", extrasamples=["unspecified"]),
        shade(colour, 0, most),
    )
    planes = np.ascontiguousarray(four.transpose(2, 0, 1))
    separate = tiff(planes, photometric="rgb", planarconfig="separate", extrasamples=["unassalpha"])
    case(f"{bits}-bit RGBA, separate", separate, expected)
    two = np.dstack([colour[..., 0], alpha])
    grey = over_white(shade(colour[..., :1], 0, most), alpha / most)[..., 0]
    case(f"{bits}-bit grey with alpha", tiff(two, extrasamples=["unassalpha"], planarconfig="contig"), grey)
    untold = raw_tiff(basic(W, H, [bits] * 4, 2), four.tobytes())
    case(f"{bits}-bit RGB and a fourth that nothing is said of", untold, expected)

ramp = np.zeros((3, 256), np.uint16)
ramp[0], ramp[1] = np.arange(256) * 257, np.arange(256)[::-1] * 257
case("palette", tiff(g8.astype(np.uint8), photometric="palette", colormap=ramp), (ramp >> 8).T[g8])
case("palette of bytes", tiff(g8.astype(np.uint8), photometric="palette", colormap=ramp >> 8), (ramp >> 8).T[g8])
small = (np.arange(48).reshape(3, 16) * 1365).astype(np.uint16)
four_bits = raw_tiff(basic(W, H, [4], 3, palette=small.reshape(-1).tolist()), packed(grid(16).tolist(), 4))
case("palette of 16 colours", four_bits, (small >> 8).T[grid(16)])
large = np.stack([np.arange(65536), np.arange(65536)[::-1], np.arange(65536) // 2]).astype(np.uint16)
case("palette of 65536 colours", tiff(u16, photometric="palette", colormap=large), (large >> 8).T[u16])
inks = grid(256, channels=4).astype(np.uint8)
as_rgb = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
case("CMYK", tiff(inks, photometric="separated"), as_rgb)
separate_inks = np.ascontiguousarray(inks.transpose(2, 0, 1))
case("CMYK, separate", tiff(separate_inks, photometric="separated", planarconfig="separate"), as_rgb)
case("16-bit CMYK", tiff(inks.astype(np.uint16) * 257, photometric="separated"), as_rgb)

for orientation in range(1, 9):
    stored = u16[:30, :20]
    turned = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.T, 6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].T, 8: np.rot90(stored),
    }[orientation]  # fmt: skip
    case(f"orientation {orientation}", tiff(stored, extratags=[(274, 3, 1, orientation)]), shade(turned, 0, 65535))

for channels in (2, 3, 4):
    values = grid(65536, channels=channels).astype(np.uint16)
    colours = channels - (channels in (2, 4))
    expected = shade(values[..., :colours], 0, 65535)
    if colours < channels:
        expected = over_white(expected, values[..., -1] / 65535)
    case(f"16-bit PNG of {channels} channels", imagecodecs.png_encode(values), np.squeeze(expected))
for bits, values in ((16, u16), (12, (g16 >> 4).astype(np.uint16)), (16, rgb16.astype(np.uint16))):
    content = imagecodecs.jpeg2k_encode(values, level=0, codecformat="jp2", reversible=True, bitspersample=bits)
    case(f"JPEG 2000, {bits} bits, {values.ndim} axes", content, shade(values, 0, 2**bits - 1))
case("JPEG 2000", imagecodecs.jpeg2k_encode(rgb8.astype(np.uint8), level=0, codecformat="j2k", reversible=True), rgb8)

five_six_five = grid(65536)
CASES["RGB of 5, 6 and 5 bits"] = (
    CASES["RGB of 5, 6 and 5 bits"][0],
    np.stack(
        [shade(five_six_five >> 11, 0, 31), shade((five_six_five >> 5) & 63, 0, 63), shade(five_six_five & 31, 0, 31)],
        axis=-1,
    ),
)


def allowed(name):
    """Premultiplied colours were rounded when they were made; where something is computed, one may be rounded away."""
    if "associated" in name and "unassociated" not in name:
        return 2
    return int(any(word in name for word in ("RGBA", "alpha", "nothing is said", "PNG of 2", "PNG of 4", "5, 6 and 5")))


@pytest.mark.parametrize("name", CASES)
def test_values(tmp_path, name):
    content, expected = CASES[name]
    path = tmp_path / "odd"
    path.write_bytes(content)
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    pixels = decode(path)
    assert pixels.shape == expected.shape
    off = np.abs(pixels.astype(int) - expected)
    assert off.max() <= allowed(name), f"{off.max()} off, {(off > allowed(name)).mean():.1%} of the values"
    assert header_pixels(path) == expected.shape[0] * expected.shape[1]
