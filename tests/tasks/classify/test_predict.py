"""What a classifier says of new pictures: its answers against the bare model, every kind of input, every format."""

import csv
import io
import json
import os
import shutil
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import SMALL_CLASSIFIER

from convnextv2 import classify, evaluate, predict
from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.errors import LoadError, RunFailedError, UserError
from convnextv2.tasks.classify import prediction_files as room
from convnextv2.tasks.classify.load import load_classifier
from convnextv2.tasks.classify.prediction_files import write_predictions
from convnextv2.text import from_csv_cell
from convnextv2.weights.files import load_tensors, save_tensors

PLAIN: dict[str, Any] = {"precision": "fp32", "workers": 0}


@pytest.fixture(scope="module")
def run(picture_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    classify(picture_folder, folder, **SMALL_CLASSIFIER, epochs=2)
    return folder


@pytest.fixture(scope="module")
def several(run, tmp_path_factory):
    """The same model, as one of several labels a picture."""
    file = tmp_path_factory.mktemp("several") / "model.safetensors"
    tensors, metadata = load_tensors(load_classifier(run).file)
    save_tensors(file, tensors, metadata | {"multi_label": "true"})
    return file


@pytest.fixture
def few(picture_folder, tmp_path):
    """A folder of six pictures to spoil; the third is broken."""
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted(picture_folder.rglob("*.png"))[:6]:
        shutil.copy(path, folder)
    broken = sorted(folder.iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:80])
    return folder


def by_hand(classifier, paths):
    """Logits (N, K), one picture at a time."""
    statistics = classifier.preprocessing
    mean, std = (torch.tensor(part)[:, None, None] for part in (statistics.mean, statistics.std))
    fit, rows = CenterFit(classifier.image_size), []
    for path in paths:
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        with torch.no_grad():
            rows.append(classifier.model((fit(pixels).float() / 255 - mean)[None] / std)[0])
    return torch.stack(rows)


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 7, "workers": 1}, {"weights": "plain", "top": 1}], ids=["whole", "portions", "plain"]
)
def test_labels_are_those_of_the_model(run, picture_folder, options):
    paths = sorted(map(str, picture_folder.rglob("*.png")))
    classifier = load_classifier(run, weights=options.get("weights", "average"))
    chances = by_hand(classifier, paths).softmax(1)
    found = list(predict(run, picture_folder, **PLAIN | options))
    assert [each.path for each in found] == paths
    for each, row in zip(found, chances, strict=True):
        assert [guess.label for guess in each.labels] == [classifier.classes[row.argmax()]]
        assert each.labels[0].confidence == pytest.approx(float(row.max()), rel=1e-5)
        assert each.top[0] == each.labels[0]
        assert len(each.top) == min(options.get("top", 5), 2)
        assert sum(guess.confidence for guess in each.top) == pytest.approx(1 if len(each.top) == 2 else row.max())


