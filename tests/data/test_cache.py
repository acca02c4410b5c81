"""The cache gives the bits that decoding gives, from the first use on, to every process of the machine."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.data.files.raster import Raster
from convnextv2.data.files.reading import RGB, Reading
from convnextv2.data.loading import cache as module
from convnextv2.data.loading.cache import PixelCache, expected_bytes
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.shared_memory import Address, SharedMemory
from convnextv2.errors import BadImageError, UserError


@pytest.fixture
def mixed(tmp_path, photo):
    """Formats, a turned picture, a large JPEG, and three kinds of bad files."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(photo).resize((401, 243)).save(tmp_path / "b.jpg", exif=exif)
    Image.fromarray(photo[..., 0]).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "e.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "f.jpg").write_bytes(b"no picture")
    Image.fromarray(photo).save(tmp_path / "g.tif", exif=exif)
    return list_images(tmp_path)


def nothing(image):
    return {}


def read_all(images, cache, reading=RGB):
    """What an image set reads: pixels, or the reason why there are none."""
    dataset = ImageSet(images, nothing, cache=cache, reading=reading)
    found = []
    for index in range(len(images)):
        try:
            found.append(dataset.read(index))
        except BadImageError as error:
            found.append((error.path, error.reason))
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("min_side", [None, 50])
def test_same_bits_and_reasons(mixed, channels, min_side):
    reading = Reading(channels, min_side=min_side)
    cache = PixelCache(mixed, 10**6, reading)
    plain = read_all(mixed, None, reading)
    assert sum(isinstance(one, tuple) for one in plain) == 3
    for _ in range(2):
        for index, (one, other) in enumerate(zip(plain, read_all(mixed, cache, reading), strict=True)):
            if isinstance(one, tuple):
                assert one == other
                assert cache.get(index) is None
            else:
                assert torch.equal(one, other)
                kept = cache.get(index)
                assert kept.dtype == torch.uint8
                assert torch.equal(kept, one)


def test_a_kept_image_is_not_read_again(make_folder):
    images = make_folder(2)
    cache = PixelCache(images, 10**6)
    before = read_all(images, cache)
    os.remove(images.path(0))
    after = read_all(images, cache)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_no_more_is_kept_than_there_is_room_for(make_folder):
    images = make_folder(5)
    sizes = [decode(images.path(index)).size for index in range(5)]
    need = sum(16 + size + -size % 8 for size in sizes)
    assert expected_bytes(images) == need
    whole = PixelCache(images, need)
    read_all(images, whole)
    assert whole.room == 0
    assert all(whole.get(index) is not None for index in range(5))
    short = PixelCache(images, need - 1)
    assert read_all(images, short)[4].shape == (3, 44, 56)
    assert [short.get(index) is None for index in range(5)] == [False, False, False, False, True]
    none = PixelCache(images, 0)
    read_all(images, none)
    assert none.get(0) is None


def test_room_is_estimated_from_a_part_of_many(make_folder, monkeypatch):
    images = make_folder(40, broken=(3,))
    exact = expected_bytes(images)  # a truncated file has its header
    assert exact == sum(16 + size + -size % 8 for size in ((40 + i % 7) * (52 + i % 5) * 3 for i in range(40)))
    opened = []
    measure = ImageList.open
    monkeypatch.setattr(ImageList, "open", lambda self, index, *a: opened.append(index) or measure(self, index, *a))
    monkeypatch.setattr(module, "_SAMPLE", 9)
    assert expected_bytes(images) == pytest.approx(exact, rel=0.05)
    assert len(set(opened)) == 9
    (images.root / "000.jpg").write_bytes(b"")
    assert 0 < expected_bytes(images) < exact


def test_pixel_limit_and_wrong_channels(make_folder):
    images = make_folder(3)
    reading = Reading(max_pixels=52 * 40)
    found = read_all(images, PixelCache(images, 10**6, reading), reading)
    assert [isinstance(one, tuple) for one in found] == [False, True, True]
    with pytest.raises(UserError):
        Reading(channels=2)


def test_putting_twice_keeps_the_first(make_folder):
    cache = PixelCache(make_folder(1), 10**6)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    cache.put(0, Raster(pixels))
    room = cache.room
    cache.put(0, Raster(pixels[::-1]))
    assert cache.room == room
    assert torch.equal(cache.get(0), torch.from_numpy(pixels).permute(2, 0, 1))


def test_forked_processes_fill_one_memory(make_folder):
    """Each of several children puts in the images of its turn, all at the same time; the parent finds every one."""
    images = make_folder(16)
    plain = read_all(images, None)
    cache = PixelCache(images, 10**6)
    dataset = ImageSet(images, nothing, cache=cache)
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            for index in range(16):
                dataset.read((index + 4 * child) % 16)
            os._exit(0)
        children.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    assert all(torch.equal(cache.get(index), plain[index]) for index in range(16))
    assert cache.room == 10**6 - expected_bytes(images), "no image is kept twice"


OTHER = """
import sys
from convnextv2.data.loading.shared_memory import Address, SharedMemory

memory = SharedMemory.join(Address(int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])))
print(len(memory.bytes), *memory.bytes[:3], flush=True)
with memory.locked():
    memory.bytes[1] = 7
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_is_no_relative_shares_the_memory_and_may_be_killed():
    memory = SharedMemory.create(1000)
    memory.bytes[:3] = [1, 2, 3]
    where = memory.address
    command = [sys.executable, "-c", OTHER, where.process, where.descriptor, where.token.hex()]
    with subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "1000 1 2 3\n"
        assert other.stdout.readline() == "locked\n"
        assert memory.bytes[:3].tolist() == [1, 7, 3]
        pid = os.fork()
        if pid == 0:
            with memory.locked():
                os._exit(0)
        time.sleep(0.1)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the lock keeps others out"
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert os.waitpid(pid, 0)[1] == 0, "and is free when its process is killed"


def test_memory_that_cannot_be_reached(make_folder):
    images = make_folder(1)
    where = PixelCache(images, 100)
    with pytest.raises(OSError, match="another one"):
        PixelCache(images, Address(os.getpid(), where.address.descriptor, bytes(16)))
    gone = where.address
    del where
    with pytest.raises(OSError, match=r"No such file|another one"):
        PixelCache(images, gone)


def test_nothing_is_left_of_the_memory(make_folder):
    """Neither a file, nor a descriptor, nor the memory."""
    images = make_folder(1)
    before = set(os.listdir("/proc/self/fd")), set(os.listdir("/dev/shm"))
    cache = PixelCache(images, 2**30)
    assert set(os.listdir("/dev/shm")) == before[1]
    with open("/proc/self/smaps_rollup") as file:
        assert int(file.read().split("Pss_Shmem:")[1].split()[0]) < 2**18, "room that is not used takes no memory"
    del cache
    assert set(os.listdir("/proc/self/fd")) == before[0]
