"""The page of a classifier's run: its words, plots, tables, images and data."""

import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
import scipy.stats
import torch
from PIL import Image

from convnextv2.data.files.folder import ImageList
from convnextv2.data.labels.labels import LabelledImages
from convnextv2.report import write_report
from convnextv2.report.verdict import interval
from convnextv2.tasks.classify.description import describe_run

EVALUATED = ("loss", "top1", "top5", "mean_class", "auroc", "ece")
END = {"step": 60, "epoch": 10.0, "phase": "end", "time": 5400.0, "hours": 1.5, "images_per_second": 2795.2}
SCORES = {"step": 40, "val": {"plain": {"top1": 0.6}, "average": {"top1": 0.7}}}
SCORES["test"] = {"plain": {"top1": 0.55}, "average": {"top1": 0.625}}


@pytest.fixture
def classifier(config):
    """The config.json of a run of ten classes."""
    sizes = {f"class {letter}": 100 + i for i, letter in enumerate("abcdefghij")}
    config |= {"verb": "classify", "model": {"name": "convnextv2_atto", "from": "runs/pretrained"}}
    config["data"] = {"source": "/data/cats", "pictures": 1045, "classes": 10, "pictures_by_class": sizes}
    config["data"] |= {"validation_pictures": 146, "test_pictures": 214, "notes": ["3 files were passed over"]}
    return said_by_the_task(config)


def said_by_the_task(config, several=False):
    """config.json with what classification says of such a run."""
    data, sizes = config["data"], config["data"]["pictures_by_class"]

    def images(amount):
        names = tuple(f"{number}.png" for number in range(amount))
        labels = torch.arange(amount) % len(sizes)
        if several:
            labels = torch.nn.functional.one_hot(labels, len(sizes)).float()
        return LabelledImages(ImageList(Path(), names, Path()), labels, tuple(sizes))

    source = config["model"].get("from")
    weights = None if source == "random weights" else source
    held_out = {"val": data["validation_pictures"], "test": data.get("test_pictures", 0)}
    held_out = {split: images(amount) for split, amount in held_out.items() if amount}
    said = describe_run(config["model"]["name"], images(data["pictures"]), weights, held_out)
    return config | {"report": json.loads(json.dumps(dataclasses.asdict(said)))}


def evaluation(step, averaged=True, names=EVALUATED):
    """A line of the eval phase; the plain weights are best at step 20, the averaged ones at step 40."""
    line = {"step": step, "epoch": step / 6, "phase": "eval", "time": step * 2.0}
    line |= {name: 0.7 - abs(step - 20) / 100 for name in names}
    return line | ({f"ema_{name}": 0.7 - abs(step - 40) / 100 for name in names} if averaged else {})


def lines_of(line, steps=60, **more):
    lines = []
    for step in range(1, steps + 1):
        lines.append(line(step, top1=step / 100))
        if step % 10 == 0:
            lines.append(evaluation(step, **more))
    return lines


def plots_of(page, section="curves"):
    """Title and legend of every small plot."""
    start = page.html.index(f'<section id="{section}">')
    html = page.html[start : page.html.index("</section>", start)]
    figures = re.findall(r"<h3>(.*?)</h3>(.*?)</figure>", html, flags=re.DOTALL)
    return {title: re.findall(r'<span class="(\w+)">(.*?)</span>', body) for title, body in figures}


def test_a_finished_classifier(make_run, parse, line, classifier):
    run = make_run(classifier, [*lines_of(line), END])
    (run / "scores.json").write_text(json.dumps(SCORES))
    page = parse(write_report(run))
    assert "A classifier of 10 classes: convnextv2_atto" in page.text
    expected = (
        "Finished: trained from the pre-trained weights runs/pretrained on 1,045 images of 10 classes. "
        "Best validation top-1 70.0 % (62.1 to 76.8 %) with averaged weights, at epoch 6.7; 62.5 % (55.8 to 68.7 %) "
        "on the test images. Chance is 10.3 % (always answering class a). In brackets: 95 % confidence, from the "
        "number of images. "
        "In all: 10 epochs, 60 steps, 2,795 images per second, 1.5 hours."
    )
    assert expected in page.text
    assert list(page.sections) == ["learning", "images", "curves", "data", "settings", "go-on"]


def test_without_averaged_weights_the_plain_ones_count(make_run, parse, line, classifier):
    classifier["model"]["from"] = "random weights"
    classifier = said_by_the_task(classifier)
    run = make_run(classifier, [*lines_of(line, averaged=False), END])
    (run / "scores.json").write_text(json.dumps({"test": {"plain": {"top1": 0.55}}}))
    page = parse(write_report(run))
    assert "trained from random weights on" in page.text
    assert (
        "Best validation top-1 70.0 % (62.1 to 76.8 %), at epoch 3.3; 55.0 % (48.3 to 61.5 %) on the test images."
        in page.text
    )
    assert "with averaged" not in page.text
    assert "Averaged" not in page.sections["learning"]
    assert plots_of(page, "learning")["Top-1"] == [("training", "training"), ("evaluation", "validation")]


