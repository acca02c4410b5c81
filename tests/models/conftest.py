"""Random weights that hide nothing, and the parity rule."""

import pytest
import torch

# Largest difference allowed, by the parity rule: relative to the largest absolute value of the reference.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def randomise():
    """Fills every parameter with random numbers that keep activations near one; GRN and LayerScale included."""

    @torch.no_grad()
    def fill(module):
        for name, parameter in module.named_parameters():
            if name.endswith("weight") and parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            elif name.endswith("weight"):
                parameter.normal_(1, 0.2)
            else:
                parameter.normal_(0, 0.3)
        return module

    return fill


@pytest.fixture(scope="session")
def difference():
    """The largest absolute difference over the largest absolute value of the reference."""

    def measure(result, reference):
        assert result.shape == reference.shape
        result, reference = result.detach().double(), reference.detach().double()
        return ((result - reference).abs().max() / reference.abs().max()).item()

    return measure


@pytest.fixture(scope="session")
def assert_same(difference):
    """Checks a list of results against a list of references by the parity rule of the reference's type."""

    def check(results, references):
        for result, reference in zip(results, references, strict=True):
            assert difference(result, reference) <= TOLERANCE[reference.dtype]

    return check
