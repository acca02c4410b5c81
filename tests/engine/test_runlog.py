"""What a run writes down."""

import json

import pytest

from convnextv2.engine.metrics_file import rewind
from convnextv2.engine.runlog import RunLog, duration


def test_metrics_are_one_object_a_line_and_rewinding_drops_what_came_later(tmp_path):
    with RunLog(tmp_path) as log:
        for step in range(1, 6):
            log.metrics(step, step / 2, "train", 1.5 * step, {"loss": 1 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # torn by a kill
    rewind(tmp_path, 3)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[1] == {"step": 2, "epoch": 1.0, "phase": "train", "time": 3.0, "loss": 0.5}


def test_a_quiet_log_writes_nothing(tmp_path):
    with RunLog(tmp_path, quiet=True) as log:
        log.say("hello")
        log.metrics(1, 1.0, "train", 1.0, {"loss": 1.0})
        log.progress(1, 2, 0.5, 1.0, 10.0)
    assert list(tmp_path.iterdir()) == []


def test_away_from_a_terminal_progress_is_plain_lines(tmp_path, capsys):
    with RunLog(tmp_path) as log:
        for step in range(1, 101):
            log.progress(step, 100, step / 10, 0.5, 123.4)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 1/100  epoch 0.1  loss 0.5000  123 images/s")
    assert lines[-1].startswith("step 100/100")
    assert len(lines) < 10


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (720, "12 min"), (12000, "3 h 20 min"), (190800, "2 d 5 h")]
)
def test_durations_read_well(seconds, words):
    assert duration(seconds) == words