def test_of_equal_scores_the_first_is_the_best(make_run, parse, line, classifier):
    lines = [line(30), *({**evaluation(step), "ema_top1": 0.5} for step in (12, 18, 24))]
    text = parse(write_report(make_run(classifier, lines))).text
    assert "Best validation top-1 50.0 % (42.0 to 58.0 %) with averaged weights, at epoch 2." in text


@pytest.mark.parametrize(
    ("log", "lines", "opening", "progress"),
    [
        (
            "",
            30,
            "Running: training from",
            "So far: 5 of 10 epochs, 30 steps, 101 images per second, 1.0 minutes; about",
        ),
        ("stopped by SIGTERM; saved\n", 30, "Stopped: training from", "So far: 5 of 10 epochs, 30 steps"),
        ("failed: the loss is not finite\n", 30, "Failed: training from", "So far: 5 of 10 epochs, 30 steps"),
        ("failed: out of memory\n", 0, "Failed: training from", "No training step has been recorded yet."),
    ],
    ids=["running", "stopped", "failed", "failed at once"],
)
def test_unfinished_runs(make_run, parse, line, classifier, log, lines, opening, progress):
    run = make_run(classifier, lines_of(line, lines))
    if log:
        (run / "log.txt").write_text(f"2026-11-23T05:20:00 {log}".replace(" failed", "  failed"))
    text = parse(write_report(run)).text
    assert opening in text
    assert progress in text


def test_a_run_whose_patience_is_out(make_run, parse, line, classifier):
    end = END | {"step": 30, "epoch": 5.0, "best_top1": 0.6, "best_step": 30}
    text = parse(write_report(make_run(classifier, [*lines_of(line, 30), end]))).text
    assert "Finished: trained from" in text
    assert "In all: 5 of 10 epochs, 30 steps" in text


def test_several_labels_an_image(make_run, parse, line, classifier):
    classifier["settings"]["multi_label"] = True
    classifier = said_by_the_task(classifier, several=True)
    lines = [line(60), *(evaluation(step, names=("loss", "map", "auroc", "f1", "ece")) for step in (20, 40)), END]
    run = make_run(classifier, lines)
    (run / "scores.json").write_text(json.dumps({"test": {"average": {"map": 0.625}}}))
    Image.new("RGB", (300, 150)).save(run / "pictures" / "worst-predictions.png")
    page = parse(write_report(run))
    assert "A classifier of 10 labels: convnextv2_atto" in page.text
    assert "on 1,045 images with 10 labels. Best validation mAP 70.0 % with averaged weights" in page.text
    assert "62.5 % on the test images" in page.text
    assert list(plots_of(page, "learning")) == ["mAP", "Loss"]
    assert {"F1", "AUROC", "Calibration error"} <= set(plots_of(page))
    assert "whose labels are furthest" in page.sections["images"]


def test_a_run_without_validation(make_run, parse, line, classifier):
    classifier["data"] |= {"validation_pictures": 0, "test_pictures": 0, "notes": []}
    classifier = said_by_the_task(classifier)
    text = parse(write_report(make_run(classifier, [line(60, top1=0.5), END]))).text
    assert "of 10 classes. In all: 10 epochs, 60 steps" in text
    assert "1,045 images to train." in text
    run = make_run(classifier, [line(60, top1=0.5), END], name="tested")
    (run / "scores.json").write_text(json.dumps(SCORES | {"val": {}}))
    assert "of 10 classes. Top-1 62.5 % on the test images. In all" in parse(write_report(run)).text


@pytest.mark.parametrize("images", [1, 20, 146, 100_000])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_the_uncertainty_is_wilson_s_interval(images, share):
    right = round(share * images)
    expected = scipy.stats.binomtest(right, images).proportion_ci(0.95, method="wilson")
    assert interval(right / images, images) == pytest.approx((expected.low, expected.high), abs=1e-4)


@pytest.mark.parametrize(
    ("top1", "better"),
    [(0.05, False), (0.12, False), (0.16, True), (0.9, True)],
    ids=["below", "luck", "above", "far above"],
)
def test_finished_is_green_only_above_chance(make_run, parse, line, classifier, top1, better):
    """Of 214 test images in 10 classes 22 are in the largest: chance is 10.3 %, and 14.8 % could still be luck."""
    run = make_run(classifier, [*lines_of(line), END])
    (run / "scores.json").write_text(json.dumps({"test": {"average": {"top1": top1}}}))
    page = parse(write_report(run))
    assert ('class="lead finished"' in page.html) == better
    assert ('class="lead finished unlearned"' in page.html) != better
    assert ("Chance is 10.3 % (always answering class a)" in page.text) == better
    assert ("no better than chance as far as 214 images can tell: 10.3 %" in page.text) != better
    assert ("has learned nothing that its numbers can show" in page.text) != better


