"""Objects with a hash of their own, and JSON read strictly."""

import json
import random
from pathlib import Path

import pytest

from convnextv2 import seal

CONTENT = {
    "lr": 0.000265,
    "out": Path("run"),
    "dims": (8, 16),
    "nested": {"a": None, "b": [True, 1e-300]},
    "é": "\udce9",
}


def test_what_is_sealed_holds_after_a_file_and_says_the_same():
    text = json.dumps(seal.sealed(CONTENT), indent=1)
    found = seal.parse(text)
    assert seal.holds(found)
    assert next(iter(found)) == "seal"
    assert found["out"] == "run"
    assert found["dims"] == [8, 16]
    assert seal.sealed(found) == found  # sealing again changes nothing
    assert not seal.holds({})
    assert not seal.holds({name: value for name, value in found.items() if name != "seal"})


def test_every_flipped_bit_is_noticed_or_changes_nothing():
    text = json.dumps(seal.sealed(CONTENT), indent=1).encode()
    whole, rng, noticed = seal.parse(text), random.Random(0), 0
    for _ in range(1000):
        changed = bytearray(text)
        changed[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
        try:
            found = seal.parse(bytes(changed))
        except ValueError:
            noticed += 1
            continue
        assert not (isinstance(found, dict) and seal.holds(found)) or found == whole
        noticed += found != whole
    assert noticed > 800


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "it has 'a' twice"),
        ('{"b": {"a": 1, "a": 1}}', "it has 'a' twice"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e400", "1e400 is too large"),
        ("[" * 100_000, "nests too deep|Expecting value"),
        ("[" * 100_000 + "]" * 100_000, "nests too deep"),
        ("9" * 5000, "Exceeds the limit"),
        ("", "Expecting value"),
        (b"\xff", "codec can't decode"),
    ],
    ids=range(10),
)
def test_odd_json_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        seal.parse(text)
