"""How far two results are apart, and the ways an operation is asked for."""

import pytest
import torch
from parity import TOLERANCE


@pytest.fixture(params=TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request):
    return request.param


@pytest.fixture(scope="session")
def assert_same():
    """Checks a list of results against a list of references: shapes, and the parity rule in the given type."""

    def check(results, references, dtype):
        for result, reference in zip(results, references, strict=True):
            assert result.shape == reference.shape
            difference = (result.double() - reference.double()).abs().max()
            assert difference <= TOLERANCE[dtype] * reference.double().abs().max(), difference

    return check


@pytest.fixture(scope="session")
def run():
    """Calls `function` on fresh leaves of `inputs`; gives its output and the gradient of each input."""

    def forward_backward(function, inputs, d_out):
        leaves = [x.detach().requires_grad_() for x in inputs]
        y = function(*leaves)
        return [y, *torch.autograd.grad(y, leaves, d_out.to(y.dtype))]

    return forward_backward
