"""Photographs as they come, where the data sets lie beside the project."""

from pathlib import Path

import pytest
import torch

from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import list_images
from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.loader import make_loader
from convnextv2.data.loading.order import GlobalBatches
from convnextv2.data.transforms.geometry import CenterFit

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data sets in {DATA}")


def folders():
    """The sets of RGB and grey images; one of more bands is named for them."""
    if not DATA.is_dir():
        return []
    return sorted(path.name for path in DATA.iterdir() if path.is_dir() and "band" not in path.name)


@pytest.mark.parametrize("name", folders())
def test_a_spread_of_each_set_decodes_and_loads(name):
    images = list_images(DATA / name)
    assert not any(extension in (".jpg", ".png", ".jpeg") for extension in images.ignored)
    for index in range(0, len(images), max(1, len(images) // 25)):
        pixels = decode(images.path(index))
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) > 0
        assert decode(images.path(index), channels=1).shape == (*pixels.shape[:2], 1)
    fit = CenterFit(64)
    dataset = ImageSet(images, lambda image: {"image": fit(image)}, reading=Reading(min_side=74))
    batches = GlobalBatches(len(images), 16, seed=0, start_step=0, stop_step=3)
    for batch in make_loader(dataset, batches, workers=2):
        assert batch.tensors["image"].shape == (16, 3, 64, 64)
        assert batch.bad == ()
        assert batch.tensors["image"].to(torch.float32).std() > 1
