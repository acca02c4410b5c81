"""GlobalBatches: the same global batches for any number of processes and any starting step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnextv2.data.loading.order import GlobalBatches
from convnextv2.errors import UserError


@given(
    micro=st.integers(1, 4),
    world_size=st.integers(1, 4),
    accumulate=st.integers(1, 3),
    spare=st.integers(0, 60),
    seed=st.integers(0, 2**40),
    start=st.integers(0, 12),
    steps=st.integers(0, 8),
)
def test_ranks_together_see_the_batches_of_one_process(micro, world_size, accumulate, spare, seed, start, steps):
    batch_size = micro * world_size * accumulate
    length = batch_size + spare
    span = {"seed": seed, "start_step": start, "stop_step": start + steps}
    whole = list(GlobalBatches(length, batch_size, **span))
    ranks = [
        list(GlobalBatches(length, batch_size, **span, rank=r, world_size=world_size, accumulate=accumulate))
        for r in range(world_size)
    ]
    assert len(whole) == steps
    for step, batch in enumerate(whole):
        parts = [ranks[r][step * accumulate + j] for j in range(accumulate) for r in range(world_size)]
        assert all(len(part) == micro for part in parts)
        assert [pair for part in parts for pair in part] == batch
    from_zero = list(GlobalBatches(length, batch_size, seed=seed, start_step=0, stop_step=start + steps))
    assert from_zero[start:] == whole
    spe = length // batch_size
    for first in range(0, len(from_zero) - spe + 1, spe):
        epoch = [pair for batch in from_zero[first : first + spe] for pair in batch]
        assert {e for e, _ in epoch} == {first // spe}
        indices = [index for _, index in epoch]
        assert len(set(indices)) == len(indices) == spe * batch_size
        assert set(indices) <= set(range(length))


def test_epochs_and_seeds_give_different_orders():
    def order(seed, epoch):
        batches = GlobalBatches(100, 100, seed=seed, start_step=epoch, stop_step=epoch + 1)
        return [index for _, index in next(iter(batches))]

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(o) for o in orders}) == 9
    assert all(sorted(o) == list(range(100)) for o in orders)


def test_length_and_repeated_iteration():
    batches = GlobalBatches(50, 8, seed=0, start_step=4, stop_step=9, world_size=2, accumulate=2)
    assert batches.steps_per_epoch == 6
    assert len(batches) == 10
    assert list(batches) == list(batches)
    assert len(list(batches)) == 10
    assert list(GlobalBatches(50, 8, seed=0, start_step=9, stop_step=9)) == []


def test_mistakes_say_what_to_type():
    def refusal(length, batch_size, **split):
        with pytest.raises(UserError) as caught:
            GlobalBatches(length, batch_size, seed=0, start_step=0, stop_step=1, **split)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    message = refusal(7, 8)
    for part in ("7 images", "zero steps", "recipe='auto'", "batch_size=7"):
        assert part in message
    assert "batch_size=12" in refusal(100, 10, world_size=3, accumulate=2)
    assert "batch_size" in refusal(100, 0)
