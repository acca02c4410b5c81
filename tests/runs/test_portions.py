"""Portions of a step, and what they keep in memory."""

import pytest
import torch

from convnextv2.engine.machine import bytes_kept
from convnextv2.runs.portions import fitting_divisor


@pytest.mark.parametrize(("share", "fits", "expected"), [(256, 1000, 256), (256, 100, 64), (48, 20, 16), (7, 3, 1)])
def test_the_micro_batch_divides_the_share_and_fits(share, fits, expected):
    assert fitting_divisor(share, bytes_per_image=10, free_bytes=20 * fits) == expected


def test_what_autograd_keeps_is_counted_once():
    weight = torch.nn.Parameter(torch.ones(8, 4))
    x = torch.ones(16, 8, requires_grad=True)
    assert bytes_kept(lambda: x @ weight) == 4 * (16 * 8 + 8 * 4)
    assert bytes_kept(lambda: (x * x).sum()) == 4 * 16 * 8
    assert bytes_kept(lambda: x + x) == 0
