"""Judging frozen features."""

import json
import math
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import SMALL

import convnextv2.verbs.probe.probe as probe_module
from convnextv2 import pretrain, probe
from convnextv2.cli import main
from convnextv2.data.labels.splits import read_splits
from convnextv2.data.loading.read_each import read_each
from convnextv2.errors import UserError
from convnextv2.inference import reader
from convnextv2.verbs.probe import heads
from convnextv2.verbs.probe.heads import STRENGTHS, held_out, linear_probe, nearest_neighbours
from convnextv2.verbs.probe.result import ProbeResult, ProbeRow, Score
from convnextv2.verbs.probe.settings import ProbeSettings


@pytest.fixture(scope="module")
def run(picture_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe") / "run"
    pretrain(picture_folder, folder, **SMALL, epochs=2)
    return folder


def clouds(rng, count, classes, distance):
    """Points around centres that lie `distance` standard deviations apart or so: features and labels."""
    labels = rng.integers(0, classes, count)
    features = rng.normal(size=(count, 8)) + distance * np.eye(8)[labels]
    return features.astype(np.float32), labels


@pytest.mark.parametrize("cells", [heads._CELLS, 50])
def test_neighbours_vote_as_a_plain_loop_says(cells, monkeypatch):
    monkeypatch.setattr(heads, "_CELLS", cells)  # all of the others at once, or two at a time
    rng = np.random.default_rng(0)
    train, labels = clouds(rng, 25, 3, 1.0)
    others, _ = clouds(rng, 40, 3, 1.0)
    expected = []
    for other in others:
        cosines = [float(other @ row / np.linalg.norm(other) / np.linalg.norm(row)) for row in train]
        votes = [0.0, 0.0, 0.0]
        for place in sorted(range(25), key=lambda place: -cosines[place])[:7]:
            votes[labels[place]] += math.exp(cosines[place] / 0.07)
        expected.append(votes.index(max(votes)))
    assert len(set(expected)) == 3
    assert nearest_neighbours(train, labels, others, k=7).tolist() == expected


def test_a_near_vote_outweighs_two_far_ones():
    train = np.array([[1, 0.1], [1, 2], [1, 2]], np.float32)
    one = np.array([[1, 0]], np.float32)
    assert nearest_neighbours(train, np.array([1, 0, 0]), one, k=3).tolist() == [1]
    assert nearest_neighbours(train, np.array([1, 0, 0]), one, k=3, temperature=100).tolist() == [0]


def test_the_linear_probe_separates_what_can_be_and_nothing_else():
    rng = np.random.default_rng(0)
    train, labels = clouds(rng, 400, 4, 9.0)
    others, truth = clouds(rng, 400, 4, 9.0)
    found = linear_probe(train, labels, others, truth)
    assert found.value > 0.99
    assert found.chosen
    assert found.converged
    assert abs(linear_probe(train, rng.permutation(labels), others, truth).value - 0.25) < 0.08


def test_the_scale_of_a_feature_changes_nothing():
    rng = np.random.default_rng(1)
    train, labels = clouds(rng, 200, 4, 2.0)
    others, truth = clouds(rng, 200, 4, 2.0)
    stretch = np.float32(2.0) ** np.arange(-4, 4, dtype=np.float32)
    one, other = (linear_probe(train * by, labels, others * by, truth) for by in (np.float32(1), stretch))
    assert one == other
    assert 0.4 < one.value < 0.95


def test_the_strength_is_chosen_without_what_is_judged():
    rng = np.random.default_rng(2)
    train, labels = clouds(rng, 300, 3, 1.0)
    for _ in range(3):
        others, truth = clouds(rng, 30, 3, 1.0)
        found = linear_probe(train, labels, others, truth)
        assert found.strength == linear_probe(train, labels, others, 1 - truth.clip(max=1)).strength
        assert found.strength in STRENGTHS


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_fifth_of_every_class_is_held_out(labels, seed):
    labels = np.array(labels)
    held = held_out(labels, seed)
    for label in np.unique(labels):
        count, out = int((labels == label).sum()), int(held[labels == label].sum())
        assert out == (0 if count == 1 else max(1, round(count / 5)))
        assert out < count
    np.testing.assert_array_equal(held, held_out(labels, seed))


def test_one_label_a_class_is_enough_to_fit_and_too_little_to_choose():
    rng = np.random.default_rng(0)
    others, truth = clouds(rng, 100, 4, 20.0)
    found = linear_probe(20 * np.eye(8, dtype=np.float32)[:4], np.arange(4), others, truth)
    assert not found.chosen
    assert found.value > 0.99


def test_a_fit_that_was_stopped_early_says_so(monkeypatch):
    monkeypatch.setattr(heads, "ITERATIONS", 2)
    rng = np.random.default_rng(0)
    train, labels = clouds(rng, 100, 4, 2.0)
    assert not linear_probe(train, labels, train, labels).converged


def test_several_labels_are_judged_one_by_one():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6)).astype(np.float32)
    labels = (features[:, :4] > 0.5).astype(np.float32)
    labels[:, 3] = 0  # no picture has it, here or there: it is no part of the mean
    assert linear_probe(features[:200], labels[:200], features[200:], labels[200:]).value > 0.95
    lost = labels.copy()
    lost[:200, 2] = 0  # known of no training picture: ranked by nothing, worth the share that has it
    found = linear_probe(features[:200], lost[:200], features[200:], lost[200:])
    rest = linear_probe(features[:200], labels[:200, :2], features[200:], labels[200:, :2])
    assert found.strength == rest.strength
    assert found.value == pytest.approx((2 * rest.value + labels[200:, 2].mean()) / 3, abs=1e-3)


