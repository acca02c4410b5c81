"""What --resume goes on from: a run that is there, with its own images wherever they lie now."""

import json
import os
import shutil
import time

import pytest
from small_run import SMALL, SMALL_CLASSIFIER, run_losses, same, saved_weights

from convnextv2 import classify, pretrain
from convnextv2.engine import launcher, runfolder
from convnextv2.errors import UserError


@pytest.fixture(scope="module")
def halves(picture_folder, tmp_path_factory):
    """(a run of 20 steps, what it leaves after 10 of them)."""
    folder = tmp_path_factory.mktemp("halves")
    images = shutil.copytree(picture_folder, folder / "images")
    whole = pretrain(images, folder / "whole", **SMALL, epochs=4, checkpoint_every=10).run
    half = shutil.copytree(whole, folder / "half")
    shutil.rmtree(half / "checkpoints" / "step-00000020")
    (half / "checkpoints" / "latest").write_text("step-00000010")
    return whole, half


@pytest.fixture
def half(halves, tmp_path):
    return shutil.copytree(halves[1], tmp_path / "run")


@pytest.fixture
def moved(picture_folder, tmp_path):
    """The images in another place."""
    return shutil.copytree(picture_folder, tmp_path / "moved")


def test_the_same_images_elsewhere_are_proved_and_change_no_bit(halves, half, moved):
    pretrain(moved, half, resume=True)
    assert same(saved_weights(half), saved_weights(halves[0]))
    assert run_losses(half) == run_losses(halves[0])
    assert f"are now in {moved}: names, labels, sizes and samples agree" in (half / "log.txt").read_text()
    config = json.loads((half / "config.json").read_text())
    places = {config["data"]["source"], config["settings"]["data"], config["given"]["data"]}
    assert places == {str(moved)}
    pretrain(out=half, resume=True)  # which is remembered


def replace(folder):
    (folder / "cats" / "01.png").write_bytes((folder / "cats" / "03.png").read_bytes())


def repaint(folder):
    """Another picture of the same name and size in bytes."""
    path = folder / "cats" / "01.png"
    path.write_bytes(bytes([*path.read_bytes()[:-100], *[0] * 100]))


def rename(folder):
    (folder / "cats" / "01.png").rename(folder / "cats" / "1.png")


def remove(folder):
    (folder / "cats" / "01.png").unlink()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (replace, r"cats/01\.png: \d+ bytes, \w+ then, \d+ bytes, \w+ now"),
        (repaint, r"cats/01\.png: (\d+) bytes, \w+ then, \1 bytes, \w+ now"),
        (rename, r"cats/01\.png: \d+ bytes, \w+ then, No such file or directory now"),
        (remove, r"40 then, 39 now; cats/01\.png: .* then, No such file or directory now"),
    ],
)
def test_other_images_are_refused_with_what_differs(half, moved, change, says):
    change(moved)
    with pytest.raises(
        UserError, match=rf"resume: .* are not those the run began with \({says}\); .* data "
    ) as refused:
        pretrain(moved, half, resume=True)
    assert "\n" not in str(refused.value)
    assert json.loads((half / "config.json").read_text())["data"]["source"] != str(moved)


def test_a_classifier_proves_its_validation_images_too(picture_folder, tmp_path, moved):
    run = classify(picture_folder, tmp_path / "run", **SMALL_CLASSIFIER, epochs=1).run
    samples = json.loads((run / "config.json").read_text())["data"]["samples"]
    assert [len(part) for part in samples] == [32, 8]
    name = next(iter(samples[1]))
    (moved / name).write_bytes((moved / next(iter(samples[0]))).read_bytes())
    with pytest.raises(UserError, match=rf"not those the run began with \({name}: "):
        classify(moved, run, resume=True)


def test_images_that_are_gone_are_asked_for(half, tmp_path):
    config = runfolder.read_config(half / "config.json")
    config["settings"]["data"] = str(tmp_path / "gone")
    runfolder.write_config(half, config)
    with pytest.raises(UserError, match="gone, the data of the run, is not there; where it is now, say with data"):
        pretrain(out=half, resume=True)


@pytest.mark.parametrize("exists", [True, False])
def test_there_must_be_a_run(picture_folder, tmp_path, exists):
    run = tmp_path / "run"
    if exists:
        run.mkdir()
    with pytest.raises(UserError, match=r"resume: there is no run at .*; leave out resume .*\(auto_resume resumes"):
        pretrain(picture_folder, run, **SMALL, epochs=1, resume=True)
    assert run.exists() is exists


def test_auto_resume_starts_what_is_not_there_and_resumes_what_is(picture_folder, tmp_path, halves, half):
    started = pretrain(picture_folder, tmp_path / "new", **SMALL, epochs=4, auto_resume=True).run
    assert same(saved_weights(started), saved_weights(halves[0]))
    pretrain(out=half, auto_resume=True)
    assert same(saved_weights(half), saved_weights(halves[0]))
    with pytest.raises(UserError, match="not both"):
        pretrain(out=half, auto_resume=True, resume=True)


def test_torchrun_goes_on_with_what_it_started_and_with_nothing_else(halves, half, moved, monkeypatch):
    """`--max-restarts`: the same command, without --resume, is started again."""
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setattr("convnextv2.runs.resume.launcher_started", time.time)
    settings = SMALL | {"epochs": 4, "checkpoint_every": 10}
    with pytest.raises(UserError, match=r"run at .* was there before it .*: add resume or auto_resume"):
        pretrain(moved, half, **settings)
    monkeypatch.setattr("convnextv2.runs.resume.launcher_started", lambda: 0.0)
    pretrain(moved, half, **settings)
    assert same(saved_weights(half), saved_weights(halves[0]))
    assert "torchrun has started this run again" in (half / "log.txt").read_text()


def test_when_torchrun_was_started_is_known():
    assert launcher.launcher_started({}) is None
    started = launcher.launcher_started({"TORCHELASTIC_RUN_ID": "none"})
    assert started == pytest.approx(os.path.getmtime(f"/proc/{os.getppid()}"), abs=60)
    assert started < time.time()


def test_tensorboard_has_one_file_however_often_a_run_is_resumed(halves, half):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pretrain(out=half, resume=True)
    for run in (halves[0], half):
        assert len(list((run / "tensorboard").iterdir())) == 1
        board = EventAccumulator(str(run / "tensorboard"))
        board.Reload()
        found = {event.step: event.value for event in board.Scalars("train/loss")}
        assert found == pytest.approx(run_losses(run))
