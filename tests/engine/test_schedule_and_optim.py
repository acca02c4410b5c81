"""Learning rate and decay groups against numbers computed by hand."""

import math

import pytest
import torch

from convnextv2.engine.optim import adamw, decayed
from convnextv2.engine.schedule import Schedule
from convnextv2.models import create_model
from convnextv2.tasks.pretrain.fcmae import FCMAE


def test_warm_up_is_linear_from_zero_and_the_cosine_ends_at_the_floor():
    schedule = Schedule(peak=2.0, floor=0.2, warmup_steps=4, total_steps=12)
    assert [schedule.at(step) for step in range(5)] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert schedule.at(8) == pytest.approx(1.1)  # half way: (2 + 0.2) / 2
    assert schedule.at(6) == pytest.approx(0.2 + 1.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert schedule.at(12) == pytest.approx(0.2)


def test_no_warm_up_starts_at_the_peak():
    assert Schedule(peak=1.0, floor=0.0, warmup_steps=0, total_steps=10).at(0) == 1.0


@pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])
def test_only_weights_of_convolutions_and_linear_maps_are_decayed(name):
    # One input channel and a stem stride of 1 make the stem's weight a vector by shape: still a weight.
    model = FCMAE(create_model(name, num_classes=3, in_chans=1, stem_stride=1))
    optimizer = adamw(model, lr=1.0, weight_decay=0.05, betas=(0.9, 0.95))
    names = {parameter: name for name, parameter in model.named_parameters()}
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    expected = {f"{n}.weight" for n, module in model.named_modules() if isinstance(module, kinds)}
    found = {names[p] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert found == expected
    everything = {names[p] for group in optimizer.param_groups for p in group["params"]}
    assert everything == set(names.values())
    assert not decayed("mask_token", model.mask_token)


def test_layer_wise_factors_make_groups_of_equal_rate():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    optimizer = adamw(model, lr=0.2, weight_decay=0.3, betas=(0.9, 0.999), lr_scales={"0.weight": 0.5, "0.bias": 0.5})
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        (names[parameter], group["lr_scale"], group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found == {
        ("0.weight", 0.5, 0.1, 0.3),
        ("0.bias", 0.5, 0.1, 0.0),
        ("1.weight", 1.0, 0.2, 0.3),
        ("1.bias", 1.0, 0.2, 0.0),
    }
