"""Batches of tensors of equal and of different shapes, with targets read beside the images."""

import pickle

import pytest
import torch

from convnextv2.data.loading.batch import Batch, PerImage, Sample, Unreadable, collate
from convnextv2.data.loading.cache import PixelCache
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.loading.loader import make_loader
from convnextv2.data.loading.order import GlobalBatches
from convnextv2.data.transforms.geometry import RandomResizedCropFlip
from convnextv2.data.transforms.transform import AnnotatedImage
from convnextv2.errors import BadImageError
from convnextv2.records import Ragged, TaskBatch

CROP = RandomResizedCropFlip(24)


def boxes_of(index):
    """`index` modulo 4 boxes, each over the whole image, and their labels."""
    count = index % 4
    return torch.tensor([[0.0, 0, 99, 99]]).repeat(count, 1), torch.full((count,), index)


def detection(image, target):
    boxes, labels = target
    out = CROP(AnnotatedImage(image, boxes=boxes, labels=labels))
    return {"images": out.image, "boxes": PerImage(out.boxes), "labels": PerImage(out.labels)}


def batches_of(images, *, workers=0, cache=None, targets=boxes_of):
    dataset = ImageSet(images, detection, seed=5, cache=cache, targets=targets)
    return list(make_loader(dataset, GlobalBatches(len(images), 4, seed=5, start_step=0, stop_step=6), workers=workers))


def test_boxes_per_image(make_folder):
    for batch in batches_of(make_folder(13)):
        assert batch.tensors["images"].shape == (4, 3, 24, 24)
        assert set(batch.lists) == {"boxes", "labels"}
        assert [len(boxes) for boxes in batch.lists["boxes"]] == [index % 4 for index in batch.indices.tolist()]
        for index, boxes, labels in zip(batch.indices.tolist(), *batch.lists.values(), strict=True):
            assert boxes.dtype == torch.float32
            assert labels.tolist() == [index] * (index % 4)
            assert all(box == [0, 0, 24, 24] for box in boxes.round().tolist())


def test_workers_and_cache_change_nothing(make_folder):
    images = make_folder(13, broken=(3, 7))
    first = batches_of(images)
    cache = PixelCache(images, 10**6)
    for again in (
        batches_of(images, workers=2),
        batches_of(images, cache=cache, workers=1),
        batches_of(images, cache=cache),
        batches_of(images, workers=1),
    ):
        for a, b in zip(first, again, strict=True):
            assert torch.equal(a.tensors["images"], b.tensors["images"])
            assert torch.equal(a.indices, b.indices)
            assert a.bad == b.bad
            for name in a.lists:
                assert a.lists[name].shapes == b.lists[name].shapes
                assert torch.equal(a.lists[name].values, b.lists[name].values)


def test_targets_are_those_of_the_image_used(make_folder):
    dataset = ImageSet(make_folder(6, broken=(1, 2)), lambda image, index: {"index": torch.tensor(index)}, targets=int)
    assert [dataset[0, asked].tensors["index"].item() for asked in range(6)] == [0, 3, 3, 3, 4, 5]
    assert all(dataset[0, asked].index == dataset[0, asked].tensors["index"] for asked in range(6))


def test_an_unreadable_target_is_an_unreadable_image(make_folder):
    def target(index):
        if index == 2:
            raise BadImageError("2.png", "an empty file")
        return index

    dataset = ImageSet(make_folder(5), lambda image, index: {"index": torch.tensor(index)}, targets=target)
    sample = dataset[0, 2]
    assert sample.index == 3
    assert sample.bad == ((2, "an empty file"),)


def test_reading_targets_draws_nothing_from_the_transform(make_folder):
    images = make_folder(3)
    plain = ImageSet(images, lambda image: {"image": CROP(image)}, seed=3)
    targets = ImageSet(images, lambda image, index: {"image": CROP(image)}, seed=3, targets=int)
    assert all(torch.equal(plain[1, i].tensors["image"], targets[1, i].tensors["image"]) for i in range(3))