def test_without_test_images_those_to_validate_with_decide(make_run, parse, line, classifier):
    lines = [line(30), evaluation(10, averaged=False) | {"top1": 0.11}, END]
    page = parse(write_report(make_run(classifier, lines)))
    assert "no better than chance as far as 146 images can tell: 10.3 % (always answering class a)" in page.text


def test_several_labels_are_compared_with_a_random_order(make_run, parse, line, classifier):
    classifier = said_by_the_task(classifier, several=True)
    low = [line(60), evaluation(20, averaged=False, names=("map",)) | {"map": 0.09}, END]
    assert (
        "no better than chance: 10.0 % (images in random order)" in parse(write_report(make_run(classifier, low))).text
    )
    high = [line(60), evaluation(20, averaged=False, names=("map",)) | {"map": 0.11}, END]
    text = parse(write_report(make_run(classifier, high, name="better"))).text
    assert "Best validation mAP 11.0 %, at epoch 3.3. Chance is 10.0 % (images in random order). In all" in text


def test_what_the_run_was_told_stays_on_its_page(make_run, parse, line, classifier):
    classifier["advice"] = ["3 steps are few: give --epochs 40", 7]
    page = parse(write_report(make_run(classifier, [*lines_of(line), END])))
    assert "3 steps are few: give --epochs 40" in page.text
    assert 'class="lead finished"' in page.html  # its score is above chance


@pytest.mark.parametrize(
    "baselines", [7, [], {"val": 1}, {"val": {"value": "x"}}, {"val": {"value": 0.1, "images": -1}}]
)
def test_odd_baselines_are_passed_over(make_run, parse, line, classifier, baselines):
    classifier["report"]["baselines"] = baselines
    assert (
        "Best validation top-1 70.0 % with averaged" in parse(write_report(make_run(classifier, lines_of(line)))).text
    )


def test_a_config_that_hardly_says_anything(make_run, parse):
    page = parse(write_report(make_run({"verb": "classify", "data": {"pictures_by_class": [1], "notes": "x"}})))
    assert "classify unnamed model" in page.text
    assert "Running: no training step has been recorded yet." in page.text
    assert "data" not in page.sections


@pytest.mark.parametrize("broken", ["{", "[]", "7"])
def test_damaged_scores_are_named(make_run, parse, line, classifier, broken):
    run = make_run(classifier, [*lines_of(line), END])
    (run / "scores.json").write_text(broken)
    text = parse(write_report(run)).text
    assert "scores.json is damaged and was left out." in text
    assert "with averaged weights, at epoch 6.7. Chance is 10.3 %" in text


@pytest.mark.parametrize("scores", [{"test": 1}, {"test": {"average": []}}, {"test": {"plain": {"top1": "high"}}}])
def test_odd_scores_are_passed_over(make_run, parse, line, classifier, scores):
    run = make_run(classifier, [*lines_of(line), END])
    (run / "scores.json").write_text(json.dumps(scores))
    assert "test images." not in parse(write_report(run)).text.split("In all")[0]


def test_plain_and_averaged_share_a_plot(make_run, parse, line, classifier):
    page = parse(write_report(make_run(classifier, lines_of(line))))
    both = [("second", "validation, plain"), ("evaluation", "validation, averaged")]
    learning = plots_of(page, "learning")
    assert learning == {name: [("training", "training"), *both] for name in ("Top-1", "Loss")}
    others = plots_of(page)
    assert [others[name] for name in ("Top-5", "Mean per class", "AUROC", "Calibration error")] == [both] * 4
    assert "Ema" not in " ".join(others)
    assert "%<" in page.html.split('id="learning"')[1].split("</svg>")[0]  # in percent
    assert len(page.all("svg")) == 2 + 2 + 4


def test_values_beyond_one_are_not_called_shares(make_run, parse, line, classifier):
    lines = [line(60), evaluation(20), evaluation(40) | {"top1": 70.0}]
    html = write_report(make_run(classifier, lines)).read_text()
    assert "%<" not in html.split('id="learning"')[1].split("</svg>")[0]


def table(rows, title="Classes", **more):
    return json.dumps({"title": title, "columns": ["class", "right"], "rows": rows} | more)


