"""Names of files and classes that would do something to a terminal or a spreadsheet, through every verb."""

import csv
import os
import re
import shutil
import unicodedata

import numpy as np
import pytest
from labelled import written
from small_run import SMALL_CLASSIFIER

from convnextv2 import classify, evaluate, predict
from convnextv2.cli import main
from convnextv2.data.labels.label_table import read_label_table
from convnextv2.data.labels.splits import read_splits
from convnextv2.tasks.classify.load import load_classifier
from convnextv2.text import from_csv_cell, unquoted

CLASSES = ["=1+1", "a\x1b[31mred", "\u202egpj", "no utf8 \udcff", "new\nline", "a;b", "-1", "cafe\u0301", "cat "]
IMAGES = [
    *("@SUM(A1).png", "\x1b]0;title\x07.png", "\x9b2J.png", "two\nlines.png"),
    *("\udcfe.png", "-x.png", " \t=1.png", "'a.png"),
]
# Of C0 and C1 but the end of a line, overrides of the direction, and bytes that are not UTF-8.
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_harmless(text):
    return not RAW.search(text)


@pytest.fixture(scope="module")
def folder(picture_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile") / "im\x1b[31mages"
    pictures = sorted(picture_folder.rglob("*.png"))
    for number, name in enumerate(CLASSES):
        for place in range(3):
            target = root / name / f"{place}{IMAGES[(number + place) % len(IMAGES)]}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(pictures[(3 * number + place) % len(pictures)], target)
    for number, name in enumerate(IMAGES):
        shutil.copy(pictures[-number - 1], root / CLASSES[0] / name)
    (root / CLASSES[1] / "broken\x1b[2J.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    classify(folder, out, **SMALL_CLASSIFIER, epochs=1, val_fraction=0.3, max_bad_fraction=0.5, cache=False)
    return out


def test_nothing_raw_in_what_a_run_leaves(run):
    assert sorted(load_classifier(run).classes) == sorted(CLASSES)
    texts = [path for path in run.rglob("*") if path.suffix in (".txt", ".json", ".jsonl", ".csv", ".html")]
    assert {"log.txt", "report.html", "config.json"} <= {path.name for path in texts}
    for path in texts:
        assert is_harmless(path.read_text(encoding="utf-8")), path.name
    assert "broken\\x1b[2J.png" in (run / "log.txt").read_text()


def test_predictions_come_back_exactly(run, folder, tmp_path, capfd):
    flags = ["--run", str(run), "--precision", "fp32", "--workers", "0"]
    with pytest.raises(SystemExit) as stopped:  # the broken file
        main(["predict", *flags, "--format", "csv", "--out", str(tmp_path / "p.csv"), str(folder)])
    assert stopped.value.code == 1
    with pytest.raises(SystemExit):
        main(["predict", *flags, "--format", "csv", str(folder)])
    with pytest.raises(SystemExit):
        main(["predict", *flags, str(folder)])
    said = capfd.readouterr()
    assert is_harmless(said.out)
    assert is_harmless(said.err)
    text = (tmp_path / "p.csv").read_text(encoding="utf-8")
    assert is_harmless(text)
    assert text in said.out
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert not [row for row in rows if row["path"][0] in "=+@\t\r" or row["label"][0] in "=+@\t\r"]
    expected = {each.path: each.labels[0].label for each in predict(run, folder, precision="fp32", workers=0)
                if each.error is None}  # fmt: skip
    assert {from_csv_cell(row["path"]): from_csv_cell(row["label"]) for row in rows} == expected
    (part,) = read_label_table(tmp_path / "p.csv").parts.values()
    assert dict(zip(part.images.names, part.words, strict=True)) == {path: (word,) for path, word in expected.items()}


def test_a_table_of_these_names_is_read_as_the_folder(run, folder, tmp_path):
    found = evaluate(run, folder, out=tmp_path / "out", precision="fp32", workers=0)
    for path in (tmp_path / "out").rglob("*.*"):
        if path.suffix in (".csv", ".json"):
            assert is_harmless(path.read_text(encoding="utf-8")), path.name
    again = evaluate(run, tmp_path / "out" / "predictions.csv", precision="fp32", workers=0)
    assert again.scores == found.scores
    table = read_splits(tmp_path / "out" / "predictions.csv", val_fraction=0).train
    assert written(table) == {
        str(folder / name): labels for name, labels in written(read_splits(folder, val_fraction=0).train).items()
        if "broken" not in name
    }  # fmt: skip
    with (tmp_path / "out" / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [from_csv_cell(row["name"]) for row in rows] == list(load_classifier(run).classes)
    assert "-1" in [row["name"] for row in rows]  # a number stays one


@pytest.mark.parametrize("ending", ["csv", "npy"])
def test_the_index_of_embeddings(run, folder, tmp_path, capfd, ending):
    out = tmp_path / f"f.{ending}"
    main(["embed", str(folder), "--run", str(run), "--out", str(out), "--workers", "0"])
    said = capfd.readouterr()
    assert is_harmless(said.out + said.err)
    expected = {
        os.path.relpath(path, folder)
        for path in map(str, folder.rglob("*.png"))
        if "broken" not in os.path.basename(path)
    }
    if ending == "csv":
        with out.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        names = [from_csv_cell(row[0]) for row in rows[1:]]
        assert np.isfinite(np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])).all()
        text = out.read_text(encoding="utf-8")
    else:
        text = (tmp_path / "f.names.txt").read_text(encoding="utf-8")
        names = [unquoted(line) for line in text.splitlines()]
    assert set(names) == expected
    assert len(names) == len(expected)
    assert is_harmless(text)


def test_the_other_unicode_form_is_evaluated_and_keeps_the_head(run, folder, tmp_path):
    for path in folder.iterdir():
        shutil.copytree(path, tmp_path / "images" / unicodedata.normalize("NFC", path.name))
    assert "cafe\u0301" not in {path.name for path in (tmp_path / "images").iterdir()}
    settings = {"precision": "fp32", "workers": 0}
    assert evaluate(run, tmp_path / "images", **settings).scores == evaluate(run, folder, **settings).scores


@pytest.mark.parametrize(
    "arguments",
    [
        ["cl\x1b[31massify"],
        ["classify", "--da\x1b[31mta", "x"],
        ["classify", "--recipe", "x\x9b\u202e\udcff"],
        ["classify", "--data", "no\x1b[31m\n\udcff", "--out", "x"],
        ["predict", "--run", "no\x1b[31m\n\udcff", "x"],
        ["embed", "no\x1b[31m", "--run", "no\x1b[31m", "--out", "x\x1b"],
    ],
    ids=["verb", "option", "choice", "data", "run", "out"],
)
def test_mistakes_in_a_command(arguments, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    said = capfd.readouterr()
    assert is_harmless(said.out + said.err)
    assert "\\x1b" in said.err or "\\x9b" in said.err
