"""Second derivatives of the hand-written gradients, and calls that a tool follows."""

import pytest
import torch
from torch.func import grad, vmap

from convnextv2 import ops

ROWS = torch.tensor([4, 0, 3])
LINES = torch.tensor([0, 2, 5, 7])  # two cells of 2x2 sites on a canvas of 1x4x4: of the first and of the last column


def values(*shape):
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


CALLS = {
    "depthwise": (ops.depthwise, lambda: (values(2, 5, 4, 3), values(3, 1, 7, 7), values(3))),
    "depthwise_cells": (
        lambda x, weight, bias: ops.depthwise_cells(x, LINES, (1, 4, 4), weight, bias),
        lambda: (values(2, 2, 2, 3), values(3, 1, 7, 7), values(3)),
    ),
    "gelu_grn": (ops.gelu_grn, lambda: (values(2, 3, 2, 5), values(1, 1, 1, 5), values(1, 1, 1, 5))),
    "gather_rows": (lambda table: ops.gather_rows(table, ROWS), lambda: (values(5, 3),)),
    "scatter_rows": (lambda selected: ops.scatter_rows(selected, ROWS, 6), lambda: (values(3, 2),)),
}
NAMES = pytest.mark.parametrize("name", CALLS)


def second_derivatives(function, inputs, power=1, follow=None):
    """All gradients of a loss, and those of the sum of their squares.

    power: of the result in the loss. With 1, the gradient that enters the operation's own does not require one itself.
    """
    result = function(*(inputs if follow is None else follow(*inputs)))
    weights = torch.linspace(-1, 2, result.numel(), dtype=result.dtype).view_as(result)
    first = torch.autograd.grad((weights * result**power).sum(), inputs, create_graph=True)
    total = sum(gradient.square().sum() for gradient in first) + sum(0 * tensor.sum() for tensor in inputs)
    return [*first, *torch.autograd.grad(total, inputs)]


@pytest.mark.parametrize("power", [1, 2])
@NAMES
def test_the_hand_written_gradients_have_the_references_derivatives(name, power):
    function, make = CALLS[name]
    inputs = make()
    with ops.force("fused", op=name):
        found = second_derivatives(function, inputs, power)
    with ops.force():
        expected = second_derivatives(function, inputs, power)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@NAMES
def test_they_are_those_of_finite_differences(name):
    function, make = CALLS[name]
    with ops.force("fused", op=name):
        assert torch.autograd.gradcheck(function, make())
        assert torch.autograd.gradgradcheck(function, make())


def test_inputs_that_follow_from_each_other_count_once():
    """The weights are made of the input, as in a network that makes the weights of another."""
    x, weight, bias = values(2, 3, 2, 5), values(5), values(5)

    def follow(x, weight, bias):
        return x, weight * x.mean((0, 1, 2)), bias + x.sum()

    with ops.force("fused", op="gelu_grn"):
        found = second_derivatives(ops.gelu_grn, (x, weight, bias), follow=follow)
    with ops.force():
        expected = second_derivatives(ops.gelu_grn, (x, weight, bias), follow=follow)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_frozen_input_gets_no_derivative():
    x, gamma, beta = values(2, 3, 5), values(5).detach(), values(5)
    with ops.force("fused", op="gelu_grn"):
        (first,) = torch.autograd.grad(ops.gelu_grn(x, gamma, beta).square().sum(), x, create_graph=True)
        assert torch.autograd.grad(first.square().sum(), x)[0].isfinite().all()
        result = ops.gelu_grn(x.detach(), gamma, beta).square().sum()
        (first,) = torch.autograd.grad(result, beta, create_graph=True)
        assert first.requires_grad


@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:FutureWarning")  # torch's own, with forward mode
def test_a_call_that_a_tool_follows_is_plain_torch():
    x, weight, bias = torch.randn(2, 5, 4, 8), torch.randn(8, 1, 7, 7), torch.randn(8)
    assert "fused: taken" in ops.explain("depthwise", x, weight, bias)
    told = []

    def call(*inputs):
        told.append(ops.explain("depthwise", *inputs).splitlines())
        return ops.depthwise(*inputs).square().sum()

    class Marked(torch.Tensor):
        pass

    grad(call)(x, weight, bias)
    vmap(call, (0, None, None))(x[:, None], weight, bias)
    with torch.autograd.forward_ad.dual_level():
        call(torch.autograd.forward_ad.make_dual(x, x), weight, bias)
    call(x, weight.as_subclass(Marked), bias)
    assert told == [["fused: a tool follows the call", "reference: taken"]] * 4
    told.clear()
    call(x, weight, bias)
    call(x, torch.nn.Parameter(weight), torch.nn.Parameter(bias))
    assert told == [["fused: taken", "reference: comes after fused"]] * 2


@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:FutureWarning")
def test_a_trace_is_plain_torch_that_can_be_saved():
    x, weight, bias = torch.randn(2, 5, 4, 8), torch.randn(8, 1, 7, 7), torch.randn(8)
    program = torch.jit.trace(lambda x: ops.gelu_grn(ops.depthwise(x, weight, bias), bias, bias), x)
    assert "PythonOp" not in str(program.graph)
    assert "aten::_convolution" in str(program.graph)
    other = torch.randn(3, 9, 6, 8)
    torch.testing.assert_close(program(other), ops.gelu_grn(ops.depthwise(other, weight, bias), bias, bias))


def test_every_hand_written_gradient_is_tried_here():
    with_gradients = {name for name, each in ops.operations().items() if "fused" in each}
    assert with_gradients == set(CALLS)