def test_a_run_is_judged_beside_random_weights(run, picture_folder, tmp_path):
    out = tmp_path / "new" / "probe.json"
    lines = []
    result = probe(run, picture_folder, neighbours=50, workers=0, out=out, say=lines.append)
    assert [row.name for row in result.rows] == ["this run", "random weights"]
    assert (result.metric, result.split, result.classes) == ("top1", "val", 2)
    assert (result.labelled, result.judged, result.neighbours) == (32, 8, 32)
    assert "k-NN with k=32 in place of 50: there are no more labelled images" in result.notes
    assert any("8 of 40 images were drawn for val" in note for note in result.notes)
    for row in result.rows:
        assert row.linear.std is None
        assert row.linear.mean in [part / 8 for part in range(9)]
    assert "32 images" in lines[0]
    read = json.loads(out.read_text())
    assert read["rows"][0]["linear"]["mean"] == result.rows[0].linear.mean
    assert read["sentence"] == result.sentence
    assert read["settings"]["neighbours"] == 50
    with pytest.raises(UserError, match="nothing is overwritten"):
        probe(run, picture_folder, out=out)
    again = probe(run, picture_folder, neighbours=50, workers=1, batch_size=7, against=run)
    assert again.rows[:2] == result.rows
    assert again.rows[2].linear == result.rows[0].linear


def test_the_result_is_added_to_the_page_of_the_run(run, picture_folder, monkeypatch):
    lines = []
    result = probe(run, picture_folder, say=lines.append)
    page = (run / "report.html").read_text()
    assert "Was it worth it?" in page
    assert all(f"<td>{row.name}</td><td>{row.linear}</td>" in page for row in result.rows)
    assert lines[-1] == f"added to {run / 'report.html'}"

    def refuse(*_):
        raise OSError("read-only")

    monkeypatch.setattr("convnextv2.verbs.probe.probe.write_text_atomically", refuse)
    probe(run, picture_folder, say=lines.append)  # a run that may only be read is probed all the same
    assert not lines[-1].startswith("added")


def test_random_weights_are_those_of_the_seed_and_of_nothing_else(run, picture_folder):
    import torch

    from convnextv2 import create_model, load

    encoder = load(run)
    state = torch.get_rng_state()
    random = encoder.with_random_weights(5).model.state_dict()
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(5)
    shape = {name: SMALL[name] for name in ("depths", "dims", "stem_stride")}
    expected = create_model(SMALL["model"], num_classes=0, **shape).state_dict()
    assert all(torch.equal(random[name], expected[name]) for name in expected)
    assert not torch.equal(random["stages.0.0.dwconv.weight"], encoder.model.state_dict()["stages.0.0.dwconv.weight"])


