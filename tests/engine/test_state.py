"""Checkpoints: complete or absent."""

import json

import pytest
import torch

from convnextv2.engine import state
from convnextv2.engine.optim import adamw
from convnextv2.engine.state import LoopState
from convnextv2.errors import LoadError
from convnextv2.weights.files import checkpoint_of, load_tensors, save_tensors


def trained(seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    optimizer = adamw(model, lr=0.1, weight_decay=0.05, betas=(0.9, 0.95))
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_model_optimiser_and_place_come_back_bitwise(tmp_path):
    model, optimizer = trained(0)
    folder = state.save(tmp_path / "checkpoints", model, optimizer, LoopState(7, 12.5), {"architecture": "x"})
    other, other_optimizer = trained(1)
    assert checkpoint_of(tmp_path) == folder
    assert state.load(folder, other, other_optimizer) == LoopState(7, 12.5)
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        for field, value in optimizer.state[a].items():
            assert torch.equal(value, other_optimizer.state[b][field]), (name, field)


def test_the_newest_two_are_kept_and_half_written_ones_are_removed(tmp_path):
    model, optimizer = trained(0)
    for step in (1, 2, 3):
        state.save(tmp_path / "checkpoints", model, optimizer, LoopState(step, 0.0), {})
    (tmp_path / "checkpoints" / ".step-00000004.partial").mkdir()
    (tmp_path / "checkpoints" / ".latest.partial").write_text("step-0")
    state.repair(tmp_path / "checkpoints")
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["latest", "step-00000002", "step-00000003"]
    assert checkpoint_of(tmp_path) == tmp_path / "checkpoints" / "step-00000003"


def test_a_checkpoint_that_the_pointer_does_not_name_yet_is_replaced(tmp_path):
    """A process killed between the two renames leaves a complete folder and the old pointer."""
    model, optimizer = trained(0)
    state.save(tmp_path / "checkpoints", model, optimizer, LoopState(1, 0.0), {})
    state.save(tmp_path / "checkpoints", model, optimizer, LoopState(2, 0.0), {})
    (tmp_path / "checkpoints" / "latest").write_text("step-00000001")
    assert checkpoint_of(tmp_path) == tmp_path / "checkpoints" / "step-00000001"
    state.save(tmp_path / "checkpoints", model, optimizer, LoopState(2, 0.0), {})
    assert checkpoint_of(tmp_path) == tmp_path / "checkpoints" / "step-00000002"


def test_the_average_and_the_best_are_kept(tmp_path):
    folder = tmp_path / "checkpoints"
    model, optimizer = trained(0)
    average, _ = trained(2)
    for step in (1, 2, 3, 4):
        where = LoopState(step, 0.0, best=0.5, best_step=1, stale=step - 1, averaged=step)
        state.save(folder, model, optimizer, where, {}, average)
    assert checkpoint_of(tmp_path, "best") == folder / "step-00000001"
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-00000001", "step-00000003", "step-00000004"]
    other, other_optimizer = trained(1)
    other_average, _ = trained(3)
    assert state.load(folder / "step-00000004", other, other_optimizer, other_average) == where
    for a, b in ((model, other), (average, other_average)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_going_back_behind_the_best_forgets_it(tmp_path):
    folder = tmp_path / "checkpoints"
    model, optimizer = trained(0)
    state.save(folder, model, optimizer, LoopState(1, 0.0), {})
    state.save(folder, model, optimizer, LoopState(2, 0.0, best=0.5, best_step=2), {})
    assert checkpoint_of(tmp_path, "best") == folder / "step-00000002"
    where = state.load(folder / "step-00000001", model, optimizer)
    state.point_to_best(folder, where)
    assert checkpoint_of(tmp_path, "best") is None


def test_a_pointer_to_nothing_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "latest").write_text("step-00000009")
    with pytest.raises(LoadError, match="step-00000009, which is not there"):
        checkpoint_of(tmp_path)


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert checkpoint_of(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "1"},
        {"step": None},
        {"step": -1},
        {"seconds": "x"},
        {"best": "0.5"},
        {"best_step": 1.5},
        {"averaged": True},
        {"meter": []},
        {"meter": {"steps": "x"}},
        {"meter": {"sums": {"loss": None}}},
        {"meter": {"other": 1}},
        {"seconds": float("nan")},
    ],
    ids=str,
)
def test_a_state_of_an_earlier_version_with_odd_values_is_refused(tmp_path, changes):
    """Nothing binds it: its values are checked by their types."""
    model, optimizer = trained(0)
    folder = state.save(tmp_path / "checkpoints", model, optimizer, LoopState(1, 0.0), {})
    tensors, _ = load_tensors(folder / "optimizer.safetensors")
    save_tensors(folder / "optimizer.safetensors", tensors)
    plain = {"step": 1, "seconds": 0.0, "best": None, "best_step": 0, "stale": 0, "averaged": 0, "meter": {}}
    (folder / "state.json").write_text(json.dumps(plain))
    assert state.load(folder, model, optimizer) == LoopState(1, 0.0)
    (folder / "state.json").write_text(json.dumps(plain | changes))
    with pytest.raises(LoadError, match=r"state\.json is (damaged|of step)") as caught:
        state.load(folder, model, optimizer)
    assert "\n" not in str(caught.value)
