"""Metrics as columns, thinning and smoothing, numbers as words."""

import json
import re

import numpy as np
import pytest

from convnextv2.report import curves, words, write_report
from convnextv2.report.curves import Line
from convnextv2.report.description import Description, Metric
from convnextv2.report.metrics import Series, read_metrics
from convnextv2.tasks.classify.metrics import METRICS


def series(values, epoch=None, phase="train"):
    values = np.asarray(values, dtype=float)
    step = np.arange(1.0, len(values) + 1)
    return Series("loss", phase, step, step / 10 if epoch is None else epoch, values)


def draw(train, evaluated=None, style=None):
    dots = [] if evaluated is None else [Line(series(evaluated, phase="eval"), "evaluation")]
    return curves.draw("a", [Line(train), *dots], style)


def test_a_resumed_run_replaces_what_it_repeats(make_run, line):
    before = [line(s, loss=1.0) for s in (10, 20, 30, 40)]
    before.insert(3, {"step": 35, "phase": "eval", "loss": 9.0})
    again = [line(s, loss=2.0) for s in (30, 45)]
    metrics = read_metrics(make_run(lines=[*before, *again]) / "metrics.jsonl")
    train = metrics.find("loss")
    assert train.step.tolist() == [10, 20, 30, 45]
    assert train.values.tolist() == [1, 1, 2, 2]
    assert metrics.find("loss", "eval") is None
    assert metrics.step == 45


def test_phases_of_one_step_stand_beside_each_other(make_run, line):
    lines = [line(5), {"step": 5, "phase": "eval", "loss": 0.5}, {"step": 5, "phase": "end", "loss": 0.25}]
    metrics = read_metrics(make_run(lines=lines) / "metrics.jsonl")
    assert [metrics.find("loss", phase).values.tolist() for phase in ("eval", "end")] == [[0.5], [0.25]]
    assert len(metrics.find("loss").values) == 1
    assert metrics.end["loss"] == 0.25


def test_names_that_come_and_go(make_run, line):
    lines = [line(1, a=1), line(2), line(3, a=3), line(4, b=True)]
    metrics = read_metrics(make_run(lines=lines) / "metrics.jsonl")
    assert metrics.find("a").step.tolist() == [1, 3]
    assert metrics.find("b").values.tolist() == [1]


@pytest.mark.parametrize("text", ["", "\n\n", "{", "\x00\xff\n", "null\n", '{"loss": 1}\n', '{"step": "x"}\n'])
def test_files_without_one_good_line(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(text.encode("latin-1"))
    assert read_metrics(path).series == ()
    assert read_metrics(tmp_path / "none").step == 0


def test_two_hundred_thousand_lines(make_run, parse):
    rng = np.random.default_rng(0)
    noise = 0.5 + 0.01 * rng.normal(size=200_000)
    noise[123_456] = 7.0
    text = "".join(
        f'{{"step": {s}, "epoch": {s / 2000}, "phase": "train", "time": {s * 0.1:.1f}, "loss": {v:.5f}, '
        f'"lr": 0.0001, "images_per_second": 2800.5}}\n'
        for s, v in enumerate(noise.tolist(), start=1)
    )
    run = make_run(lines=[text])
    path = write_report(run)
    assert path.stat().st_size < 300_000
    assert "200,000 steps" in parse(path).text


def test_thinning_keeps_the_spikes():
    values = np.zeros(100_000)
    values[77_777] = 5.0
    values[33] = -5.0
    x, thin = curves.bins(np.arange(100_000.0), values)
    assert len(thin) == len(x) == 2 * curves.POINTS
    assert (thin.min(), thin.max()) == (-5, 5)
    assert x[thin.argmax()] == pytest.approx(77_777, abs=200)


def test_short_series_are_not_thinned():
    x, thin = curves.bins(np.arange(9.0), np.arange(9.0))
    assert (x == thin).all()
    assert len(x) == 9


@pytest.mark.parametrize("n", [20, 999, 1001, 54_321])
def test_smoothing(n):
    x = np.arange(float(n))
    at, constant = curves.smooth(x, np.full(n, 3.0))
    assert constant == pytest.approx(3.0)
    assert len(at) == len(constant) <= 2 * curves.POINTS
    at, straight = curves.smooth(x, 2 * x)
    middle = slice(0, -max(2, len(at) // 100))
    assert straight[middle] == pytest.approx(2 * at[middle], abs=n / 500)


def test_smoothing_recovers_from_an_explosion():
    values = np.ones(5000)
    values[100] = 1e30
    _, middle = curves.smooth(np.arange(5000.0), values)
    assert middle[100:] == pytest.approx(1.0)


def test_the_scale_follows_the_values():
    wide = curves.Style(log=True)
    assert draw(series(np.geomspace(100, 0.1, 200)), style=wide).log
    assert not draw(series(np.linspace(2, 1, 200)), style=wide).log
    assert not draw(series(np.linspace(-1, 100, 200)), style=wide).log
    assert not draw(series(np.geomspace(100, 0.1, 200))).log


def test_a_lone_spike_is_cut_off_and_said():
    values = np.linspace(1, 0.5, 5000)
    assert not draw(series(values)).cut
    values[2500] = 80
    assert draw(series(values)).cut


def test_without_epochs_the_axis_counts_steps():
    curve = draw(series([3, 2, 1], epoch=np.full(3, np.nan)))
    assert curve.x == "step"
    assert ">step<" in curve.svg


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1e308, -1e308], [1e-300, 2e-300], list(range(30))])
def test_odd_values_are_drawn(values):
    assert "<path" in draw(series(values), values).svg


