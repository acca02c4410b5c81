"""The pace of a run: threads and workers by measurement, what a rate looks like, and a plan that does not hold."""

import json

import pytest
import torch
from small_run import SMALL

from convnextv2 import UserError, pretrain
from convnextv2.engine.meters import Plan
from convnextv2.engine.runlog import speed
from convnextv2.runs import pace
from convnextv2.tasks.pretrain.run import PretrainRun


@pytest.fixture
def threads():
    """Restore torch's number of threads after the test."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def settings_of(run):
    return json.loads((run / "config.json").read_text())["settings"]


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1234.4, "1234"), (110.0, "110"), (10.0, "10"), (9.96, "10."), (2.44, "2.4"), (0.4, "0.40"), (0.0312, "0.031")],
)
def test_a_slow_rate_keeps_its_digits(rate, text):
    assert speed(rate).removesuffix(" images/s").rstrip(".") == text.rstrip(".")


def test_the_number_of_threads_is_the_one_given_and_is_kept_for_a_resumed_run(picture_folder, tmp_path, threads):
    out = tmp_path / "run"
    pretrain(picture_folder, out, **SMALL, epochs=1, threads=2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    pretrain(out=out, resume=True)
    assert torch.get_num_threads() == 2
    assert settings_of(out)["threads"] == 2


def test_by_default_the_number_of_threads_is_left_alone(picture_folder, tmp_path, threads):
    torch.set_num_threads(1)
    pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=1)
    assert torch.get_num_threads() == 1
    assert settings_of(tmp_path / "run")["threads"] is None


@pytest.mark.parametrize(("fastest", "workers"), [(3, 0), (1, 1)])
def test_auto_takes_the_fastest_of_what_it_measured(picture_folder, tmp_path, threads, monkeypatch, fastest, workers):
    measured, make_task = [], PretrainRun.make_task

    def made(run, number):
        task = make_task(run, number)
        task.workers = number
        return task

    def seconds(task, loop, context):
        now = (torch.get_num_threads(), task.workers)
        measured.append(now)
        return 1.0 + 0.2 * (now[0] != fastest) + 0.2 * (now[1] != workers)

    monkeypatch.setattr(PretrainRun, "make_task", made)
    monkeypatch.setattr(pace, "seconds_per_step", seconds)
    monkeypatch.setattr(pace, "_read_ahead", lambda task, loop, context: None)
    monkeypatch.setattr(pace.machine, "processors", lambda: 4)
    small = {name: value for name, value in SMALL.items() if name != "workers"}
    pretrain(picture_folder, tmp_path / "run", **small, epochs=1, threads="auto")
    assert torch.get_num_threads() == fastest
    resolved = settings_of(tmp_path / "run")
    assert (resolved["threads"], resolved["workers"]) == (fastest, workers)
    assert {1, 2, 3, 4} <= {number for number, _ in measured}
    chosen = json.loads((tmp_path / "run" / "config.json").read_text())["chosen"]
    assert ["threads", fastest, f"the fastest of {len(measured)} settings measured"] in chosen


def test_auto_leaves_workers_that_were_given(picture_folder, tmp_path, threads, monkeypatch):
    monkeypatch.setattr(pace, "seconds_per_step", lambda task, loop, context: 1.0)
    pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=1, threads="auto")
    assert torch.get_num_threads() == threads  # nothing was clearly faster
    assert settings_of(tmp_path / "run")["workers"] == SMALL["workers"]


@pytest.mark.parametrize("wrong", [0, -1, "many", 1.5])
def test_a_wrong_number_of_threads_is_one_line(picture_folder, tmp_path, wrong):
    with pytest.raises(UserError, match="threads"):
        pretrain(picture_folder, tmp_path / "run", threads=wrong)


def test_a_plan_that_does_not_hold_is_told_once_it_is_clear():
    plan = Plan(seconds=100.0)
    said = [plan.late(1.0, 99 - step, step + 1.0) for step in range(15)]
    assert not any(said)  # as planned
    said = [plan.late(3.0, 84 - step, 15 + 3.0 * (step + 1)) for step in range(40)]
    told = [line for line in said if line]
    assert len(told) == 1
    assert "about 4 min in all, not 2 min" in told[0]
    assert "--resume" in told[0]


def test_a_plan_without_a_duration_is_never_late():
    plan = Plan(seconds=float("inf"))
    assert not any(plan.late(1e6, 10, 1e6 * step) for step in range(5))