def test_different_shapes_without_a_declaration_are_refused():
    samples = [Sample({"boxes": torch.zeros(n, 4)}, n) for n in (1, 2)]
    with pytest.raises(ValueError, match=r"'boxes' has different shapes.*PerImage"):
        collate(samples)
    with pytest.raises(ValueError, match="other names"):
        collate([Sample({"a": torch.zeros(1)}, 0), Sample({"b": torch.zeros(1)}, 1)])
    with pytest.raises(ValueError, match="other names"):
        collate([Sample.of({"a": torch.zeros(1)}, 0), Sample.of({"a": PerImage(torch.zeros(1))}, 1)])
    with pytest.raises(ValueError, match="one dtype"):
        collate([Sample.of({"a": PerImage(torch.zeros(1, dtype=dtype))}, 0) for dtype in (torch.int64, torch.float32)])


def test_images_without_a_sample():
    batch = collate([Unreadable(4, "empty"), Sample({"a": torch.ones(2)}, 7, ((6, "cut"),)), Unreadable(9, "gone")])
    assert batch.indices.tolist() == [7]
    assert batch.bad == ((4, "empty"), (6, "cut"), (9, "gone"))
    none = collate([Unreadable(4, "empty")])
    assert (none.tensors, none.lists, none.indices.shape, none.indices.dtype) == ({}, {}, (0,), torch.int64)


def test_a_ragged_list_is_a_sequence_in_one_piece():
    parts = [torch.rand(2, 4), torch.rand(0, 4), torch.rand(3, 1, 5), torch.tensor(2.0)]
    ragged = Ragged.of(parts)
    assert len(ragged) == 4
    assert all(torch.equal(a, b) for a, b in zip(ragged, parts, strict=True))
    assert torch.equal(ragged[-1], parts[-1])
    assert len(ragged[1:3]) == 2
    with pytest.raises(IndexError):
        ragged[4]
    assert all(
        part.data_ptr() in range(ragged.values.data_ptr(), ragged.values.data_ptr() + 999) for part in ragged[:1]
    )
    again = pickle.loads(pickle.dumps(Ragged.of(parts)))
    assert all(torch.equal(a, b) for a, b in zip(again, parts, strict=True))


def test_both_kinds_move_to_a_device():
    batch = Batch({"a": torch.ones(2)}, torch.arange(2), (), {"b": Ragged.of([torch.ones(1), torch.ones(2)])})
    moved = batch.to("meta")
    assert moved.tensors["a"].device.type == moved.lists["b"].values.device.type == "meta"
    assert [tuple(part.shape) for part in moved.lists["b"]] == [(1,), (2,)]
    assert moved.indices.device.type == "cpu"
    task = TaskBatch(batch.tensors, ["x", "y"], {"ragged": batch.lists["b"], "plain": [torch.ones(1), torch.ones(2)]})
    moved = task.to(torch.device("meta"))
    assert moved.names == ["x", "y"]
    assert moved.tensors["a"].device.type == "meta"
    assert all(part.device.type == "meta" for parts in moved.lists.values() for part in parts)
    assert TaskBatch({}, []).lists == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_and_moved(make_folder, workers):
    images = make_folder(9)
    dataset = ImageSet(images, detection, seed=5, targets=boxes_of)
    order = GlobalBatches(9, 4, seed=5, start_step=0, stop_step=4)
    plain = list(make_loader(dataset, order, workers=0))
    for batch, expected in zip(make_loader(dataset, order, workers=workers, pin_memory=True), plain, strict=True):
        assert batch.tensors["images"].is_pinned()
        assert batch.lists["boxes"].values.is_pinned()
        moved = batch.to("cuda")
        assert moved.tensors["images"].is_cuda
        for a, b in zip(moved.lists["boxes"], expected.lists["boxes"], strict=True):
            assert a.is_cuda
            assert torch.equal(a.cpu(), b)
