"""Weights of unbalanced classes, and the augmentation that a recipe means."""

import pytest
import torch

from convnextv2.data.files.folder import ImageList
from convnextv2.data.labels.labels import LabelledImages
from convnextv2.data.loading.order import GlobalBatches
from convnextv2.data.transforms.colour import RandAugment
from convnextv2.records import Preprocessing
from convnextv2.tasks.classify.recipes import named
from convnextv2.tasks.classify.settings import ClassifySettings
from convnextv2.tasks.classify.task import Augment, class_weights, min_side, sampling_weights


def labelled(labels, classes):
    from pathlib import Path

    names = tuple(f"{number}.png" for number in range(len(labels)))
    return LabelledImages(ImageList(Path(), names, Path()), torch.as_tensor(labels), classes)


def test_every_class_counts_the_same_in_the_loss():
    train = labelled([0] * 5 + [1] * 15, ("rare", "common"))
    weights = class_weights(train)
    assert weights.tolist() == pytest.approx([2.0, 2 / 3])
    assert (weights * train.counts()).tolist() == pytest.approx([10.0, 10.0])


def test_positives_of_several_labels_count_as_much_as_negatives():
    train = labelled([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]], ("rare", "common"))
    assert class_weights(train).tolist() == pytest.approx([3.0, 1 / 3])


def test_every_class_is_drawn_equally_often_and_repeats_differ():
    train = labelled([0] * 5 + [1] * 95, ("rare", "common"))
    order = GlobalBatches(100, 10, seed=0, start_step=0, stop_step=100, weights=sampling_weights(train))
    drawn = [key for batch in order for key in batch]
    rare = sum(index < 5 for _, index in drawn)
    assert 440 < rare < 560  # half of 1000; the standard deviation is 16
    assert len(set(drawn)) == len(drawn)  # the same picture comes again under another number, so with another crop
    later = GlobalBatches(100, 10, seed=0, start_step=37, stop_step=100, weights=sampling_weights(train))
    assert [key for batch in later for key in batch] == drawn[370:]


@pytest.mark.parametrize("recipe", ["small-data", "supervised"])
def test_the_augmentation_of_a_recipe(recipe):
    augment = Augment.of(named(recipe, "convnextv2_tiny", 1000, False), 32, Preprocessing(), ClassifySettings())
    picture = torch.randint(0, 256, (3, 50, 40), dtype=torch.uint8)
    before = picture.clone()
    given = augment(picture)["images"]
    assert (given.shape, given.dtype) == ((3, 32, 32), torch.uint8)
    assert torch.equal(picture, before)
    assert any(isinstance(change, RandAugment) for change in augment.changes) == (recipe != "small-data")


def test_the_smallest_crop_is_not_enlarged():
    assert min_side(64, 0.25) == 128
    assert min_side(64, 1.0) == 64
