"""What a call takes for images: paths, arrays, tensors, PIL images and datasets, read as files of the same values."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset

from convnextv2.data.files.decode import decode, to_pixels
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.given import images_of
from convnextv2.data.files.look import look
from convnextv2.data.loading.cache import PixelCache, expected_bytes
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.read_each import read_each
from convnextv2.errors import BadImageError, RunFailedError, UserError
from convnextv2.runs.images import fingerprint, sample

RGB = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)
GREY = RGB[..., 0]


class Pairs(Dataset):
    """(image, label), some of which cannot be made."""

    def __init__(self, images, bad=()):
        self.images, self.bad = images, bad

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if index in self.bad:
            raise FileNotFoundError(2, "No such file or directory", "x.png")
        return self.images[index], index % 2


def pixels(images, index=0, channels=3, value_range=None):
    with images.open(index) as opened:
        return to_pixels(opened.read(), channels, value_range)


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (RGB, 6),
        (list(RGB), 6),
        (tuple(RGB), 6),
        (RGB[0], 1),
        (torch.from_numpy(RGB).permute(0, 3, 1, 2), 6),
        (list(torch.from_numpy(RGB).permute(0, 3, 1, 2)), 6),
        (torch.from_numpy(RGB[0]).permute(2, 0, 1), 1),
        ([Image.fromarray(each) for each in RGB], 6),
        (Image.fromarray(RGB[0]), 1),
        ((Image.fromarray(each) for each in RGB), 6),
        (Pairs(RGB), 6),
        (Subset(Pairs(RGB[::-1]), [5, 4]), 2),
        ([{"image": each, "label": 1} for each in RGB], 6),
        ([{"img": Image.fromarray(each)} for each in RGB], 6),
        (RGB.astype(np.int64), 6),
        (RGB.astype(np.int16), 6),
        (RGB.astype(np.float32) / 255, 6),
        (RGB / 255, 6),
        (torch.from_numpy(RGB).permute(0, 3, 1, 2).float() / 255, 6),
        (torch.from_numpy(RGB).permute(0, 3, 1, 2).double().requires_grad_() / 255, 6),
        (RGB.astype(np.uint16) * 257, 6),
        (RGB[:, ::-1, ::-1].copy()[:, ::-1, ::-1], 6),
        (np.concatenate([RGB, np.full_like(RGB[..., :1], 255)], 3), 6),
    ],
    ids=lambda value: "",
)
def test_the_pixels_are_those_given(given, count):
    images = images_of(given)
    assert len(images) == count
    assert list(images.names) == [str(number) for number in range(count)]
    assert np.array_equal(pixels(images), RGB[0])
    if count == 6:
        assert np.array_equal(pixels(images.subset([3, 5]), 1), RGB[5])


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (GREY, 6),
        (GREY[..., None], 6),
        (GREY[0], 1),
        (torch.from_numpy(GREY), 6),
        (torch.from_numpy(GREY)[:, None], 6),
        (torch.from_numpy(GREY[0]), 1),
        ([Image.fromarray(GREY[0])], 1),
        (GREY.astype(np.float64) / 255, 6),
    ],
    ids=lambda value: "",
)
def test_grey(given, count):
    images = images_of(given)
    assert len(images) == count
    assert np.array_equal(pixels(images, channels=1)[..., 0], GREY[0])
    assert np.array_equal(pixels(images), np.repeat(GREY[0][..., None], 3, 2))


def test_bool_alpha_and_bfloat16():
    assert np.array_equal(pixels(images_of(GREY > 127), channels=1)[..., 0], np.where(GREY[0] > 127, 255, 0))
    half = np.concatenate([RGB, np.full_like(RGB[..., :1], 51)], 3)
    assert np.abs(pixels(images_of(half)).astype(int) - np.rint(RGB[0] * 0.2 + 255 * 0.8)).max() <= 1
    assert np.abs(pixels(images_of(half / 255)).astype(int) - np.rint(RGB[0] * 0.2 + 255 * 0.8)).max() <= 1
    whole = torch.arange(0, 256, 2.0).view(1, 1, 8, 16) / 256
    assert np.array_equal(pixels(images_of(whole.bfloat16()), channels=1), pixels(images_of(whole), channels=1))


def test_an_image_of_pillows_is_read_as_its_file(tmp_path):
    image = Image.fromarray(RGB[0])
    image.getexif()[274] = 6
    image.save(tmp_path / "turned.jpg", exif=image.getexif())
    Image.fromarray(GREY[0].astype(np.uint16) * 200).save(tmp_path / "wide.png")
    Image.fromarray(RGB[0]).quantize(16).save(tmp_path / "palette.gif")
    for name in ("turned.jpg", "wide.png", "palette.gif"):
        with Image.open(tmp_path / name) as opened:
            assert np.array_equal(pixels(images_of([opened])), decode(tmp_path / name)), name
    assert pixels(images_of([image])).shape == (30, 20, 3)


def test_values_outside_of_what_a_type_means_are_an_error_unless_a_range_is_given():
    normalised = RGB.astype(np.float32) / 127.5 - 1
    images = images_of(normalised)
    with pytest.raises(BadImageError, match=r"^image 0: values from -1 to 1, where float32 is read from 0 to 1: give "):
        pixels(images)
    assert np.abs(pixels(images, value_range=(-1, 1)).astype(int) - RGB[0]).max() <= 1
    with pytest.raises(BadImageError, match=r"int32 is read from 0 to 255: give value_range='LOW:HIGH'$"):
        pixels(images_of(RGB.astype(np.int32) * 10))
    found = look(images)
    assert found.lost == "values lie outside: give --value-range -1:1"
    assert look(images_of(RGB / 255)).lost == ""
    assert look(images_of(RGB)).said == ""
    nan = normalised.copy()
    nan[0, 0, 0] = np.nan
    assert np.array_equal(pixels(images_of(nan), value_range=(-1, 1))[0, 0], [0, 0, 0])


def test_the_range_of_16_bits_is_looked_at_as_in_files():
    found = look(images_of((RGB.astype(np.uint16) * 16)[..., 0]))
    assert "6 of 6 images looked at are arrays of uint16" in found.said
    assert "give --value-range 0:4095" in found.lost


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "int holds no images: give paths of images or folders, arrays"),
        (None, "NoneType holds no images"),
        (b"x", "bytes holds no images"),
        ({"a": RGB[0]}, "dict holds no images"),
        ([], "no images given: give paths"),
        (RGB[:0], "no images given"),
        ([[1, 2], [3, 4]], "these are no images: the first is int, which is no image"),
        ([{"x": 1, "y": 2}], "these are no images: the first is a mapping with 'x', 'y': give its image as 'image'"),
        (
            np.zeros((2, 8, 8, 0)),
            r"these are no images: the first is an array or tensor of shape \(8, 8, 0\): an array is \(H, W\)",
        ),
        (
            torch.zeros(2, 5, 0, 8),
            r"these are no images: the first is an array or tensor of shape \(5, 0, 8\): an array is",
        ),
        (np.zeros(4), r"an array of shape \(4,\) holds no images: give \(N, H, W, C\)"),
        (torch.zeros(1, 1, 1, 4, 4), r"a tensor of shape \(1, 1, 1, 4, 4\) holds no images: give \(N, C, H, W\)"),
        (np.zeros((2, 4, 4), complex), "these are no images: the first is an array of complex128, not of numbers"),
        (["nowhere.png"], "there is nothing at nowhere.png"),
        ("nowhere", "there is nothing at nowhere"),
    ],
    ids=lambda value: "",
)
def test_what_holds_no_images_is_one_line(given, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        images_of(given)
    assert "\n" not in str(error.value)


def test_a_dataset_without_a_length_is_refused():
    class Endless(IterableDataset):
        def __iter__(self):
            yield from RGB

    assert len(images_of(Endless())) == 6  # it ends, so that it can be held

    class Numbered:
        def __getitem__(self, index):
            return RGB[index]

    assert len(images_of(Numbered())) == 6  # Python's old protocol ends with IndexError


def test_paths_and_images_do_not_mix(tmp_path):
    Image.fromarray(RGB[0]).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"^paths and a ndarray are mixed"):
        images_of([tmp_path / "a.png", RGB[0]])


def test_several_paths(picture_folder, tmp_path):
    Image.fromarray(RGB[0]).save(tmp_path / "a.png")
    found = images_of([tmp_path / "a.png", str(picture_folder / "cats"), np.str_(picture_folder / "dogs")])
    assert len(found) == 41
    assert found.names[0] == str(tmp_path / "a.png")
    assert np.array_equal(pixels(found), RGB[0])
    assert list(images_of(np.array([str(tmp_path / "a.png")])).names) == [str(tmp_path / "a.png")]
    assert list(images_of(picture_folder).names) == [str(picture_folder / n) for n in list_images(picture_folder).names]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_entry_is_a_bad_image(workers):
    images = images_of(Pairs(RGB, bad=(1, 4)))

    def fit(image):
        return {"images": image}

    (found,) = read_each(images, fit, range(6), batch_size=6, workers=workers)
    assert [index for index, _ in found.bad] == [1, 4]
    assert found.bad[0][1] == "no such file or directory"
    assert torch.equal(found.tensors["images"][1], torch.from_numpy(RGB[2]).permute(2, 0, 1))
    with pytest.raises(RunFailedError, match=r"^none of the 1 files in memory can be read: no such file"):
        ImageSet(images.subset([4]), fit)[0, 0]


def test_the_cache_holds_them_and_is_told_their_size():
    images = images_of(Pairs(RGB))
    assert expected_bytes(images) == 6 * (16 + 1800)
    cache = PixelCache(images, 10**5)
    held = ImageSet(images, lambda image: {"images": image}, cache=cache)
    first = held[0, 2].tensors["images"].clone()
    assert cache.get(2) is not None
    assert torch.equal(held[0, 2].tensors["images"], first)


def test_the_size_is_limited():
    with pytest.raises(BadImageError, match="30 x 20 = 600 pixels, more than 500"), images_of(RGB).open(0, 500):
        pass


def test_what_a_resumed_run_compares():
    images, others = images_of(RGB), RGB.copy()
    assert fingerprint((images, None)) == fingerprint((images_of(list(RGB)), None))
    others[3, 0, 0, 0] ^= 1
    assert fingerprint((images_of(others), None)) != fingerprint((images, None))
    assert sample(images).keys() == {"0", "1", "2", "3", "4", "5"}
    assert sample(images_of(Pairs(RGB, bad=(2,))))["2"] == "no such file or directory"
    assert sample(images)["3"].startswith("30 x 20 pixels, ")