def test_shares_in_percent():
    percent = curves.Style(percent=True)
    ticks = re.findall(r">(\S+) %<", draw(series([0.98, 1.0]), style=percent).svg)
    assert "100" in ticks
    assert max(map(float, ticks)) <= 100
    ticks = re.findall(r">(\S+) %<", draw(series([0.0, 0.04]), style=percent).svg)
    assert min(map(float, ticks)) == 0
    assert max(map(float, ticks)) == 4
    assert " %<" not in draw(series([0.0, 0.04])).svg


def test_the_colours_are_the_pages():
    lines = [Line(series(range(50)), look) for look in ("training", "evaluation", "second")]
    svg = curves.draw("key", lines).svg
    assert "#0" not in svg.replace("#key", "")
    assert "DejaVu" not in svg
    for name in ("curve", "faint", "grid", "quiet", "dots", "second"):
        assert f"var(--{name})" in svg


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.42131, "0.4213"), (12500, "12,500"), (2795.2, "2,795"), (1.5e-4, "0.00015"), (0, "0"), (0.0, "0")],
)
def test_numbers(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e20, "1e+20"), (float("nan"), "not a number"), (-0.5, "-0.5"), (True, "yes"), (10**400, "infinite")],
    ids=["large", "nan", "negative", "bool", "huge"],
)
def test_odd_numbers(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6e-4, "6e-4"),
        (1.5e-5, "1.5e-5"),
        (0.25, "0.25"),
        (2400, "2400"),
        (20000, "20k"),
        (3e6, "3M"),
        (0, "0"),
    ],
)
def test_ticks(value, text):
    assert words.tick(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 seconds"), (59, "59 seconds"), (90, "1.5 minutes"), (5400, "1.5 hours"), (345600, "4.0 days")],
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


def test_dates_that_are_none_stay_as_they_are():
    assert words.date("2026-11-03T04:05:06.7+00:00") == "3 November 2026, 04:05"
    assert words.date("yesterday") == "yesterday"
    assert words.date(None) == "None"


@pytest.mark.parametrize(
    ("name", "text"),
    [("images_per_second", "Images per second"), ("map", "mAP"), ("top1", "Top-1"), ("ece", "Calibration error")],
)
def test_titles(name, text):
    said = Description(metrics={info.name: Metric(info.title) for info in METRICS.values()})
    assert said.title(name) == text
    assert Description().title("images_per_second") == "Images per second"


@pytest.mark.parametrize(("length", "shown"), [(0, 0), (30, 30), (31, 15), (1000, 15)])
def test_long_lists_are_folded(length, shown):
    first, rest = words.fold(range(length))
    assert len(first) == shown
    assert [*first, *rest] == list(range(length))


def test_plain_values():
    assert words.plain({"a": [1, None, False], "b": {}}) == "a: 1, none, no, b: none"
    assert json.loads(words.plain(1.5e-4)) == 1.5e-4
