"""Small pictures for the tests of the data room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnextv2.data.files.folder import ImageList, list_images


def make_photo(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """A smooth coloured uint8 picture (H, W, 3), another for every seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x * rng.uniform(0.03, 0.2) + y * rng.uniform(0.03, 0.2) + rng.uniform(0, 6)) for _ in range(3)]
    return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.fixture
def photo() -> np.ndarray:
    return make_photo()


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., ImageList]:
    """Write `count` JPEGs of slightly different sizes; those in `broken` lose their last tenth."""

    def make(count: int, broken: tuple[int, ...] = ()) -> ImageList:
        for index in range(count):
            path = tmp_path / f"{index:03}.jpg"
            Image.fromarray(make_photo(40 + index % 7, 52 + index % 5, index)).save(path)
            if index in broken:
                path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
        return list_images(tmp_path)

    return make