def test_several_tables_in_order(make_run, parse, classifier):
    run = make_run(classifier)
    for name, title in (("table-b", "Third"), ("table", "First"), ("table-a", "Second"), ("tables", "No table")):
        (run / f"{name}.json").write_text(table([["cat", "90.0 %"]], title))
    (run / "table-aa.json").write_text("{")
    page = parse(write_report(run))
    results = page.sections["results"]
    assert results.index("First") < results.index("Second") < results.index("Third")
    assert "No table" not in page.text
    assert "table-aa.json is damaged and was left out." in page.text


def test_long_tables_are_folded(make_run, parse, classifier):
    run = make_run(classifier)
    (run / "table.json").write_text(table([[f"row {i:03}", "1 %"] for i in range(30)], "Short"))
    (run / "table-classes.json").write_text(table([[f"line {i:03}", "1 %"] for i in range(31)], "Long", note="So."))
    page = parse(write_report(run))
    assert "row 029" not in page.folded
    assert "16 more rows" in page.folded
    assert "line 014" not in page.folded
    assert "line 015" in page.folded
    assert "line 030" in page.folded
    assert "So." not in page.folded


def test_the_images_in_their_order_with_a_sentence_each(make_run, parse, classifier):
    run = make_run(classifier)
    kinds = ("best-predictions", "step-00000060-training-pictures", "other", "worst-predictions", "confusion-matrix")
    for index, kind in enumerate(kinds):
        Image.new("RGB", (600, 150), (40 * index, 0, 0)).save(run / "pictures" / f"{kind}.png")
    page = parse(write_report(run))
    text = page.sections["images"]
    said = [
        "Confusion matrix", "the row is the true class", "Worst predictions", "look for wrong labels",
        "Best predictions", "The validation images classified correctly with most confidence",
        "Training images after 60 steps", "The input of training", "Other",
    ]  # fmt: skip
    places = [text.index(words) for words in said]
    assert places == sorted(places)
    assert "Masked: what it did see" not in page.text
    data = [attrs["src"].split(",", 1)[1] for attrs in page.all("img")]
    reds = [Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB").getpixel((0, 0))[0] for each in data]
    assert reds == [160, 120, 0, 40, 80]


def test_the_data(make_run, parse, classifier):
    page = parse(write_report(make_run(classifier)))
    text = page.sections["data"]
    assert "1,045 images to train, 146 to validate, 214 to test." in text
    assert "from 100 (class a) to 109 (class j) training images" in text
    assert text.index("class i") < text.index("class b")  # the largest first
    assert "3 files were passed over" in text
    assert "class a" not in page.sections["settings"]
    widths = [float(attrs["style"].removeprefix("width: ").removesuffix("%")) for attrs in page.all("i")]
    assert widths[0] == 100
    assert widths[-1] == pytest.approx(100 * 100 / 109, abs=0.1)


def test_many_classes_are_folded(make_run, parse, classifier):
    classifier["data"]["pictures_by_class"] = {f"kind {i:03}": 7 for i in range(200)}
    page = parse(write_report(make_run(classifier)))
    assert "Each class has 7 training images." in page.text
    assert "185 smaller classes" in page.folded
    assert "kind 014" not in page.folded
    assert "kind 199" in page.folded


def test_classes_without_images(make_run, parse, classifier):
    classifier["data"]["pictures_by_class"] = {"a": 0, "b": "many", "c": -1}
    page = parse(write_report(make_run(classifier)))
    assert "Each class has 0 training images." in page.text
    assert len(page.all("i")) == 1


def test_how_to_go_on(make_run, parse, line, classifier):
    run = make_run(classifier, [*lines_of(line), END], name="my run")
    text = parse(write_report(run)).sections["go-on"]
    said = [
        f"convnextv2 predict --run '{run}' images/",
        f"convnextv2 evaluate --run '{run}' --data DATA",
        f"convnextv2 classify --out '{run}' --resume",
    ]
    places = [text.index(command) for command in said]
    assert places == sorted(places)
    assert "embed" not in text
    unfinished = parse(write_report(make_run(classifier, lines_of(line), name="other"))).sections["go-on"]
    assert unfinished.index("--resume") < unfinished.index("predict")


def test_nothing_in_it_is_taken_for_markup(make_run, parse, line, classifier):
    evil = '<script>alert("1")</script>'
    classifier["model"] = {"name": evil, "from": evil}
    classifier["data"] |= {"pictures_by_class": {evil: 3, f"{evil}2": 4}, "notes": [evil]}
    classifier = said_by_the_task(classifier)
    run = make_run(classifier, lines_of(line))
    (run / "table-classes.json").write_text(table([[evil, evil]] * 40, evil, note=evil))
    page = parse(write_report(run))  # parse refuses any script
    assert page.text.count(evil) > 80
