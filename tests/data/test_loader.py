"""Samples depend on (seed, epoch, index) alone; bad files are replaced the same way everywhere."""

import os
import signal
import time

import pytest
import torch

from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.batch import Batch
from convnextv2.data.loading.cache import PixelCache
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.loader import make_loader
from convnextv2.data.loading.order import GlobalBatches
from convnextv2.data.transforms.geometry import RandomResizedCropFlip
from convnextv2.errors import RunFailedError, UserError

CROP = RandomResizedCropFlip(16)


def transform(image):
    return {"image": CROP(image), "noise": torch.rand(2)}


def batches_of(images, *, workers=0, start=0, stop=9, cache=None, seed=5, **split):
    dataset = ImageSet(images, transform, seed=seed, cache=cache)
    batches = GlobalBatches(len(images), 4, seed=seed, start_step=start, stop_step=stop, **split)
    return list(make_loader(dataset, batches, workers=workers))


def assert_same(left: list[Batch], right: list[Batch]):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.bad == b.bad
        assert torch.equal(a.indices, b.indices)
        assert a.tensors.keys() == b.tensors.keys()
        for name, tensor in a.tensors.items():
            assert torch.equal(tensor, b.tensors[name])


def test_batches_are_stacked(make_folder):
    first = batches_of(make_folder(13))[0]
    assert first.tensors["image"].shape == (4, 3, 16, 16)
    assert first.tensors["image"].dtype == torch.uint8
    assert first.tensors["noise"].shape == (4, 2)
    assert first.indices.dtype == torch.int64
    assert first.indices.shape == (4,)
    assert first.bad == ()


def test_workers_cache_and_resume_change_nothing(make_folder):
    images = make_folder(13, broken=(2, 3, 12))
    full = batches_of(images)
    assert_same(full, batches_of(images, workers=1))
    assert_same(full, batches_of(images, workers=2))
    assert_same(full[5:], batches_of(images, start=5, workers=2))
    for room in (10**6, 40_000):  # for all, and for five
        cache = PixelCache(images, room)
        assert_same(full[3:6], batches_of(images, start=3, stop=6, cache=cache))
        assert_same(full, batches_of(images, cache=cache, workers=2))
        assert_same(full, batches_of(images, cache=cache))
        kept = sum(cache.get(index) is not None for index in range(13))
        assert kept == (10 if room == 10**6 else 5)


def test_two_processes_see_the_batches_of_one(make_folder):
    images = make_folder(13, broken=(4,))
    whole = batches_of(images)
    ranks = [batches_of(images, rank=rank, world_size=2, accumulate=2) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        parts = [ranks[rank][2 * step + j] for j in range(2) for rank in range(2)]
        assert torch.equal(torch.cat([part.indices for part in parts]), batch.indices)
        assert torch.equal(torch.cat([part.tensors["image"] for part in parts]), batch.tensors["image"])
        assert tuple(pair for part in parts for pair in part.bad) == batch.bad


def test_epoch_index_and_seed_each_change_the_sample(make_folder):
    images = make_folder(2)
    noises = [
        tuple(ImageSet(images, transform, seed=seed)[epoch, index].tensors["noise"].tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(noises)) == 8


def test_the_callers_generator_is_left_alone(make_folder):
    images = make_folder(8)
    torch.manual_seed(11)
    expected = torch.rand(3)
    for workers in (0, 2):
        torch.manual_seed(11)
        batches_of(images, workers=workers, stop=2)
        assert torch.equal(torch.rand(3), expected)


def test_the_next_readable_picture_stands_in(make_folder):
    dataset = ImageSet(make_folder(6, broken=(0, 2, 3, 5)), transform)
    used = {index: dataset[0, index] for index in range(6)}
    assert [used[i].index for i in range(6)] == [1, 1, 4, 4, 4, 1]
    assert [[index for index, _ in used[i].bad] for i in range(6)] == [[0], [], [2, 3], [3], [], [5, 0]]
    assert all("truncated" in reason for sample in used.values() for _, reason in sample.bad)
    assert not torch.equal(used[0].tensors["noise"], used[1].tensors["noise"]), "another crop of the stand-in"
    again = dataset[0, 5]
    assert again.bad == used[5].bad
    assert torch.equal(again.tensors["image"], used[5].tensors["image"])


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_readable_fails_in_one_line(make_folder, workers):
    images = make_folder(4, broken=(0, 1, 2, 3))
    with pytest.raises(RunFailedError, match="none of the 4 files") as caught:
        batches_of(images, workers=workers)
    assert "\n" not in str(caught.value)


def test_grey(make_folder):
    dataset = ImageSet(make_folder(2), transform, reading=Reading(channels=1))
    assert dataset[0, 0].tensors["image"].shape == (1, 16, 16)
    with pytest.raises(UserError):
        Reading(channels=4)


def test_a_cache_of_something_else_is_refused(make_folder):
    images = make_folder(2)
    cache = PixelCache(images, 10**6, Reading(channels=1))
    with pytest.raises(ValueError, match="other images, or they are read otherwise"):
        ImageSet(images, transform, cache=cache)
    ImageSet(images, transform, reading=Reading(channels=1), cache=cache)
    for other in (Reading(1, min_side=20), Reading(1, max_pixels=10), Reading(1, value_range=(0, 1))):
        with pytest.raises(ValueError, match="other images, or they are read otherwise"):
            ImageSet(images, transform, reading=other, cache=cache)


def test_what_a_transform_may_not_return_is_named(make_folder):
    dataset = ImageSet(make_folder(1), lambda image: {"image": image, "label": 3})
    with pytest.raises(TypeError, match="'label' is a int"):
        dataset[0, 0]


def process_ids(image):
    return {"pid": torch.tensor([os.getpid(), torch.get_num_threads()])}


def test_workers_outlive_signals_to_the_group_and_end_with_the_iterator(make_folder):
    images = make_folder(8)
    dataset = ImageSet(images, process_ids)
    stream = make_loader(dataset, GlobalBatches(8, 4, seed=0, start_step=0, stop_step=400), workers=2)
    pids = {next(stream).tensors["pid"][0, 0].item() for _ in range(4)}
    assert len(pids) == 2
    assert os.getpid() not in pids
    for number in (signal.SIGINT, signal.SIGTERM):
        for pid in pids:
            # Sent by a stranger, as a scheduler would; a signal from the parent means "end".
            assert os.spawnlp(os.P_WAIT, "sh", "sh", "-c", f"kill -{int(number)} {pid}") == 0
    seen = [next(stream) for _ in range(100)]
    assert {batch.tensors["pid"][0, 0].item() for batch in seen} == pids
    assert all((batch.tensors["pid"][:, 1] == 1).all() for batch in seen)
    started = time.monotonic()
    del stream
    assert time.monotonic() - started < 4
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}")


def test_a_worker_ends_when_its_parent_says_so(make_folder):
    dataset = ImageSet(make_folder(8), process_ids)
    pid = os.fork()
    if pid == 0:  # in a process of its own: a loader whose worker dies takes its parent down
        code = 1
        try:
            stream = make_loader(dataset, GlobalBatches(8, 4, seed=0, start_step=0, stop_step=400), workers=1)
            worker = int(next(stream).tensors["pid"][0, 0])
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.kill(worker, signal.SIGTERM)
            code = 0 if os.waitpid(worker, 0)[1] == 0 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
