"""2,000 damaged files through listing, decoding and the loader: no crash, no hang, no disagreement.

The oracle is Pillow alone: a file is readable if it opens as one of the six formats, within the
pixel limit, and `load()` succeeds. On these files the two agree without exception. One difference
is known: Pillow goes on without a tag whose value lies beyond the file, even if that tag says what the
pixels are; `decode` calls such a file damaged.
"""

import io
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from damage import mutate
from PIL import Image
from sklearn.datasets import load_sample_images

from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.cache import PixelCache
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.loader import make_loader
from convnextv2.data.loading.order import GlobalBatches
from convnextv2.data.transforms.geometry import RandomResizedCropFlip
from convnextv2.errors import BadImageError

MAX_PIXELS = 1_000_000
"""Small, so that damaged headers that claim large sizes do not slow the test down."""

COUNTS = {
    "flipped bits": 600,
    "cut short": 500,
    "another's header": 200,
    "wrong extension": 200,
    "zeroed block": 150,
    "random bytes": 150,
    "untouched": 100,
    "empty": 50,
    "bomb": 50,
}

ENCODINGS = [
    ("jpg", "JPEG", {"quality": 85}),
    ("jpg", "JPEG", {"progressive": True}),
    ("jpg", "JPEG", {"exif": 6}),
    ("png", "PNG", {}),
    ("webp", "WEBP", {}),
    ("webp", "WEBP", {"lossless": True}),
    ("tif", "TIFF", {}),
    ("tif", "TIFF", {"compression": "tiff_lzw"}),
    ("tif", "TIFF", {"compression": "jpeg"}),
    ("gif", "GIF", {}),
    ("bmp", "BMP", {}),
]


def encoded_pictures() -> list[tuple[str, bytes]]:
    """(extension, bytes): two photographs at small sizes, in every format and some modes."""
    pictures = []
    for number, photo in enumerate(load_sample_images().images):
        for extension, form, options in ENCODINGS:
            for mode in ("RGB", "L"):
                options = dict(options)
                if "exif" in options:
                    exif = Image.Exif()
                    exif[0x0112] = 6
                    options["exif"] = exif
                image = Image.fromarray(photo).resize((60 + 12 * number, 48)).convert(mode)
                buffer = io.BytesIO()
                image.save(buffer, format=form, **options)
                pictures.append((extension, buffer.getvalue()))
        for mode, form, extension in (("P", "PNG", "png"), ("RGBA", "PNG", "png"), ("I;16", "TIFF", "tif"),
                                      ("CMYK", "JPEG", "jpg"), ("F", "TIFF", "tif")):  # fmt: skip
            image = Image.fromarray(photo).resize((60, 44))
            image = image.convert("L").convert(mode) if mode in ("I;16", "F") else image.convert(mode)
            buffer = io.BytesIO()
            image.save(buffer, format=form)
            pictures.append((extension, buffer.getvalue()))
    return pictures


@pytest.fixture(scope="module")
def mutated(tmp_path_factory):
    """The listed files, and the kind of damage by name."""
    root = tmp_path_factory.mktemp("mutated")
    rng = np.random.default_rng(20261123)
    pictures = encoded_pictures()
    kinds = {}
    for number, kind in enumerate(kind for kind, count in COUNTS.items() for _ in range(count)):
        extension, data = pictures[int(rng.integers(len(pictures)))]
        other = pictures[int(rng.integers(len(pictures)))]
        if kind == "wrong extension":
            extension = rng.choice([e for e, _, _ in ENCODINGS if e != extension])
        name = f"{number % 7}/{number:04}.{extension}"
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(mutate(kind, data, other[1], rng))
        kinds[name] = kind
    (root / "x.jpg").mkdir()
    (root / "x.jpg" / "notes.txt").write_text("a folder named like a picture")
    images = list_images(root)
    assert set(images.names) == set(kinds)
    assert len(images) == 2_000
    assert images.ignored == {".txt": 1}
    return images, kinds


