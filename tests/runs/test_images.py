"""The images of a run: their fingerprint, and memory for them that the processes of one machine share."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from convnextv2.data.files.folder import list_images
from convnextv2.data.files.raster import Raster
from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.cache import expected_bytes
from convnextv2.engine import machine
from convnextv2.runs.images import fingerprint, take_images


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "é.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / name)
    return list_images(tmp_path)


class Rank:
    """One of two processes, run one after the other: it sees what rank 0 gave, and for rank 1 the same machine."""

    def __init__(self, rank, given):
        self.rank, self.given, self.asked = rank, given, 0

    def gather(self, value):
        if self.rank == 0:
            self.given.append(value)
        self.asked += 1
        return [self.given[self.asked - 1], value]


def take(images, rank, given, said, **settings):
    settings = {"cache": True, "max_bad_fraction": 0.01} | settings
    log = SimpleNamespace(say=said.append, warn=said.append)
    context = Rank(rank, given)
    return take_images(
        images,
        SimpleNamespace(**settings),
        reading=Reading(min_side=32, max_pixels=10**6),
        resuming=False,
        context=context,
        log=log,
    )[1]


def test_the_fingerprint_is_that_of_earlier_versions(images):
    labels = torch.tensor([1, 0, 2])
    digest = hashlib.sha256("a.png\nb.png\né.png".encode() + labels.numpy().tobytes()).hexdigest()
    assert fingerprint((images, labels)) == digest
    names = hashlib.sha256("a.png\nb.png\né.png".encode()).hexdigest()
    assert fingerprint((images, None)) == names
    assert fingerprint((images.subset([0]), None), (images.subset([]), None)) == hashlib.sha256(b"a.png").hexdigest()


def test_two_processes_of_a_machine_share_their_cache(images):
    given, said = [], []
    first, second = (take(images, rank, given, said) for rank in (0, 1))
    pixels = np.full((20, 30, 3), 9, np.uint8)
    first.put(2, Raster(pixels))
    assert second.get(2).unique().tolist() == [9]
    second.put(0, Raster(pixels))
    assert first.get(0) is not None
    assert len(said) == 1
    assert said[0].startswith("images are kept in memory once they are decoded: about 1 MiB on this machine, of ")


def test_two_machines_do_not(images, monkeypatch):
    given, said = [], []
    monkeypatch.setattr(machine, "identity", lambda: "one")
    first = take(images, 0, given, said)
    monkeypatch.setattr(machine, "identity", lambda: "another")
    second = take(images, 1, given, said)
    first.put(2, Raster(np.zeros((20, 30, 3), np.uint8)))
    assert second.get(2) is None
    assert len(said) == 2


def test_the_limit_is_a_quarter_of_what_is_free_and_divided_by_processes_that_cannot_share(images, monkeypatch):
    need = expected_bytes(images)
    assert need == 3 * (16 + 1800)
    for free, fits in ((4 * need, True), (4 * need - 1, False)):
        monkeypatch.setattr(machine, "free_bytes", lambda device, free=free: free)
        cache = take(images, 0, [], [])
        assert (cache is not None) == fits
        if fits:
            assert cache.room == need
    monkeypatch.setattr(machine, "free_bytes", lambda device: 7 * need)
    given = []
    own = take(images, 0, given, [])
    assert own.room == need + need // 4
    del own  # as of a process that cannot be seen from here
    assert take(images, 1, given, []) is None
    monkeypatch.setattr(machine, "free_bytes", lambda device: 8 * need)
    assert take(images, 1, given, []).room == need


def test_no_cache(images):
    assert take(images, 0, [], [], cache=False) is None
