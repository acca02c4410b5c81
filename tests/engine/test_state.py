"""Checkpoints: complete or absent."""

import pytest
import torch

from convnextv2.engine import state
from convnextv2.engine.optim import adamw
from convnextv2.engine.state import LoopState
from convnextv2.errors import LoadError


def trained(seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    optimizer = adamw(model, lr=0.1, weight_decay=0.05, betas=(0.9, 0.95))
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_model_optimiser_and_place_come_back_bitwise(tmp_path):
    model, optimizer = trained(0)
    folder = state.save(tmp_path, model, optimizer, LoopState(7, 12.5), {"architecture": "x"})
    other, other_optimizer = trained(1)
    assert state.latest(tmp_path) == folder
    assert state.load(folder, other, other_optimizer) == LoopState(7, 12.5)
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        for field, value in optimizer.state[a].items():
            assert torch.equal(value, other_optimizer.state[b][field]), (name, field)


def test_the_newest_two_are_kept_and_half_written_ones_are_removed(tmp_path):
    model, optimizer = trained(0)
    for step in (1, 2, 3):
        state.save(tmp_path, model, optimizer, LoopState(step, 0.0), {})
    (tmp_path / ".step-00000004.partial").mkdir()
    (tmp_path / ".latest.partial").write_text("step-0")
    state.repair(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["latest", "step-00000002", "step-00000003"]
    assert state.latest(tmp_path) == tmp_path / "step-00000003"


def test_a_checkpoint_that_the_pointer_does_not_name_yet_is_replaced(tmp_path):
    """A process killed between the two renames leaves a complete folder and the old pointer."""
    model, optimizer = trained(0)
    state.save(tmp_path, model, optimizer, LoopState(1, 0.0), {})
    state.save(tmp_path, model, optimizer, LoopState(2, 0.0), {})
    (tmp_path / "latest").write_text("step-00000001")
    assert state.latest(tmp_path) == tmp_path / "step-00000001"
    state.save(tmp_path, model, optimizer, LoopState(2, 0.0), {})
    assert state.latest(tmp_path) == tmp_path / "step-00000002"


def test_a_pointer_to_nothing_is_named(tmp_path):
    (tmp_path / "latest").write_text("step-00000009")
    with pytest.raises(LoadError, match="step-00000009, which is not there"):
        state.latest(tmp_path)


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert state.latest(tmp_path / "absent") is None
