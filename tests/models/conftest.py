"""The parity rule over lists of results."""

import parity
import pytest


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
