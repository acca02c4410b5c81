"""Reading for inference: every image once, in order, and no stand-ins."""

import pytest
import torch

from convnextv2.data.files import decode as decoding
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.batch import PerImage
from convnextv2.data.loading.read_each import read_each
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.errors import BadImageError

FIT = CenterFit(16)


def fit(image):
    return {"images": FIT(image)}


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_once_in_order(make_folder, workers):
    images = make_folder(11, broken=(0, 4, 5))
    asked = [10, 3, 4, 0, 5, 1, 1, 7]
    batches = list(read_each(images, fit, asked, batch_size=3, workers=workers))
    assert [batch.indices.tolist() for batch in batches] == [[10, 3], [1], [1, 7]]
    assert [[index for index, _ in batch.bad] for batch in batches] == [[4], [0, 5], []]
    assert all("truncated" in reason for batch in batches for _, reason in batch.bad)
    for batch in batches:
        for index, image in zip(batch.indices.tolist(), batch.tensors["images"], strict=True):
            pixels = torch.from_numpy(decoding.decode(images.path(index))).permute(2, 0, 1)
            assert torch.equal(image, FIT(pixels))


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_readable_is_no_error(make_folder, workers):
    images = make_folder(5, broken=(0, 1, 2, 3, 4))
    batches = list(read_each(images, fit, range(5), batch_size=2, workers=workers))
    assert [len(batch.bad) for batch in batches] == [2, 2, 1]
    assert all(batch.tensors == {} and batch.lists == {} and batch.indices.shape == (0,) for batch in batches)
    assert list(read_each(images, fit, [], batch_size=2, workers=workers)) == []


def test_no_stand_in_is_decoded(make_folder, monkeypatch):
    opened = []
    real = ImageList.open
    monkeypatch.setattr(
        ImageList, "open", lambda self, index, *rest: opened.append(self.names[index]) or real(self, index, *rest)
    )
    list(read_each(make_folder(6, broken=(1, 2)), fit, [1, 2, 5], batch_size=2, workers=0))
    assert opened == ["001.jpg", "002.jpg", "005.jpg"]


@pytest.mark.parametrize("workers", [0, 1])
def test_channels_limits_and_targets(make_folder, workers):
    def target(index):
        if index == 3:
            raise BadImageError("3.png", "no such file")
        return index

    def transform(image, index):
        return {"images": FIT(image), "whole": PerImage(image), "index": torch.tensor(index)}

    options = {"batch_size": 4, "workers": workers, "reading": Reading(1, 42 * 54), "targets": target}
    batch = next(read_each(make_folder(4), transform, range(4), **options))
    assert batch.tensors["images"].shape == (3, 1, 16, 16)
    assert batch.tensors["index"].tolist() == batch.indices.tolist() == [0, 1, 2]
    assert [tuple(part.shape) for part in batch.lists["whole"]] == [(1, 40, 52), (1, 41, 53), (1, 42, 54)]
    assert batch.bad == ((3, "55 x 43 = 2365 pixels, more than 2268 (raise max_pixels to allow it)"),)


def test_the_callers_generator_is_left_alone(make_folder):
    images = make_folder(4)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    list(read_each(images, lambda image: {"x": torch.rand(1)}, range(4), batch_size=2, workers=0))
    assert torch.equal(torch.rand(2), expected)
