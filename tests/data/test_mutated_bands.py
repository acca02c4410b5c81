"""500 damaged files of bands: a reason each, no crash, the same by the loader, and no other pixels than the reader's.

The oracle is the library that reads the kind, by itself: tifffile, numpy, imagecodecs, pydicom, pi-heif. Ours is at
times stricter (a strip that ends early, a header that claims more than there is), never more lenient.
"""

import io
import warnings
from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from damage import mutate
from foreign_files import FILES, values

from convnextv2.data.files.decode import opened
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.loader import make_loader
from convnextv2.data.loading.order import GlobalBatches
from convnextv2.data.transforms.geometry import RandomResizedCropFlip
from convnextv2.errors import BadImageError
from convnextv2.records import Bands

MAX_PIXELS = 1_000_000
COUNTS = {"flipped bits": 220, "cut short": 110, "another's header": 60, "zeroed block": 70, "untouched": 40}
TIFFS = ("lzw", "planes", "zstd", "big", "double", "packbits", "int32", "cog", "12bits", "named", "nodata", "mask")
DICOMS = ("CT_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "rtdose",
          "SC_rgb_rle_16bit", "JPEG2000", "SC_rgb_jpeg_gdcm")  # fmt: skip


def of_arrays() -> list[tuple[str, bytes]]:
    found = []
    for bands, kind in ((5, "uint16"), (3, "float32"), (2, "int16")):
        for name, save in (("npy", np.save), ("npz", np.savez_compressed)):
            file = io.BytesIO()
            save(file, values(bands, kind))
            found.append((name, file.getvalue()))
    return found


def encoded() -> list[tuple[str, bytes]]:
    """(extension, bytes) of every kind that can be read here."""
    found = [("tif", (FILES / f"gdal_{name}.tif").read_bytes()) for name in TIFFS] + of_arrays()
    found += [
        (name[-3:], (FILES / name).read_bytes()) for name in ("gdal_3.jp2", "gdal_4.jp2", "gdal_3.png", "gdal_4.png")
    ]
    try:
        from pydicom.data import get_testdata_file

        found += [("dcm", Path(get_testdata_file(f"{name}.dcm", download=False)).read_bytes()) for name in DICOMS]
    except ImportError:
        pass
    try:
        import pi_heif  # noqa: F401  # pyright: ignore[reportUnusedImport]

        found += [("heic", (FILES / f"heif{name}.heic").read_bytes()) for name in ("", "_alpha", "_10bits")]
    except ImportError:
        pass
    return found


@pytest.fixture(scope="module")
def mutated(tmp_path_factory):
    """The listed files, the kind of damage by name, and the contents before it."""
    root = tmp_path_factory.mktemp("mutated")
    rng = np.random.default_rng(20261126)
    files, kinds = encoded(), {}
    for number, kind in enumerate(kind for kind, count in COUNTS.items() for _ in range(count)):
        extension, data = files[number % len(files)]
        name = f"{number:03}.{extension}"
        (root / name).write_bytes(mutate(kind, data, files[int(rng.integers(len(files)))][1], rng))
        kinds[name] = kind
    names = root / "names.txt"
    names.write_text("\n".join(kinds))
    return list_images(names), kinds


def verdict(path, channels=None):
    """The raster, or the reason why there is none."""
    try:
        with opened(path, MAX_PIXELS) as image:
            found = image.raster(channels)
    except BadImageError as error:
        return error.reason if error.path == str(path) else ""
    assert found.values.dtype.name in ("uint8", "uint16", "int16", "float32")
    assert found.values.shape[0] * found.values.shape[1] <= MAX_PIXELS
    return found


@pytest.fixture(scope="module")
def verdicts(mutated):
    images, _ = mutated
    return [verdict(images.path(index)) for index in range(len(images))]


def by_the_reader_alone(path: Path) -> np.ndarray:
    """The first page or frame as (H, W, N), by the library that reads such files. Raises what that raises."""
    data = path.read_bytes()
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            found = page.asarray(squeeze=False)
            return found[:, 0, :, :, 0].transpose(1, 2, 0) if page.planarconfig == 2 else found[0, 0]
    if path.suffix in (".npy", ".npz"):
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            return found if path.suffix == ".npy" else found[found.files[0]]
    if path.suffix == ".dcm":
        from pydicom.pixels.utils import pixel_array

        found = pixel_array(path)
        return found[0] if found.ndim == 4 or (found.ndim == 3 and found.shape[2] != 3) else found
    if path.suffix == ".heic":
        import pi_heif

        return np.asarray(pi_heif.open_heif(data, convert_hdr_to_8bit=False))
    return np.asarray((imagecodecs.jpeg2k_decode if path.suffix == ".jp2" else imagecodecs.png_decode)(data))


def test_never_more_lenient_than_the_reader(mutated, verdicts):
    images, kinds = mutated
    table, lenient = Counter(), []
    for index, found in enumerate(verdicts):
        path, good = images.path(index), not isinstance(found, str)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                by_the_reader_alone(path)
            alone = True
        except Exception:
            alone = False
        table[path.suffix, good, alone] += 1
        if good and not alone:
            lenient.append((path.name, kinds[path.name]))
    print()
    for suffix in sorted({key[0] for key in table}):
        print(
            suffix,
            {
                ("read" if g else "bad") + ("/read" if a else "/bad"): table[suffix, g, a]
                for g in (True, False)
                for a in (True, False)
            },
        )
    assert lenient == []
    assert all(found and found.isprintable() for found in verdicts if isinstance(found, str))
    for index, found in enumerate(verdicts):
        if kinds[images.names[index]] == "untouched":
            assert not isinstance(found, str), found


def test_the_loader_finds_exactly_the_same_files_bad(mutated):
    """Of the first band, which a file may have whole when another is damaged."""
    images, _ = mutated
    expected = {
        index: found for index in range(len(images)) if isinstance(found := verdict(images.path(index), [0]), str)
    }
    reading = Reading(channels=1, max_pixels=MAX_PIXELS, bands=Bands(1, (0,)))
    crop = RandomResizedCropFlip(16)
    dataset = ImageSet(images, lambda image: {"image": crop(image.float())}, reading=reading)
    batches = GlobalBatches(len(images), 25, seed=0, start_step=0, stop_step=len(images) // 25)
    ledger = BadImages(images, 1.0, lambda line: None)
    for batch in make_loader(dataset, batches, workers=2):
        assert batch.tensors["image"].shape == (25, 1, 16, 16)
        ledger.add(batch.bad)
    assert dict(ledger.state()) == expected
    assert len(expected) > 200
