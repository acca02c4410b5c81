"""Judging a trained classifier: its numbers against a plain loop, the choice of pictures, the files it leaves."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import SMALL, SMALL_CLASSIFIER

from convnextv2 import classify, evaluate, pretrain
from convnextv2.cli import main
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.errors import LoadError, RunFailedError, UserError
from convnextv2.inference import progress
from convnextv2.models import create_model
from convnextv2.tasks.classify.evaluate_settings import EvaluateSettings
from convnextv2.tasks.classify.load import load_classifier
from convnextv2.verbs import evaluate as room
from convnextv2.weights.files import EMA_PREFIX, load_tensors, save_tensors
from convnextv2.weights.model_file import write_encoder

PLAIN: dict[str, Any] = {"precision": "fp32", "workers": 0}


@pytest.fixture(scope="module")
def split_folder(picture_folder, tmp_path_factory):
    """The 40 pictures as train (24), val (10) and test (6)."""
    folder = tmp_path_factory.mktemp("split")
    for number, path in enumerate(sorted(picture_folder.rglob("*.png"), key=lambda path: path.name)):
        split = "train" if number < 24 else "val" if number < 34 else "test"
        target = folder / split / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def run(split_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    classify(split_folder, folder, **SMALL_CLASSIFIER, epochs=3)
    return folder


def rewritten(file, target, tensors=lambda name: True, **metadata):
    """A classifier's file with other metadata, or without some of its tensors."""
    held, said = load_tensors(file)
    save_tensors(target, {name: value for name, value in held.items() if tensors(name)}, said | metadata)
    return target


def by_hand(classifier, paths, fit):
    """Logits (N, K), one picture at a time."""
    statistics = classifier.preprocessing
    mean, std = (torch.tensor(part)[:, None, None] for part in (statistics.mean, statistics.std))
    rows = []
    for path in paths:
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        with torch.no_grad():
            rows.append(classifier.model((fit(pixels).float() / 255 - mean)[None] / std)[0])
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("options", "fit"),
    [
        ({}, CenterFit(32)),
        ({"weights": "plain", "batch_size": 3, "workers": 1}, CenterFit(32)),
        ({"image_size": 40, "crop_pct": 1.0}, CenterFit(40, crop_pct=1.0)),
        ({"image_size": 48, "resize": "whole"}, CenterFit(48, resize="whole")),
        ({"image_size": 64, "resize": "crop", "split": "test"}, CenterFit(64, crop_pct=0.875)),
    ],
)
def test_scores_are_those_of_a_plain_loop(run, split_folder, options, fit):
    found = evaluate(run, split_folder, **PLAIN | options)
    weights = options.get("weights", "average")
    paths = sorted((split_folder / options.get("split", "val")).rglob("*.png"))
    logits = by_hand(load_classifier(run, weights=weights), paths, fit)
    labels = [found.data.classes.index(path.parent.name) for path in paths]
    rows = [[math.exp(value) for value in row] for row in logits.tolist()]
    losses = [math.log(sum(row)) - math.log(row[label]) for row, label in zip(rows, labels, strict=True)]
    right = [row[label] > row[1 - label] for row, label in zip(rows, labels, strict=True)]
    assert list(found.scores) == [weights]
    scores = found.scores[weights]
    assert scores["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert scores["top1"] == sum(right) / len(right)
    assert found.outputs[weights].labels.tolist() == labels
    torch.testing.assert_close(found.outputs[weights].logits, logits, rtol=1e-4, atol=1e-5)


def test_both_kinds_of_weights_score_as_the_run_said(run, split_folder):
    found = evaluate(run, split_folder, weights="both", **PLAIN)
    said = json.loads((run / "scores.json").read_text())["val"]
    assert list(found.scores) == ["average", "plain"]
    for weights, scores in found.scores.items():
        assert scores == pytest.approx(said[weights], rel=1e-5)
    assert not torch.equal(found.outputs["average"].logits, found.outputs["plain"].logits)
    assert [row[0] for row in found.table()["rows"]] == ["val, average weights", "val, plain weights"]


def test_a_long_evaluation_says_how_far_it_is(run, split_folder, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", -1.0)
    said = []
    evaluate(run, split_folder, batch_size=4, workers=0, say=said.append)
    assert said == ["  4 of 10", "  8 of 10", "  10 of 10"]


def test_a_checkpoint_can_be_named(run, split_folder):
    for which in ("best", "latest"):
        found = evaluate(run, split_folder, checkpoint=which, **PLAIN)
        assert found.model_file.parent.name == (run / "checkpoints" / which).read_text().strip()


def test_a_file_without_averages_is_judged_as_it_is(run, split_folder, tmp_path):
    file = rewritten(
        load_classifier(run).file, tmp_path / "plain.safetensors", lambda name: not name.startswith(EMA_PREFIX)
    )
    expected = evaluate(run, split_folder, weights="plain", **PLAIN).scores
    for weights in ("average", "both", "plain"):
        found = evaluate(file, split_folder, weights=weights, **PLAIN)
        assert found.scores == expected
        assert ("no EMA" in found.notes[1]) == (weights != "plain")


def test_which_pictures_are_judged_and_that_it_is_said(run, split_folder, picture_folder, tmp_path):
    def judged(source, **options):
        found = evaluate(run, source, **PLAIN | options)
        return found.split, len(found.data), found.notes[0]

    assert judged(split_folder) == ("val", 10, f"val of {split_folder}: 10 images")
    assert judged(split_folder, split="train")[:2] == ("train", 24)
    assert judged(picture_folder) == ("all", 40, f"all of {picture_folder}, which is not split: 40 images")
    (tmp_path / "part").mkdir()
    for split, count in (("train", 24), ("test", 6)):
        (tmp_path / "part" / split).symlink_to(split_folder / split)
        said = judged(tmp_path / "part")
        assert said[:2] == (split, count)
        assert ("no val or test" in said[2]) == (split == "train")
    rows = [f"{path},{path.parent.name}" for path in sorted(picture_folder.rglob("*.png"))]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *rows]))
    assert judged(table)[:2] == ("all", 40)
    for split in ("train", "val", "test"):
        with pytest.raises(UserError, match=rf"split='{split}': .*labels.csv is not split: leave out split"):
            judged(table, split=split)
    splits = ["train", "train", "test", "test", "test"] * 8
    table.write_text("\n".join(["path,label,split", *(f"{row},{s}" for row, s in zip(rows, splits, strict=True))]))
    assert judged(table)[:2] == ("test", 24)


