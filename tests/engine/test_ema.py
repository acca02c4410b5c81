"""The average of weights against numbers computed by hand."""

import pytest
import torch

from convnextv2.engine.ema import average_of, decay_at


class Numbers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([5.0]))
        self.register_buffer("running", torch.tensor([5.0]))
        self.register_buffer("places", torch.arange(169))


def after(values, decay, warmup):
    model = Numbers()
    average = average_of(model, decay, warmup=warmup)
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
            model.running.fill_(value)
        average.update_parameters(model)
    return average.module


def test_the_average_starts_at_the_weights_after_the_first_step():
    found = after([1.0, 2.0, 4.0], 0.9, warmup=False)
    assert found.weight.item() == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 4)  # 1.39
    assert found.running.item() == pytest.approx(1.39)
    assert not found.weight.requires_grad


@pytest.mark.parametrize("warmup", [True, False])
def test_whole_numbers_are_not_averaged(warmup):
    found = after([1.0] * 100, 0.9999, warmup)
    assert torch.equal(found.places, torch.arange(169))


def test_warm_up_begins_with_small_decays():
    assert [decay_at(n, 0.9999) for n in (1, 2, 8)] == [2 / 11, 3 / 12, 0.5]
    assert decay_at(1_000_000, 0.99) == 0.99
    found = after([1.0, 2.0, 4.0], 0.9999, warmup=True)
    first = 2 / 11 * 1 + 9 / 11 * 2
    assert found.weight.item() == pytest.approx(0.25 * first + 0.75 * 4)
