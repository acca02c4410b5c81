"""The depthwise convolution equals torch's own, in double precision, forward and backward."""

import pytest
import torch
import torch.nn.functional as F

from convnextv2 import ops

BOTH = pytest.mark.parametrize("implementation", ["reference", "fused"])

SHAPES = {  # (B, H, W, C), kernel
    "one site": ((1, 1, 1, 3), 7),
    "smaller than the kernel": ((2, 3, 2, 8), 7),
    "odd": ((3, 9, 13, 5), 7),
    "one row": ((2, 1, 17, 4), 7),
    "one channel": ((2, 8, 8, 1), 7),
    "as in stage 0": ((2, 32, 24, 40), 7),
    "kernel 3": ((2, 6, 5, 4), 3),
    "kernel 1": ((2, 6, 5, 4), 1),
}


def make(shape, kernel, dtype):
    channels = shape[-1]
    weight = torch.randn(channels, 1, kernel, kernel, dtype=dtype)
    return torch.randn(shape, dtype=dtype), weight, torch.randn(channels, dtype=dtype)


def exact(x, weight, bias):
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))
    return y.permute(0, 2, 3, 1)


@BOTH
@pytest.mark.parametrize(("shape", "kernel"), SHAPES.values(), ids=SHAPES)
def test_depthwise_is_the_grouped_convolution(shape, kernel, dtype, implementation, run, assert_same):
    inputs = make(shape, kernel, dtype)
    d_out = torch.randn(shape, dtype=dtype)
    expected = run(exact, [t.double() for t in inputs], d_out.double())
    with ops.force(implementation):
        results = run(ops.depthwise, inputs, d_out)
    assert [t.dtype for t in results] == [dtype] * 4
    assert_same(results, expected, dtype)


def test_depthwise_is_a_cross_correlation_with_zeros_outside(assert_same):
    x, weight, bias = make((1, 5, 9, 2), 7, torch.float64)
    y = torch.empty_like(x)
    for i in range(5):
        for j in range(9):
            total = bias.clone()
            for di in range(-3, 4):
                for dj in range(-3, 4):
                    if 0 <= i + di < 5 and 0 <= j + dj < 9:
                        total += weight[:, 0, di + 3, dj + 3] * x[0, i + di, j + dj]
            y[0, i, j] = total
    assert_same([ops.depthwise(x, weight, bias)], [y], torch.float64)


@BOTH
def test_depthwise_takes_any_strides(implementation, run, assert_same):
    x, weight, bias = make((2, 9, 6, 5), 7, torch.float32)
    d_out = torch.randn_like(x)
    expected = run(exact, [t.double() for t in (x, weight, bias)], d_out.double())
    strided = [t.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for t in (x, d_out)]
    with ops.force(implementation):
        assert_same(run(ops.depthwise, (strided[0], weight, bias), strided[1]), expected, torch.float32)
        # the gradient of a mean has no memory of its own: all its strides are zero
        ones = torch.ones((), dtype=x.dtype).expand(x.shape)
        expected = run(exact, [t.double() for t in (x, weight, bias)], ones.double())
        assert_same(run(ops.depthwise, (x, weight, bias), ones), expected, torch.float32)


@BOTH
def test_depthwise_runs_in_the_autocast_type(implementation, run, assert_same):
    inputs = make((2, 8, 7, 16), 7, torch.float32)
    d_out = torch.randn_like(inputs[0])
    expected = run(exact, [t.double() for t in inputs], d_out.double())
    with ops.force(implementation), torch.autocast("cpu", torch.bfloat16):
        results = run(ops.depthwise, inputs, d_out)
    assert [t.dtype for t in results] == [torch.bfloat16] + 3 * [torch.float32]
    assert_same(results, expected, torch.bfloat16)


@BOTH
def test_depthwise_where_the_input_needs_no_gradient(implementation, assert_same):
    x, weight, bias = make((2, 8, 7, 4), 7, torch.float32)
    weight.requires_grad_()
    d_weight = {}
    for needed in (True, False):
        with ops.force(implementation):
            loss = ops.depthwise(x.requires_grad_(needed), weight, bias).square().sum()
        (d_weight[needed],) = torch.autograd.grad(loss, weight)
    assert_same([d_weight[False]], [d_weight[True]], torch.float32)
