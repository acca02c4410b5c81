"""`write_report` from outside: what the page says for every kind of run folder."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from convnextv2 import report, seal
from convnextv2.errors import UserError
from convnextv2.report import write_report

END = {"step": 60, "epoch": 10.0, "phase": "end", "time": 5400.0, "loss": 0.4213, "hours": 1.5}


def test_a_finished_run(make_run, parse, line):
    lines = [*(line(s) for s in range(1, 61)), END | {"images_per_second": 2795.2}]
    run = make_run(lines=lines, pictures=3)
    path = write_report(run)
    assert path == run / "report.html"
    page = parse(path)
    assert "Pre-training of convnextv2_atto" in page.text
    assert "/data/cats" in page.text
    assert "23 November 2026, 01:53" in page.text
    expected = "Finished on 1,536 images: 10 epochs, 60 steps, final loss 0.4213, 2,795 images per second, "
    assert expected + "1.5 hours." in page.text
    assert "3 files of the data could not be read" in page.text
    assert len(page.all("svg")) == 4  # the loss wide and narrow, learning rate, throughput
    assert len(page.all("img")) == 3
    for name in ("the largest that fits", "mask_ratio", "nested.amp", "3708400", "2.11.0", "cores"):
        assert name in page.sections["settings"]


def test_the_sections_come_in_order(make_run, parse, line):
    run = make_run(lines=[line(1), line(2)], pictures=1)
    (run / "table.json").write_text(json.dumps({"title": "T", "columns": ["a"], "rows": [[1]]}))
    (run / "log.txt").write_text("hello\n")
    page = parse(write_report(run))
    assert list(page.sections) == ["results", "images", "curves", "settings", "go-on", "log"]


def test_the_caption_explains_the_grid(make_run, parse):
    text = parse(write_report(make_run(pictures=1))).sections["images"]
    for word in (
        "original",
        "masked",
        "predicted",
        "pasted",
        "visible carry no loss",
        "means nothing",
        "blurry",
    ):
        assert word in text
    assert "Reconstruction after 100 steps" in text


def test_a_run_without_anything_yet(make_run, parse):
    page = parse(write_report(make_run()))
    assert "Running on 1,536 images: no training step has been recorded yet." in page.text
    assert "no images yet" in page.text
    assert "No loss has been recorded yet" in page.text
    assert not page.all("svg")


def test_a_config_that_says_nothing(make_run, parse):
    page = parse(write_report(make_run(config={"settings": None, "data": [1], "chosen": {"a": 1}})))
    assert "run unnamed model" in page.text


def test_states(make_run, line):
    lines = [line(s) for s in range(1, 31)]
    running = make_run(lines=lines, name="running")
    quiet = make_run(lines=lines, name="quiet")
    stopped = make_run(lines=lines, name="stopped")
    longer = make_run(lines=[line(1), END, line(61)], name="longer")
    (stopped / "log.txt").write_text("step 30\nstopped by SIGTERM; saved here; go on with --resume\n")
    hours_ago = time.time() - 7200
    for path in [*quiet.iterdir()]:
        os.utime(path, (hours_ago, hours_ago))
    pages = {run.name: write_report(run).read_text() for run in (running, quiet, stopped, longer)}
    assert "Running on 1,536 images: 5 of 10 epochs, 30 steps, loss 0.6" in pages["running"]
    assert "about 1.0 minutes to go" in pages["running"]
    assert "Stopped on" in pages["quiet"]
    assert "Stopped on" in pages["stopped"]
    assert "Running on" in pages["longer"]


def test_nothing_in_the_run_is_taken_for_markup(make_run, parse, config, line):
    evil = '<script>alert("1")</script>'
    config["verb"] = config["data"]["source"] = config["model"]["name"] = evil
    config["settings"] = {evil: [evil]}
    config["chosen"] = [[evil, evil, evil]]
    config["started"] = evil
    lines = [line(s, **{evil: s, f"${evil}$": s * s, "said": evil}) for s in range(1, 4)]
    run = make_run(config, [*lines, {"step": 4, "phase": evil, "x": 1.0}], name="<b>&'run")
    (run / "table.json").write_text(json.dumps({"title": evil, "columns": [evil], "rows": [[evil]], "note": evil}))
    (run / "log.txt").write_text(f"warning: {evil}\n")
    Image.new("RGB", (8, 8)).save(run / "pictures" / "step-1-<b onload=x>.png")
    (run / "pictures" / "<i>.png").write_text("no image")
    page = parse(write_report(run))  # parse refuses any script
    assert evil in page.text
    assert page.text.count(evil) > 10
    assert not page.all("b")


def test_paths_are_quoted_for_the_shell(make_run, parse):
    run = make_run(name="it's a run")
    text = parse(write_report(run)).sections["go-on"]
    path = str(run).replace("'", "'\"'\"'")
    assert f"convnextv2 pretrain --out '{path}' --resume" in text
    assert f"convnextv2 embed --run '{path}' DIR --out features.npy" in text
    assert f"convnextv2 reconstruct --run '{path}' IMAGE" in text
    assert text.index("--resume") < text.index("embed")


def test_a_finished_run_is_used_before_it_is_resumed(make_run, parse, line):
    text = parse(write_report(make_run(lines=[line(60), END]))).sections["go-on"]
    assert text.index("embed") < text.index("pretrain --out")


def test_unknown_names_show_up(make_run, parse, line):
    lines = [line(s, grad_norm=1.0 / s, memory_mib=31234, device="card 0") for s in range(1, 30)]
    lines.insert(20, {"step": 20, "epoch": 3.3, "phase": "eval", "probe": 0.1})
    lines.append({"step": 29, "epoch": 4.8, "phase": "eval", "probe": 0.5})
    page = parse(write_report(make_run(lines=lines)))
    headings = page.sections["curves"]
    assert "Grad norm" in headings
    assert "Probe" in headings
    assert "Memory mib" not in headings  # it never changes: a number, no curve
    for word in ("memory_mib", "31,234", "device", "card 0"):
        assert word in headings
    assert len(page.all("svg")) == 6


def test_a_task_with_very_many_names(make_run, parse, line):
    lines = [line(s, **{f"part_{i}": s * i for i in range(1, 60)}) for s in (1, 2)]
    page = parse(write_report(make_run(lines=lines)))
    assert len(page.all("svg")) == 4 + 24
    assert "part_59" in page.sections["curves"]


def test_values_that_are_no_numbers(make_run, parse, line):
    lines = [line(s) for s in range(1, 40)]
    lines[3]["loss"] = float("nan")
    lines[4]["loss"] = float("inf")
    lines[5]["loss"] = None
    lines[6]["loss"] = 1e308
    lines[7]["lr"] = 10**400
    lines[8]["grad_norm"] = float("nan")
    page = parse(write_report(make_run(lines=lines)))
    assert "3 values of loss (train) not finite" in page.text
    assert "1 value of lr (train) not finite" in page.text
    assert "1 value of grad_norm (train) not finite" in page.text
    assert "nan" not in page.text.lower().replace("(nan or", "")


def test_only_the_last_line_may_be_torn(make_run, parse, line):
    torn = json.dumps(line(3))[:25]
    assert "damaged" not in parse(write_report(make_run(lines=[line(1), line(2), torn]))).text
    run = make_run(lines=[line(1), torn + "\n", "[1]\n", line(2)], name="worse")
    page = parse(write_report(run))
    assert "2 damaged lines of metrics.jsonl were left out. They are numbers 2, 3." in page.text
    assert "2 steps" in page.text


def test_the_results_table(make_run, parse):
    run = make_run()
    table = {"title": "Linear probe", "columns": ["encoder", "top 1"], "note": "Five splits."}
    table["rows"] = [["ours", 0.812345], ["random", None], [True, 12345]]
    (run / "table.json").write_text(json.dumps(table))
    text = parse(write_report(run)).sections["results"]
    for word in ("Linear probe", "encoder", "0.8123", "none", "yes", "12,345", "Five splits."):
        assert word in text


@pytest.mark.parametrize("broken", ["{", "[]", '{"columns": 3, "rows": []}', '{"columns": ["a"], "rows": [1]}'])
def test_a_damaged_results_table_is_named(make_run, parse, broken):
    run = make_run()
    (run / "table.json").write_text(broken)
    page = parse(write_report(run))
    assert "table.json is damaged" in page.text
    assert "results" not in page.sections


@pytest.mark.parametrize(
    ("better", "step", "green"),
    [(True, 60, True), (False, 60, False), (False, None, False), (False, 40, True), (None, 60, True)],
    ids=["better", "no better", "of a step not said", "before it went on", "uncertain"],
)
def test_finished_is_not_green_if_a_probe_found_nothing(make_run, parse, line, better, step, green):
    run = make_run(lines=[*(line(s) for s in range(1, 61)), END])
    table = {"title": "Was it worth it?", "columns": ["features"], "rows": [["this run"]], "better": better}
    table["step"] = step
    (run / "table-probe.json").write_text(json.dumps(table))
    page = parse(write_report(run))
    assert ('class="lead finished"' in page.html) == green
    assert ('class="lead finished unlearned"' in page.html) != green
    assert ("too few steps or too few images" in page.text) != green


def test_the_log(make_run, parse):
    run = make_run()
    lines = [f"line number {i}." for i in range(20000)]
    lines[-100] = "WARNING: disk nearly full"
    (run / "log.txt").write_text("\n".join(lines))
    text = parse(write_report(run)).sections["log"]
    assert "Last 30 lines" in text
    assert "line number 19999." in text
    assert "line number 19970." in text
    assert "line number 19969." not in text
    assert "disk nearly full" in text


def test_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match="not a folder") as caught:
        write_report(tmp_path / "none")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match=r"it has no config\.json"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_damaged_config(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.json") as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_page_is_replaced_whole_or_not_at_all(make_run, monkeypatch):
    run = make_run()
    first = write_report(run).read_text()
    seen = []

    def refuse(source, target):
        seen.append((source.parent, source.read_text()[-8:], target.read_text() == first))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convnextv2.atomic.os.replace", refuse)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        write_report(run)
    # Written whole beside the old page, on the same file system, and cleared away afterwards.
    assert seen == [(run, "\n</html>", True)]
    assert (run / "report.html").read_text() == first
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "pictures", "report.html"]


def test_a_second_report_replaces_the_first(make_run, line):
    run = make_run(lines=[line(1)])
    assert "1 step," in write_report(run).read_text()
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line(2)) + "\n")
    assert "2 steps," in write_report(run).read_text()


def test_the_same_run_gives_the_same_page(make_run, line):
    run = make_run(lines=[line(s) for s in range(1, 30)] + [END], pictures=2)
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_importing_the_room_leaves_matplotlib_alone():
    code = "import sys, convnextv2.report; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_matplotlib_keeps_its_settings(make_run, line):
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_report(make_run(lines=[line(1), line(2)]))
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_run_that_an_earlier_version_wrote_has_a_whole_page_without_a_description(make_run, parse, line, config):
    del config["report"]
    page = parse(write_report(make_run(config, [line(30), line(60), END], pictures=2)))
    assert "pretrain convnextv2_atto" in page.text
    assert "Finished on 1,536 images: 10 epochs, 60 steps" in page.text
    assert "Reconstruction after 200 steps" in page.sections["images"]
    assert "--resume" in page.sections["go-on"]


@pytest.mark.parametrize(
    "said",
    [
        7,
        {"metrics": "none", "samples": [3], "commands": [["one"], 4], "headline": 5},
        {"primary": "top1", "metrics": [{"title": None}], "samples": [{"kind": "a", "columns": "b", "caption": None}]},
    ],
)
def test_a_description_of_another_shape_is_passed_over(make_run, parse, line, config, said):
    config["report"] = said
    assert "pretrain convnextv2_atto" in parse(write_report(make_run(config, [line(60), END], pictures=1))).text


def test_this_room_knows_no_task():
    """Neither a verb nor a metric nor a kind of image of any task."""
    verbs = ("pretrain", "classify", "segment", "detect", "predict", "embed")
    words = (*verbs, "top1", "top-1", "ece", "auroc", "reconstruction", "confusion", "fcmae")
    for path in Path(report.__file__).parent.iterdir():
        if path.suffix in (".py", ".j2", ".css"):
            found = [word for word in words if re.search(rf"\b{word}\b", path.read_text(), re.IGNORECASE)]
            assert not found, path.name


@pytest.mark.parametrize(("loss", "advice", "green"), [(0.4, [], True), (1.01, [], False), (0.4, ["few steps"], False)])
def test_pre_training_that_is_too_short_or_learned_nothing_is_not_green(
    make_run, parse, config, line, loss, advice, green
):
    end = {"step": 60, "epoch": 10.0, "phase": "end", "time": 120.0, "hours": 0.03, "images_per_second": 90.0}
    run = make_run(config | {"advice": advice}, [*(line(step) | {"loss": loss} for step in range(1, 61)), end])
    assert ('class="lead finished"' in parse(write_report(run)).html) == green


def test_a_config_that_is_not_as_the_run_wrote_it_is_told(make_run, parse):
    config = seal.sealed({"verb": "pretrain", "settings": {"epochs": 10}, "data": {"pictures": 12}})
    assert "not as the run wrote it" not in parse(write_report(make_run(config=config, name="whole"))).text
    config["settings"]["epochs"] = 11
    assert "config.json is not as the run wrote it" in parse(write_report(make_run(config=config))).text
