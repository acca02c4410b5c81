"""Values that recur, kept once: the sequence of values that they were."""

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convnextv2.data.labels.categorical import Categorical

VALUES = st.lists(st.sampled_from([(), ("a",), ("b",), ("a", "b"), ("b", "a")]), max_size=12)


@given(values=VALUES, data=st.data())
def test_it_is_the_sequence_of_values(values, data):
    kept = Categorical(iter(values))
    assert list(kept) == values
    assert [kept[index] for index in range(-len(values), len(values))] == values + values
    assert kept.codes.dtype == np.int32
    assert sorted(kept.categories) == sorted(set(values))
    part = kept[data.draw(st.slices(len(values)))]
    assert sorted(part.categories) == sorted(set(part)), "no category without a value"
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=9)) if values else []
    taken = kept[np.array(rows, np.int64)]
    assert taken == [values[row] for row in rows]
    assert sorted(taken.categories) == sorted(set(taken))
    assert pickle.loads(pickle.dumps(kept)) == kept == tuple(values)
    assert hash(kept) == hash(tuple(values))
    assert kept != [*values, ()]


def test_other_types():
    assert Categorical("aab") != "aab"
    assert Categorical("aab") != 3
    assert Categorical("aab")[np.int64(1)] == "a"