def verdict(path, **options) -> str | None:
    try:
        pixels = decode(path, max_pixels=MAX_PIXELS, **options)
    except BadImageError as error:
        return error.reason if error.path == str(path) else f"names another file: {error.path}"
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert 0 < pixels.size <= 3 * MAX_PIXELS
    return None


@pytest.fixture(scope="module")
def verdicts(mutated):
    """Index to reason, None where the file is readable, by decoding each file alone."""
    images, _ = mutated
    return [verdict(images.path(index)) for index in range(len(images))]


def oracle(path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="Tag data larger than file")  # it would read other pixels
        try:
            with Image.open(path, formats=("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")) as image:
                if image.width * image.height > MAX_PIXELS:
                    return False
                image.load()
        except Exception:
            return False
    return True


def test_verdicts_agree_with_pillow(mutated, verdicts):
    images, kinds = mutated
    table = Counter()
    disagreements = []
    for index, reason in enumerate(verdicts):
        good = oracle(images.path(index))
        table[kinds[images.names[index]], "good" if reason is None else "bad"] += 1
        if good != (reason is None):
            disagreements.append((images.names[index], kinds[images.names[index]], reason))
    print("\n" + "\n".join(f"{kind:18} {table[kind, 'good']:4} good {table[kind, 'bad']:4} bad" for kind in COUNTS))
    assert disagreements == []
    assert all(reason.isprintable() and "another file" not in reason for reason in verdicts if reason is not None)
    assert "" not in verdicts
    for kind, readable in (("empty", 0), ("bomb", 0), ("untouched", 100), ("wrong extension", 200)):
        assert table[kind, "good"] == readable
    for kind in ("flipped bits", "cut short", "zeroed block"):
        assert table[kind, "bad"] > 20, f"too few {kind} do damage to say anything"


def test_smaller_jpegs_get_the_same_verdict(mutated, verdicts):
    """Decoding at a fraction of the size reads the same bytes, so it finds the same files bad."""
    images, _ = mutated
    small = [verdict(images.path(index), min_side=16) for index in range(len(images))]
    assert small == verdicts


def test_the_loader_finds_exactly_these_files_bad(mutated, verdicts):
    images, _ = mutated
    crop = RandomResizedCropFlip(16)
    dataset = ImageSet(images, lambda image: {"image": crop(image)}, reading=Reading(max_pixels=MAX_PIXELS))
    batches = GlobalBatches(len(images), 40, seed=0, start_step=0, stop_step=len(images) // 40)
    lines = []
    ledger = BadImages(images, 1.0, lines.append)
    used, asked = [], [index for batch in batches for _, index in batch]
    for batch in make_loader(dataset, batches, workers=2):
        assert batch.tensors["image"].shape == (40, 3, 16, 16)
        used.extend(batch.indices.tolist())
        ledger.add(batch.bad)
    expected = {index: reason for index, reason in enumerate(verdicts) if reason is not None}
    assert dict(ledger.state()) == expected
    assert len(lines) == len(expected)
    assert sorted(asked) == list(range(len(images)))
    stand_in = {}
    for index in reversed(range(2 * len(images))):
        place = index % len(images)
        stand_in[place] = place if verdicts[place] is None else stand_in.get((place + 1) % len(images))
    assert used == [stand_in[index] for index in asked]


def test_the_cache_holds_exactly_the_same(mutated, verdicts):
    images, _ = mutated
    cache = PixelCache(images, 10**9, Reading(max_pixels=MAX_PIXELS))
    dataset = ImageSet(images, lambda image: {"image": image}, reading=Reading(max_pixels=MAX_PIXELS), cache=cache)
    for _ in range(2):  # from the file, then from the cache
        for index, reason in enumerate(verdicts):
            if reason is None:
                fresh = torch.from_numpy(decode(images.path(index), max_pixels=MAX_PIXELS)).permute(2, 0, 1)
                assert torch.equal(dataset.read(index), fresh)
                assert torch.equal(cache.get(index), fresh)
            else:
                with pytest.raises(BadImageError) as caught:
                    dataset.read(index)
                assert caught.value.reason == reason
                assert cache.get(index) is None
