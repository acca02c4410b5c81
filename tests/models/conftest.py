"""The parity rule over lists of results, and a model of ours beside timm's with the same weights."""

from pathlib import Path

import parity
import pytest
import timm
import torch

from convnextv2.models import create_model
from convnextv2.weights.foreign import read_foreign


@pytest.fixture(scope="session")
def randomise():
    return parity.randomise


@pytest.fixture(scope="session")
def difference():
    return parity.difference


@pytest.fixture(scope="session")
def assert_same():
    """Checks a list of results against a list of references by the parity rule of the reference's type."""

    def check(results, references):
        for result, reference in zip(results, references, strict=True):
            assert parity.difference(result, reference) <= parity.TOLERANCE[reference.dtype]

    return check


@pytest.fixture(scope="session")
def pair():
    """Builds (ours, timm's) of a name with the same random weights in float64, the same at every call."""

    def build(name, **options):
        torch.manual_seed(0)
        small = {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 10} | options
        theirs = parity.randomise(timm.create_model(name, conv_mlp=False, **small)).double()
        ours = create_model(name, **small).double()
        ours.load_state_dict(renamed(theirs.state_dict()))
        return ours, theirs

    return build


def renamed(tensors):
    """Tensors under timm's names, under ours."""
    return dict(read_foreign(Path("timm.pt"), tensors).tensors)


@pytest.fixture(scope="session")
def our_names():
    return renamed