def test_predictions_are_what_evaluate_judges(run, picture_folder, tmp_path):
    evaluate(run, picture_folder, **PLAIN, out=tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        judged = [(row["path"], row["predicted"], row["confidence"]) for row in csv.DictReader(file)]
    found = predict(run, picture_folder, **PLAIN)
    assert [(p.path, p.labels[0].label, f"{p.labels[0].confidence:.6f}") for p in found] == judged


def test_files_folders_and_lists_of_paths_mixed(run, few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second, *_ = sorted(path.name for path in few.iterdir())
    shutil.copy(few / first, "photograph")  # no ending: told from a list of paths by its content
    (tmp_path / "list.txt").write_text(f"# two\nfew/{second}\n{few / first}\n")
    given = ["./photograph", "few", "list.txt", tmp_path / "list.txt", f"few/{first}"]
    found = list(predict(run, given, **PLAIN))
    expected = ["./photograph", *sorted(f"few/{path.name}" for path in few.iterdir()), f"few/{second}"]
    expected += [str(few / first), str(few / second), str(few / first), f"few/{first}"]
    assert [each.path for each in found] == expected
    same = [each.labels for each in found if each.path.endswith((first, "photograph"))]
    assert len(same) == 5
    assert same.count(same[0]) == 5
    assert [each.path for each in predict(run, f"few/{second}", **PLAIN)] == [f"few/{second}"]


def test_an_unreadable_file_gives_its_reason_and_the_others_their_answers(run, few):
    whole = {each.path: each for each in predict(run, few, **PLAIN)}
    assert [each.error is not None for each in whole.values()] == [False, False, True, False, False, False]
    options: dict[str, Any]
    for options in ({"batch_size": 1}, {"batch_size": 2, "workers": 2}):
        again = list(predict(run, few, **PLAIN | options))
        assert [(p.path, p.error, p.labels and p.labels[0].label) for p in again] == [
            (p.path, p.error, p.labels and p.labels[0].label) for p in whole.values()
        ]
    for path in few.iterdir():
        path.write_bytes(b"")
    assert [each.error for each in predict(run, few, **PLAIN)] == ["an empty file"] * 6


def test_pictures_are_read_as_answers_are_taken(run, few):
    answers = predict(run, few, **PLAIN, batch_size=2)
    assert next(answers).error is None
    for path in few.iterdir():
        path.unlink()
    assert [each.error is None for each in answers] == [True, False, False, False, False]


def test_several_labels_are_those_above_the_threshold(several, picture_folder):
    classifier = load_classifier(several)
    paths = sorted(picture_folder.rglob("*.png"))
    chances = by_hand(classifier, paths).double().sigmoid()
    ranked = chances.flatten().sort().values
    widest = int(ranked.diff().argmax())  # between two chances, so that rounding cannot matter
    middle = float(ranked[widest : widest + 2].mean())
    for threshold in (None, 0.0, middle, 1.0):
        found = predict(several, picture_folder, **PLAIN, threshold=threshold, top=1)
        for each, row in zip(found, chances, strict=True):
            above = {name for name, p in zip(classifier.classes, row, strict=True) if p > (threshold or 0.0)}
            if threshold is None:
                above = {name for name, p in zip(classifier.classes, row, strict=True) if p > 0.5}
            assert {guess.label for guess in each.labels} == above
            assert len(each.top) == 1
            confidences = [guess.confidence for guess in each.labels]
            assert confidences == sorted(confidences, reverse=True)


def test_outputs_that_are_not_finite_are_an_error_that_names_the_picture(run, picture_folder, tmp_path):
    tensors, metadata = load_tensors(load_classifier(run).file)
    tensors["ema/head.bias"] = torch.tensor([0.0, float("nan")])
    save_tensors(tmp_path / "model.safetensors", tensors, metadata)
    with pytest.raises(RunFailedError, match=r"00\.png are not finite"):
        list(predict(tmp_path, picture_folder / "dogs" / "00.png", **PLAIN))


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ([], {}, "no images given"),
        (["absent.png"], {}, "there is nothing at absent.png"),
        (["empty"], {}, "no images in empty"),
        (["notes.txt"], {}, "none of the 1 files named in notes.txt exists"),
        (["few"], {"top": 0}, "top=0: give 1 or more"),
        (["few"], {"threshold": 1.5}, "threshold=1.5: give 0 or more and at most 1"),
        (["few"], {"threshold": 0.3}, "threshold=0.3 is for models of several labels"),
        (["few"], {"batch_size": 0}, "batch_size=0: give 1 or more"),
        (["few"], {"device": "gpu"}, "device='gpu'"),
    ],
)
def test_a_mistake_gets_one_line_at_once(run, few, tmp_path, monkeypatch, images, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("some words\n")
    with pytest.raises(UserError, match=words) as caught:
        predict(run, images, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=words):
        write_predictions(run, images, out=tmp_path / "out.jsonl", say=print, **options)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_run_that_is_none_is_refused(few, tmp_path):
    with pytest.raises(UserError, match="no run and no file"):
        predict(tmp_path / "absent", few)
    (tmp_path / "model.safetensors").write_bytes(b"not this")
    with pytest.raises(LoadError, match="is neither readable safetensors"):
        predict(tmp_path, few)


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_the_named_file_is_there_once_it_is_whole(run, few, tmp_path, format):
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    partial.write_text("what a killed process left: longer than all that comes before the third picture" * 20)
    seen = []

    def look(line):
        seen.append((out.exists(), partial.read_text()))
        with pytest.raises(UserError, match=r"another process is writing .*out\.partial") as caught:
            write_predictions(run, few, format=format, out=out, say=print, **PLAIN)
        assert "\n" not in str(caught.value)

    def give_up(line):
        look(line)
        raise KeyboardInterrupt

    options = PLAIN | {"batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        write_predictions(run, few, format=format, out=out, say=give_up, **options)
    assert list(tmp_path.iterdir()) == [few]
    write_predictions(run, few, format=format, out=out, say=look, **options)
    assert sorted(tmp_path.iterdir()) == [few, out]
    whole = out.read_text()
    (there, text), again = seen
    assert again == (there, text)
    assert not there
    assert whole.startswith(text)
    assert len(text.splitlines()) == 2 + (format == "csv")  # two pictures before the broken one
    assert len(whole.splitlines()) == 6  # five of them and a header; or the broken one too


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_odd_names_come_back_as_they_are(run, few, tmp_path, format):
    odd = tmp_path / "odd"
    odd.mkdir()
    source = min(few.iterdir())
    names = [b'a,b;"c".png', b"new\nline.png", b"no utf8 \xff.png", "Жираф 衣服.png".encode()]
    for name in names:
        shutil.copyfile(source, os.path.join(os.fsencode(odd), name))
    said = write_predictions(run, odd, format=format, out=tmp_path / "out", say=print, **PLAIN)
    assert (said.pictures, said.failed, said.files) == (4, 0, (tmp_path / "out",))
    text = (tmp_path / "out").read_text(encoding="utf-8")
    if format == "csv":
        paths = [from_csv_cell(row["path"]) for row in csv.DictReader(io.StringIO(text, newline=""))]
    else:
        paths = [json.loads(line)["path"] for line in text.splitlines()]
    assert sorted(map(os.fsencode, paths)) == sorted(os.path.join(os.fsencode(odd), name) for name in names)


def test_several_labels_in_every_format(several, few, tmp_path):
    expected = [each for each in predict(several, few, **PLAIN, threshold=0.2) if each.error is None]
    for format in ("jsonl", "csv", "sheet"):
        said = []
        out = tmp_path / f"out-{format}.png"
        write_predictions(several, few, format=format, out=out, say=said.append, **PLAIN, threshold=0.2)
        assert len(said) == 1
    objects = [json.loads(line) for line in (tmp_path / "out-jsonl.png").read_text().splitlines()]
    found = [each for each in objects if "error" not in each]
    assert [set(each) for each in found] == [{"path", "labels", "top"}] * 5
    assert [[guess["label"] for guess in each["labels"]] for each in found] == [
        [guess.label for guess in each.labels] for each in expected
    ]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out-csv.png").read_text())))
    assert [row["label"] for row in rows] == [";".join(g.label for g in each.labels) for each in expected]
    assert [row["confidence"].count(";") for row in rows] == [len(each.labels) - 1 for each in expected]


def test_a_full_sheet_is_followed_by_another(run, picture_folder, few, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "SHEET", 18)
    said = []
    out = tmp_path / "sheets" / "new.png"
    done = write_predictions(run, [picture_folder, few], format="sheet", out=out, say=said.append, **PLAIN)
    assert (done.pictures, done.failed, len(said)) == (46, 1, 1)
    assert [file.name for file in done.files] == ["new.png", "new-2.png", "new-3.png"]
    sizes = [Image.open(file).convert("L").size for file in done.files]
    assert sizes[0] == sizes[1]
    assert sizes[2][1] < sizes[0][1]  # nine of them
    with pytest.raises(UserError, match=r"new\.png is there already"):
        write_predictions(run, picture_folder, format="sheet", out=out, say=print)
    out.unlink()
    with pytest.raises(UserError, match=r"new-2\.png is there already"):
        write_predictions(run, picture_folder, format="sheet", out=out, say=print)
    assert not out.exists()
    with pytest.raises(UserError, match=r"name a file that ends in \.png"):
        write_predictions(run, picture_folder, format="sheet", out=tmp_path / "new.jpg", say=print)


def test_the_command_writes_an_object_a_line_and_fails_for_a_broken_file(run, few, tmp_path, command):
    done = command("predict", "--run", run, "few", "--top", 1, "--precision", "fp32", cwd=tmp_path)
    assert done.returncode == 1
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["path"] for each in objects] == sorted(f"few/{path.name}" for path in few.iterdir())
    (bad,) = (each for each in objects if "error" in each)
    assert set(bad) == {"path", "error"}
    skipped, last = done.stderr.splitlines()
    assert skipped == f"skipped {bad['path']}: {bad['error']}"
    assert last == "convnextv2: 1 of 6 files could not be read; each is named above"
    for each, expected in zip(objects, predict(run, few, **PLAIN), strict=True):
        if each is not bad:
            best = {"label": expected.labels[0].label, "confidence": round(expected.labels[0].confidence, 6)}
            assert each == {"path": each["path"], **best, "top": [best]}


def test_the_command_writes_a_table_and_nothing_is_written_over_it(run, picture_folder, tmp_path, command):
    flags = ["--run", run, "--format", "csv", "--out", "out.csv", "--precision", "fp32"]
    done = command("predict", *flags, picture_folder, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out.csv\n", "")
    text = (tmp_path / "out.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["path", "label", "confidence"]
    expected = predict(run, picture_folder, **PLAIN)
    assert [(row["path"], row["label"]) for row in rows] == [(p.path, p.labels[0].label) for p in expected]
    for format in ("csv", "jsonl"):
        with pytest.raises(UserError, match=r"out\.csv is there already"):
            write_predictions(run, picture_folder, format=format, out=tmp_path / "out.csv", say=print)
    assert (tmp_path / "out.csv").read_text() == text


def test_a_reader_that_has_seen_enough_is_no_error(run, picture_folder, command):
    many = [str(picture_folder)] * 200  # more than a pipe holds
    script = '"$@" | head -n 1; exit ${PIPESTATUS[0]}'
    done = command(
        "predict", "--run", run, *many, "--workers", 0, launcher=("bash", "-c", script, "bash", sys.executable)
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
