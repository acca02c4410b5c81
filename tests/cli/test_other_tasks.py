"""The commands on a model of a task from another package: they call its functions and print what they return."""

import json
import re
from dataclasses import dataclass, replace

import pytest
import torch
from mean_colour.run import MEAN_COLOUR, build

import convnextv2
from convnextv2.cli import main
from convnextv2.models.config import EncoderConfig
from convnextv2.records import Preprocessing
from convnextv2.runs import spec
from convnextv2.verbs.evaluate import score_rows
from convnextv2.verbs.predict import write_predictions
from convnextv2.weights.files import save_tensors
from convnextv2.weights.model_file import ModelInfo


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file with random weights."""
    architecture = EncoderConfig.named("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), stem_stride=1)
    info = ModelInfo(
        kind="mean-colour",
        architecture=architecture,
        preprocessing=Preprocessing.for_channels(3),
        image_size=32,
        options={"hidden": 8},
    )
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_tensors(path, build(info).state_dict(), info.to_metadata())
    return path


@pytest.fixture
def answers(monkeypatch):
    """Let the task answer as is given."""

    def set_to(**functions):
        monkeypatch.setitem(spec._TASKS, "mean-colour", replace(MEAN_COLOUR, **functions))

    return set_to


def test_evaluate_prints_a_table_of_two_columns(model, picture_folder, capsys):
    main(["evaluate", "--run", str(model), "--data", str(picture_folder), "--workers", "0", "--batch-size", "16"])
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    rows = {row[1].strip(): row[2].strip() for row in lines if len(row) == 4}
    assert float(rows["mae"]) == pytest.approx(convnextv2.evaluate(model, picture_folder, workers=0)["mae"], rel=1e-3)


@dataclass
class Scores:
    iou: float
    classes: dict[str, float]


class Words:
    def __str__(self):
        return "[bold]all is well"


@pytest.mark.parametrize(
    ("result", "rows"),
    [
        ({"mae": 0.123456, "images": 12345678, "off": torch.tensor(2.0)}, [("mae", "0.1235"), ("images", "12345678")]),
        (Scores(0.5, {"[red]": float("nan")}), [("iou", "0.5"), ("classes [red]", "nan")]),
        ({1: "a\nb"}, [("1", r"'a\nb'")]),
        ({}, []),
    ],
)
def test_any_record_is_a_table(result, rows, model, picture_folder, capsys, answers):
    found = score_rows(result)
    assert found is not None
    assert found[:2] == rows
    answers(evaluate=lambda run, data: result)
    main(["evaluate", "--run", str(model), "--data", str(picture_folder)])
    shown = capsys.readouterr().out
    assert all(name in shown and value in shown for name, value in rows)


def test_what_is_no_record_is_printed_as_it_is(model, picture_folder, capsys, answers):
    answers(evaluate=lambda run, data: Words())
    main(["evaluate", "--run", str(model), "--data", str(picture_folder)])
    assert capsys.readouterr().out == "[bold]all is well\n"


def test_predict_prints_an_object_a_line(model, picture_folder, tmp_path, capsys):
    main(["predict", str(picture_folder), "--run", str(model), "--workers", "0"])
    text = capsys.readouterr().out
    objects = [json.loads(line) for line in text.splitlines()]
    expected = list(convnextv2.predict(model, picture_folder, workers=0))
    assert [(each["path"], tuple(each["colour"])) for each in objects] == [(e.path, e.colour) for e in expected]
    main(["predict", str(picture_folder), "--run", str(model), "--workers", "0", "--out", str(tmp_path / "p.jsonl")])
    assert (tmp_path / "p.jsonl").read_text() == text
    assert capsys.readouterr().out == f"{tmp_path / 'p.jsonl'}\n"


def test_a_file_that_cannot_be_read_is_named_and_the_exit_code_is_1(model, capsys, answers):
    found = [{"path": "broken.png", "error": "cut off"}, {"path": "plain.png", "error": ""}]
    answers(predict=lambda run, images: iter(found))
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "a.png", "--run", str(model)])
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == found
    first, last = printed.err.splitlines()
    assert first == "skipped broken.png: cut off"
    assert last == "convnextv2: 1 of 2 files could not be read; each is named above"


def test_predictions_of_any_form_are_json(model, capsys, answers):
    found = [{"box": torch.ones(2), "parts": [Scores(1.0, {})]}, "a word", {"path": "x.png", "error": "cut off"}]
    answers(predict=lambda run, images: iter(found))
    said = []
    done = write_predictions(model, "x.png", say=said.append)
    assert capsys.readouterr().out.splitlines()[:2] == [
        '{"box": [1.0, 1.0], "parts": [{"iou": 1.0, "classes": {}}]}',
        '"a word"',
    ]
    assert (done.pictures, done.failed, said) == (3, 1, ["skipped x.png: cut off"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "--data", "{}", "--split", "val"], "evaluate has no setting 'split'; it has batch_size"),
        (["evaluate", "--data", "{}", "--out", "scores"], "evaluate has no setting 'out'"),
        (["predict", "{}", "--top", "3"], "predict has no setting 'top'"),
        (
            ["predict", "{}", "--format", "csv"],
            "--format csv is for classifiers, and .* is a model of kind mean-colour",
        ),
    ],
)
def test_an_option_that_the_task_does_not_have_is_an_error_of_one_line(
    arguments, said, model, picture_folder, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([*(word.format(picture_folder) for word in arguments), "--run", str(model)])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("convnextv2: ")
    assert re.search(said, line)
    assert not list(tmp_path.iterdir())


def test_a_task_without_the_verb_says_so(model, picture_folder, answers):
    answers(evaluate=None, predict=None, model_title="a guesser")
    with pytest.raises(convnextv2.UserError, match="is a guesser, which is not evaluated by itself"):
        convnextv2.evaluate(model, picture_folder)
    with pytest.raises(convnextv2.UserError, match="is a guesser, which does not predict by itself"):
        convnextv2.predict(model, picture_folder)