def test_it_is_said_where_pictures_of_the_training_are_judged(run, split_folder, picture_folder, tmp_path, monkeypatch):
    words = "most of these may be images it was trained on"
    monkeypatch.chdir(split_folder)
    shares = load_classifier(run).info.trained_on
    assert shares == split_folder.name
    # What the run was trained on is split; what a link leads to has another name.
    assert not any(words in note for note in evaluate(run, ".", **PLAIN).notes)
    (tmp_path / shares).symlink_to(picture_folder)
    assert not any(words in note for note in evaluate(run, tmp_path / shares, **PLAIN).notes)
    unsplit = rewritten(load_classifier(run).file, tmp_path / "unsplit.safetensors", trained_on=picture_folder.name)
    monkeypatch.chdir(picture_folder)
    for source in (picture_folder, ".", tmp_path / shares):
        assert [words in note for note in evaluate(unsplit, source, **PLAIN).notes] == [False, True, False, False]


def test_files_that_cannot_be_read_are_named_and_left_out(run, split_folder, tmp_path):
    data = tmp_path / "data"
    for path in sorted((split_folder / "test").rglob("*.png")):
        target = data / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    whole = evaluate(run, data, **PLAIN)
    broken = sorted(data.rglob("*.png"))[1]
    broken.write_bytes(b"no picture")
    found = evaluate(run, data, **PLAIN, batch_size=1, out=tmp_path / "out")
    assert [name for name, _ in found.bad] == [broken.relative_to(data).as_posix()]
    assert "1 of them unreadable" in found.notes[0]
    kept = [0, 2, 3, 4, 5]
    assert found.outputs["average"].indices.tolist() == kept
    torch.testing.assert_close(found.outputs["average"].logits, whole.outputs["average"].logits[kept])
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["unreadable"] == 1
    for path in data.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(RunFailedError, match="none of the 6 files"):
        evaluate(run, data, **PLAIN)


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_say_what_was_found(run, split_folder, tmp_path):
    found = evaluate(run, split_folder, weights="both", **PLAIN, out=tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {path.name for path in found.files} == names
    assert {"scores.json", "classes.csv", "predictions.csv", "confusion-matrix.png"} < names
    assert names & {"best-predictions.png", "worst-predictions.png"}
    said = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert said["scores"] == found.scores
    assert (said["split"], said["pictures"], said["image_size"], said["resize"]) == ("val", 10, 32, "crop")
    rows = read_table(tmp_path / "out" / "predictions.csv")
    assert [row["label"] for row in rows] == [row["path"].split("/")[-2] for row in rows]
    assert [row["path"] for row in rows] == sorted(map(str, (split_folder / "val").rglob("*.png")))
    chances = found.outputs["average"].logits.softmax(1)
    assert [row["predicted"] for row in rows] == [found.data.classes[k] for k in chances.argmax(1)]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(chances.amax(1).tolist(), abs=1e-6)
    classes = {row["name"]: row for row in read_table(tmp_path / "out" / "classes.csv")}
    for name, row in classes.items():
        mine = [each for each in rows if each["label"] == name]
        share = sum(each["predicted"] == name for each in mine) / len(mine)
        assert float(row["accuracy"]) == pytest.approx(share)
        assert int(row["pictures"]) == len(mine)
    with pytest.raises(UserError, match="not empty"):
        evaluate(run, split_folder, **PLAIN, out=tmp_path / "out")


def test_several_labels_a_picture(run, picture_folder, tmp_path):
    file = rewritten(load_classifier(run).file, tmp_path / "several.safetensors", multi_label="true")
    words = ("cats", "dogs", "cats;dogs", "")
    paths = sorted(picture_folder.rglob("*.png"))[:12]
    lines = [f"{path},{words[number % 4]}" for number, path in enumerate(paths)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    found = evaluate(file, tmp_path / "labels.csv", **PLAIN, out=tmp_path / "out")
    assert {"map", "f1"} < found.scores["average"].keys()
    said = found.outputs["average"].logits > 0
    rows = read_table(tmp_path / "out" / "predictions.csv")
    assert [row["label"] for row in rows] == [words[number % 4] for number in range(12)]
    assert [set(filter(None, row["predicted"].split(";"))) for row in rows] == [
        {name for name, on in zip(("cats", "dogs"), row, strict=True) if on} for row in said.tolist()
    ]
    assert (tmp_path / "out" / "worst-predictions.png").is_file()
    with pytest.raises(UserError, match="several labels per image"):
        evaluate(run, tmp_path / "labels.csv", **PLAIN)
    (tmp_path / "other.csv").write_text("\n".join(["path,label", *lines]).replace(";", " | "))
    with pytest.raises(UserError, match=r"1 class that the model does not have.*'cats \| dogs'"):
        evaluate(file, tmp_path / "other.csv", **PLAIN)
    again = evaluate(file, tmp_path / "other.csv", label_separator="|", **PLAIN)
    assert torch.equal(again.data.labels, found.data.labels)


def test_a_name_may_hold_what_separates_labels_elsewhere(run, picture_folder, tmp_path):
    classes = json.dumps(["cats; grey", "dogs"])
    file = rewritten(load_classifier(run).file, tmp_path / "model.safetensors", classes=classes)
    paths = sorted(picture_folder.rglob("*.png"))[:12]
    rows = [f"{path},{path.parent.name.replace('cats', 'cats; grey')},test" for path in paths]
    (tmp_path / "labels.tsv").write_text("\n".join(["path,label,split", *rows]).replace(",", "\t"))
    with pytest.raises(UserError, match="another label_separator"):
        evaluate(file, tmp_path / "labels.tsv", **PLAIN)
    found = evaluate(file, tmp_path / "labels.tsv", label_separator="|", **PLAIN)
    assert [found.data.classes[label] for label in found.data.labels.tolist()] == [row.split(",")[1] for row in rows]
    assert found.split == "test"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_pct": 0.0}, "crop_pct=0.0: give more than 0"),
        ({"crop_pct": 0.9, "resize": "whole"}, "give one of them"),
        ({"image_size": 4}, "image_size=4: give 8 or more"),
        ({"batch_size": 0}, "batch_size=0: give 1 or more"),
        ({"workers": -1}, "workers=-1: give 0 or more"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"split": "dev"}, "split='dev': give val, test or train"),
        ({"split": "val"}, "is not split: leave out split to evaluate on all of it, or name data with a val split"),
        ({"label_separator": "", "split": None, "data": "labels.csv"}, "an empty label_separator"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_no_folder(run, picture_folder, tmp_path, options, words):
    (tmp_path / "labels.csv").write_text(f"path,label\n{picture_folder}/cats/01.png,cats\n")
    data = tmp_path / options["data"] if "data" in options else picture_folder
    with pytest.raises(UserError, match=words) as caught:
        evaluate(run, **options | {"data": data}, out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_the_model_is_refused(run, picture_folder, split_folder, tmp_path):
    (tmp_path / "birds").symlink_to(picture_folder / "cats")
    with pytest.raises(UserError, match=r"1 class that the model does not have.*'birds'"):
        evaluate(run, tmp_path, **PLAIN)
    with pytest.raises(UserError, match="absent does not exist"):
        evaluate(run, tmp_path / "absent", **PLAIN)
    with pytest.raises(UserError, match="no run and no file"):
        evaluate(tmp_path / "absent", split_folder, **PLAIN)
    pretrain(picture_folder, tmp_path / "encoder", **SMALL, epochs=1)
    with pytest.raises(
        UserError, match=r"encoder is a masked autoencoder .* train a classifier with `convnextv2 classify"
    ):
        evaluate(tmp_path / "encoder", split_folder, **PLAIN)
    write_encoder(tmp_path / "encoder", tmp_path / "alone.safetensors")
    with pytest.raises(LoadError, match="is a pre-trained encoder, not a classifier"):
        evaluate(tmp_path / "alone.safetensors", split_folder, **PLAIN)


def test_a_picture_too_small_for_the_strides_is_refused_before_any_is_read(picture_folder, tmp_path):
    classify(picture_folder, tmp_path / "run", **SMALL_CLASSIFIER | {"stem_stride": 4}, epochs=0.25)
    with pytest.raises(UserError, match=r"image_size=16 does not suit .*; leave it out for 32"):
        evaluate(tmp_path / "run", picture_folder, image_size=16, **PLAIN)


def test_the_command_names_the_unreadable_and_prints_a_table(run, split_folder, tmp_path, command):
    rows = [f"{path},{path.parent.name}" for path in sorted((split_folder / "val").rglob("*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, "gone.png,cats"]))
    flags = ["--weights", "both", "--precision", "fp32", "--workers", 0]
    done = command("evaluate", "--run", run, "--data", "labels.csv", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skipped gone.png: " in done.stdout
    assert "all of labels.csv, which is not split: 11 images, 1 of them unreadable" in done.stdout
    scores = json.loads((run / "scores.json").read_text())["val"]
    for weights in ("average", "plain"):
        (row,) = (line for line in done.stdout.splitlines() if f"{weights} weights" in line)
        assert f" {100 * scores[weights]['top1']:.1f} %" in row


def test_the_command_line_hands_on_what_was_named_and_nothing_else(monkeypatch, tmp_path):
    handed: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    for name in ("r", "d"):
        (tmp_path / name).mkdir()

    def judge(run, data, *, say, **options):
        handed.update(options, run=run, data=data)
        raise UserError("seen enough")

    monkeypatch.setattr(room, "evaluate", judge)
    words = ["evaluate", "--run", "r", "--data", "d", "--split", "test", "--weights=both", "--batch-size", "64"]
    with pytest.raises(SystemExit):
        main([*words, "--crop-pct", "0.9", "--out", "o"])
    assert handed == {
        "run": "r", "data": Path("d"), "split": "test", "weights": "both", "batch_size": 64, "crop_pct": 0.9,
        "out": Path("o"),
    }  # fmt: skip
    assert handed.keys() - {"run", "data"} <= set(EvaluateSettings.names())


def test_a_published_classifier_is_judged_on_the_folders_of_imagenet(picture_folder, tmp_path):
    """Its classes have names, the folders WordNet ids; sorted, they are in the order of the head's rows."""
    ids = [f"n{10_000_000 + 137 * number}" for number in range(1000)]
    pictures = sorted(picture_folder.rglob("*.png"))
    for number, name in enumerate(ids):
        target = tmp_path / "imagenet" / "val" / name / "picture.png"
        target.parent.mkdir(parents=True)
        target.symlink_to(pictures[number % len(pictures)])
    file = tmp_path / "model.pt"
    torch.save(create_model("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)).state_dict(), file)
    found = evaluate(file, tmp_path / "imagenet", image_size=32, **PLAIN)
    assert found.data.labels.tolist() == list(range(1000))
    assert [name.split("/")[-2] for name in found.data.images.names] == ids
    assert (found.data.classes[0], len(found.data.classes)) == ("LABEL_0", 1000)
    assert "1000 folders of WordNet ids, in order the model's classes" in found.notes[0]
    (tmp_path / "imagenet" / "val" / ids[3] / "picture.png").unlink()
    (tmp_path / "imagenet" / "val" / ids[3]).rmdir()
    with pytest.raises(UserError, match="n10000000"):
        evaluate(file, tmp_path / "imagenet", image_size=32, **PLAIN)
