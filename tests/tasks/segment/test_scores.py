"""Losses and scores against loops written by hand and other libraries."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, jaccard_score

from convnextv2.tasks.segment.losses import SceneLoss, balanced_weights, dice_loss
from convnextv2.tasks.segment.metrics import confusion, per_class, score


def maps(seed, classes=6, ignored=0.2):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, (3, 17, 19)).astype(np.uint8)
    predicted = np.where(random.random(truth.shape) < 0.6, truth, random.integers(0, classes, truth.shape))
    truth[random.random(truth.shape) < ignored] = 255
    return torch.from_numpy(truth), torch.from_numpy(predicted.astype(np.uint8))


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_a_loop_and_scikit_learn(seed):
    truth, predicted = maps(seed)
    matrix = confusion(truth, predicted, 6)
    counts = torch.zeros(6, 6, dtype=torch.int64)
    for true, found in zip(truth.flatten().tolist(), predicted.flatten().tolist(), strict=True):
        if true != 255:
            counts[true, found] += 1
    assert torch.equal(matrix, counts)
    there = (truth != 255).numpy()
    expected = jaccard_score(truth.numpy()[there], predicted.numpy()[there], average=None, labels=range(6))
    each = per_class(matrix, "abcdef")
    np.testing.assert_allclose([one.iou for one in each], expected, rtol=1e-14)
    found = score(matrix)
    assert found["miou"] == pytest.approx(expected.mean(), rel=1e-14)
    assert found["pixel_accuracy"] == accuracy_score(truth.numpy()[there], predicted.numpy()[there])


def test_a_class_that_nothing_has_is_in_no_mean():
    truth, predicted = torch.tensor([0, 0, 1, 255]), torch.tensor([0, 1, 1, 2])
    each = per_class(confusion(truth, predicted, 4), "abcd")
    assert [one.iou for one in each] == [0.5, 0.5, None, None]
    assert score(confusion(truth, predicted, 4)) == {"miou": 0.5, "pixel_accuracy": 2 / 3, "mean_accuracy": 0.75}


def test_the_loss_divides_by_all_pixels_or_by_those_with_a_class():
    torch.manual_seed(0)
    truth, _ = maps(0)
    logits = torch.randn(3, 6, 17, 19)
    valid = F.cross_entropy(logits, truth.long(), ignore_index=255)
    share = (truth != 255).float().mean()
    torch.testing.assert_close(SceneLoss(ignored_pixels_count=False)(logits, truth), valid)
    torch.testing.assert_close(SceneLoss()(logits, truth), valid * share)
    halves = [SceneLoss()(logits[part], truth[part]) for part in (slice(0, 1), slice(1, 2), slice(2, 3))]
    torch.testing.assert_close(SceneLoss()(logits, truth), torch.stack(halves).mean())
    nothing = torch.full_like(truth, 255)
    assert SceneLoss(dice=1.0, ohem=0.7, ignored_pixels_count=False)(logits, nothing) == 0


def test_online_hard_examples_leave_out_what_is_known():
    truth = torch.tensor([[[0, 1, 0, 1] * 8] * 2], dtype=torch.uint8)
    logits = torch.zeros(1, 2, 2, 32)
    logits[0, 0, :, ::2], logits[0, 1, 0, 1::2] = 9, 9  # all right but the second class in the second row, at 0.5
    loss = SceneLoss(ohem=0.7)(logits, truth)
    torch.testing.assert_close(loss, torch.tensor(2.0).log())


def test_dice_by_hand():
    logits = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
    assert dice_loss(logits, torch.tensor([[[0, 1]]])) < 1e-6
    assert dice_loss(logits, torch.tensor([[[1, 0]]])) == pytest.approx(1 - 1 / 3, abs=1e-6)


def test_balanced_weights_have_mean_one_over_the_pixels():
    pixels = torch.tensor([900, 90, 10])
    weights = balanced_weights(pixels)
    assert (weights * pixels).sum() / pixels.sum() == pytest.approx(1)
    assert weights[2] / weights[0] == pytest.approx(90**0.5, rel=1e-5)
