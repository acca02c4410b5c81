"""GRN and GELU with GRN: the textbook, plain torch and the fused kernel are one function."""

import math

import pytest
import torch
import torch.nn.functional as F

from convnextv2 import ops

BOTH = pytest.mark.parametrize("implementation", ["reference", "fused"])

SHAPES = {
    "one site": (3, 1, 1, 5),
    "one picture": (1, 5, 7, 12),
    "one channel": (2, 3, 4, 1),
    "odd": (3, 7, 5, 13),
    "cells": (2, 3, 4, 4, 8),  # packed: (B, V, u, u, C)
    "no spatial axes": (2, 9, 6),
    "a picture larger than a chunk": (2, 150, 180, 11),
    "chunks of several pictures, the last one smaller": (5, 64, 64, 16),
}


def make(shape, dtype, parameters=None):
    gamma, beta = torch.randn(2, 1, 1, 1, shape[-1], dtype=parameters or dtype)
    return torch.randn(shape, dtype=dtype), gamma, beta


def textbook(x, gamma, beta):
    """Algorithm 1 of the paper, one number at a time.  x: (B, H, W, C)."""
    batch, height, width, channels = x.shape
    y = torch.empty_like(x)
    for picture in range(batch):
        g = []
        for c in range(channels):
            total = sum(x[picture, i, j, c].item() ** 2 for i in range(height) for j in range(width))
            g.append(math.sqrt(total))
        mean = sum(g) / channels
        for c in range(channels):
            n = g[c] / (mean + 1e-6)
            for i in range(height):
                for j in range(width):
                    value = x[picture, i, j, c]
                    y[picture, i, j, c] = gamma[c] * (value * n) + beta[c] + value
    return y


def test_grn_is_the_papers_algorithm(assert_same):
    x, gamma, beta = make((3, 4, 3, 5), torch.float64)
    x[1, :, :, 2] = 0
    x[2] = 0
    expected = textbook(x, gamma.flatten(), beta.flatten())
    assert_same([ops.grn(x, gamma, beta)], [expected], torch.float64)


@BOTH
def test_gelu_grn_is_grn_of_the_exact_gelu(implementation, assert_same):
    h, gamma, beta = make((2, 3, 4, 6), torch.float64)
    gelu = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
    with ops.force(implementation):
        y = ops.gelu_grn(h, gamma, beta)
    assert_same([y], [textbook(gelu, gamma.flatten(), beta.flatten())], torch.float64)


@BOTH
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gelu_grn_and_its_gradients(shape, dtype, implementation, run, assert_same):
    inputs = make(shape, dtype)
    d_out = torch.randn(shape, dtype=dtype)
    expected = run(lambda h, *p: ops.grn(F.gelu(h), *p), [t.double() for t in inputs], d_out.double())
    with ops.force(implementation):
        results = run(ops.gelu_grn, inputs, d_out)
    assert [t.dtype for t in results] == [dtype] * 4
    assert_same(results, expected, dtype)


@BOTH
def test_gelu_grn_of_bf16_with_float32_parameters(implementation, run, assert_same):
    """As under autocast: the linear layer before it gives bf16, the parameters stay float32."""
    inputs = make((3, 6, 5, 16), torch.bfloat16, parameters=torch.float32)
    d_out = torch.randn(3, 6, 5, 16, dtype=torch.bfloat16)
    expected = run(lambda h, *p: ops.grn(F.gelu(h), *p), [t.double() for t in inputs], d_out.double())
    with ops.force(implementation), torch.autocast("cpu", torch.bfloat16):
        results = run(ops.gelu_grn, inputs, d_out)
    assert [t.dtype for t in results] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    assert_same(results, expected, torch.bfloat16)


@BOTH
def test_gelu_grn_takes_any_strides(implementation, run, assert_same):
    h, gamma, beta = make((2, 5, 4, 6), torch.float64)
    d_out = torch.randn_like(h)
    expected = run(ops.gelu_grn, (h, gamma, beta), d_out)
    with ops.force(implementation):
        for order in [(0, 3, 1, 2), (3, 2, 1, 0), (1, 0, 3, 2)]:
            back = sorted(range(4), key=order.__getitem__)
            h_strided, d_strided = (t.permute(order).contiguous().permute(back) for t in (h, d_out))
            assert not h_strided.is_contiguous()
            assert_same(run(ops.gelu_grn, (h_strided, gamma, beta), d_strided), expected, torch.float64)


@BOTH
@pytest.mark.parametrize("zero", ["one channel of one picture", "one picture", "everything"])
def test_gradients_are_finite_where_values_are_zero(zero, dtype, implementation, run):
    h, gamma, beta = make((2, 4, 5, 8), dtype)
    picture, channel = {
        "one channel of one picture": (0, 3),
        "one picture": (0, slice(None)),
        "everything": (slice(None), slice(None)),
    }[zero]
    h[picture, :, :, channel] = 0
    d_out = torch.randn_like(h)
    with ops.force(implementation):
        y, dh, d_gamma, d_beta = run(ops.gelu_grn, (h, gamma, beta), d_out)
    assert all(t.isfinite().all() for t in (y, dh, d_gamma, d_beta))
    # There n is zero and the norm passes nothing on: what is left is the residual, and the slope 1/2 of GELU.
    assert torch.equal(dh[picture, :, :, channel], d_out[picture, :, :, channel] / 2)


@BOTH
def test_gelu_that_underflows_in_bf16_gives_finite_gradients(implementation, run):
    h, gamma, beta = make((2, 4, 4, 8), torch.bfloat16)
    h[0, :, :, 1] = -40
    assert F.gelu(h)[0, :, :, 1].eq(0).all()
    with ops.force(implementation):
        assert all(t.isfinite().all() for t in run(ops.gelu_grn, (h, gamma, beta), torch.ones_like(h)))


def test_fused_gelu_grn_has_the_numerical_derivative():
    h, gamma, beta = (t.requires_grad_() for t in make((2, 3, 2, 4), torch.float64))
    with ops.force("fused"):
        assert torch.autograd.gradcheck(ops.gelu_grn, (h, gamma, beta))


@BOTH
def test_a_picture_does_not_depend_on_its_batch(implementation, assert_same):
    h, gamma, beta = make((5, 64, 64, 16), torch.float64)
    with ops.force(implementation):
        batch = ops.gelu_grn(h, gamma, beta)
        alone = [ops.gelu_grn(picture[None], gamma, beta)[0] for picture in h]
    assert_same(alone, list(batch), torch.float64)