def test_few_labels_are_drawn_several_times(run, picture_folder, monkeypatch):
    drawn = []

    def watched(features, labels, *rest, **options):
        drawn.append((features, labels))
        return linear_probe(features, labels, *rest, **options)

    monkeypatch.setattr(probe_module, "linear_probe", watched)
    few = probe(run, picture_folder, labels_per_class=3, draws=2, workers=0)
    assert [np.bincount(labels).tolist() for _, labels in drawn] == [[3, 3]] * 4
    assert not np.array_equal(drawn[0][0], drawn[1][0])
    assert len(few.rows[0].linear.values) == 2
    assert few.rows[0].linear.std is not None
    assert few.labelled == few.neighbours == 6
    drawn.clear()
    share = probe(run, picture_folder, label_fraction=0.25, draws=1, workers=0)
    assert [np.bincount(labels).tolist() for _, labels in drawn] == [[4, 4]] * 2
    assert share.rows[0].linear.std is None


def test_labels_that_are_several_have_no_neighbours(run, picture_folder, tmp_path):
    names = sorted(picture_folder.rglob("*.png"))
    words = ["red", "blue", "red;blue", ""]
    rows = [f"{name},{words[number % 4]},{'test' if number % 5 == 0 else 'train'}" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    result = probe(run, tmp_path / "labels.csv", split="test", workers=0)
    assert (result.metric, result.split, result.judged) == ("map", "test", 8)
    assert result.rows[0].knn is None
    assert 0 < result.rows[0].linear.mean <= 1
    assert "k-NN" not in result.sentence
    assert result.sentence.endswith("its uncertainty is not known.")
    with pytest.raises(UserError, match="label_fraction"):
        probe(run, tmp_path / "labels.csv", labels_per_class=2)


def test_groups_are_on_one_side_and_labels_are_cut_as_asked(run, picture_folder, tmp_path, monkeypatch):
    sides = []

    def watched(*arguments, **options):
        read = read_splits(*arguments, **options)
        sides.append([set(part.images.names) for part in (read.train, read.val) if part is not None])
        return read

    monkeypatch.setattr(probe_module, "read_splits", watched)
    names = sorted(path.relative_to(picture_folder).as_posix() for path in picture_folder.rglob("*.png"))
    patient = {name: str(int(name[5:7]) // 4) for name in names}  # four pictures each, two of every class
    rows = [f"{picture_folder}/{name},{name[:4]} | grey,{patient[name]}" for name in names]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient", *rows]))
    table = probe(run, tmp_path / "labels.csv", group_column="patient", label_separator="|", workers=0)
    assert (table.metric, table.classes) == ("map", 3)
    tens = probe(run, picture_folder, group_pattern=r"/(\d)", workers=0)
    assert tens.metric == "top1"
    assert probe(run, picture_folder, multi_label=True, workers=0).metric == "map"
    for (train, val), group in zip(sides, (lambda name: patient[name[-11:]], lambda name: name[5]), strict=False):
        assert len(train) + len(val) == 40
        assert not {group(name) for name in train} & {group(name) for name in val}
        assert len({group(name) for name in val}) >= 1


def test_no_more_processes_read_than_there_are_batches(run, picture_folder, monkeypatch):
    asked = []

    def watched(*arguments, workers, **options):
        asked.append(workers)
        return read_each(*arguments, workers=0, **options)

    monkeypatch.setattr(reader, "read_each", watched)
    probe(run, picture_folder, workers=3, batch_size=12)
    assert asked == [2, 0]  # 32 images to learn from, 8 to evaluate on


def test_pictures_that_cannot_be_read_are_told_and_left_out(run, picture_folder, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(picture_folder, folder)
    for name in ("dogs/00.png", "cats/01.png", "cats/03.png"):
        (folder / name).write_bytes(b"nothing")
    result = probe(run, folder, val_fraction=0.5, workers=0)
    assert result.labelled + result.judged == 37
    assert any("cannot be read and are left out" in note for note in result.notes)
    for name in folder.glob("cats/*.png"):
        name.write_bytes(b"nothing")
    with pytest.raises(UserError, match="all of one class"):
        probe(run, folder, workers=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run": "absent"}, "no run and no file at absent"),
        ({"data": "absent"}, "absent does not exist"),
        ({"against": "absent"}, "no run and no file at absent"),
        ({"val_fraction": 0.0}, "no test images to evaluate on"),
        ({"split": "test"}, "leave out split"),
        ({"labels_per_class": 0}, "labels_per_class=0"),
        ({"labels_per_class": 3, "label_fraction": 0.5}, "give one of them"),
        ({"label_fraction": 0.0}, "label_fraction=0"),
        ({"neighbours": 0}, "neighbours=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"out": "probe.txt"}, "ends in .json"),
        ({"group_column": "patient"}, "give group_pattern"),
        ({"group_column": "patient", "group_pattern": "."}, "give one of them"),
    ],
)
def test_a_mistake_is_told_in_one_line(run, picture_folder, changes, words):
    with pytest.raises(UserError) as caught:
        probe(**{"run": run, "data": picture_folder, "workers": 0, **changes})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def result_of(pairs, metric: Literal["top1", "map"] = "top1", judged=1000):
    """A result of (linear, k-NN) for this run and for random weights."""
    rows = [
        ProbeRow(name, Score.of(linear), None if knn is None else Score.of(knn), (0.1,))
        for name, (linear, knn) in zip(("this run", "random weights"), pairs, strict=True)
    ]
    return ProbeResult(tuple(rows), metric, "val", 10, 100, judged, 20, 32, Path(), ())


def test_the_sentence_claims_no_more_than_the_numbers():
    far = result_of([([0.8], [0.7]), ([0.5], [0.69])]).sentence
    assert "adds 30.0 points by the linear probe" in far
    assert "makes no clear difference (+1.0 points) by k-NN" in far
    assert "loses 30.0 points" in result_of([([0.5], [0.5]), ([0.8], [0.5])]).sentence
    assert "no clear difference" in result_of([([0.8], [0.7]), ([0.5], [0.5])], judged=10).sentence
    assert "no clear difference" in result_of([([0.5, 0.9], None), ([0.5, 0.7], None)], metric="map").sentence
    drawn = result_of([([0.8, 0.81], None), ([0.5, 0.52], None)], metric="map").sentence
    assert "adds 29.5 points by the linear probe, as far as the draws of labels tell." in drawn
    once = result_of([([0.8], None), ([0.5], None)], metric="map").sentence
    assert "makes a difference of +30.0 points by the linear probe; its uncertainty is not known." in once
    assert str(Score.of([0.5, 0.7, 0.9])) == "70.0 % ± 20.0"


@pytest.mark.parametrize(
    ("pairs", "metric", "better"),
    [
        ([([0.8], [0.7]), ([0.5], [0.69])], "top1", True),
        ([([0.5], [0.7]), ([0.5], [0.5])], "top1", True),
        ([([0.5], [0.5]), ([0.8], [0.5])], "top1", False),
        ([([0.51], [0.5]), ([0.5], [0.5])], "top1", False),
        ([([0.8], None), ([0.5], None)], "map", None),
        ([([0.4], None), ([0.5], None)], "map", False),
        ([([0.8, 0.81], None), ([0.5, 0.52], None)], "map", True),
    ],
    ids=["linear", "k-NN only", "worse", "luck", "map once", "map worse", "map drawn"],
)
def test_a_run_is_better_only_beyond_the_uncertainty(pairs, metric, better):
    assert result_of(pairs, metric=metric).better is better


def test_the_command_line_prints_a_table_and_a_sentence(run, picture_folder, tmp_path, command):
    out = tmp_path / "probe.json"
    done = command("probe", "--run", run, "--data", picture_folder, "--label-fraction", 0.5, "--out", out)
    assert done.returncode == 0, done.stderr
    for words in (
        "this run",
        "random weights",
        "linear probe",
        "k-NN (k=16)",
        "16 labels (mean ± standard deviation of 3 draws)",
    ):
        assert words in done.stdout
    assert done.stdout.splitlines()[-1] == json.loads(out.read_text())["sentence"]
    assert "note: k-NN with k=16 in place of 20" in done.stderr


def test_the_command_line_hands_on_what_was_named_and_nothing_else(monkeypatch, tmp_path):
    handed = {}
    monkeypatch.chdir(tmp_path)
    for name in ("r", "d"):
        (tmp_path / name).mkdir()

    def judge(run, data, *, say, **options):
        handed.update(options, run=run, data=data)
        raise UserError("seen enough")

    monkeypatch.setattr(probe_module, "probe", judge)
    words = [
        "probe",
        "--run",
        "r",
        "--data",
        "d",
        "--draws",
        "3",
        "--multi-label",
        "--val-fraction=0.5",
        "--out",
        "o.json",
    ]
    with pytest.raises(SystemExit):
        main(words)
    assert handed == {
        "run": "r", "data": Path("d"), "draws": 3, "multi_label": True, "val_fraction": 0.5, "out": Path("o.json")
    }  # fmt: skip
    assert handed.keys() - {"run", "data"} <= set(ProbeSettings.names())
