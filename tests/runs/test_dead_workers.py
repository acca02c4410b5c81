"""A process that reads images dies: one line that names the signal, the file and what to type; nothing is lost."""

import multiprocessing
import os
import re
import signal

import pytest
from small_run import SMALL, SMALL_CLASSIFIER, run_losses, same, saved_weights

import convnextv2
from convnextv2 import classify, pretrain
from convnextv2.engine import state
from convnextv2.errors import RunFailedError
from convnextv2.inference.reader import ImageReader
from convnextv2.tasks.pretrain.task import PretrainTask
from convnextv2.weights.files import checkpoint_of


def kill_a_worker(number=signal.SIGKILL):
    workers = multiprocessing.active_children()
    assert workers
    os.kill(workers[0].pid, number)


@pytest.fixture(scope="module")
def uninterrupted(picture_folder, tmp_path_factory):
    """A run of 20 steps (4 epochs) that nothing disturbs."""
    return pretrain(picture_folder, tmp_path_factory.mktemp("run") / "whole", **SMALL, epochs=4).run


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGKILL, r"killed by SIGKILL while it read .*ran out of memory.*workers=1.*cache=False"),
        (signal.SIGSEGV, r"killed by SIGSEGV while it read .*png: a decoder crashed.*convert or remove it"),
        (signal.SIGBUS, r"killed by SIGBUS .*/dev/shm is full.*workers=1"),
    ],
)
def test_in_training_the_last_whole_step_is_saved(picture_folder, tmp_path, uninterrupted, monkeypatch, number, says):
    run, step = tmp_path / "run", PretrainTask.step

    def kill(self, model, batch):
        if len(run_losses(run)) == 6:  # in the seventh step
            kill_a_worker(number)
        return step(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainTask, "step", kill)
        with pytest.raises(RunFailedError, match=says) as failed:
            pretrain(picture_folder, run, **SMALL | {"workers": 2}, epochs=4)
    message = str(failed.value)
    assert "\n" not in message
    assert re.search(
        r"worker [12] of 2, a process that reads images.*; saved .*step-\d+; continue with resume", message
    )
    assert 7 <= len(run_losses(run)) < 20
    assert checkpoint_of(run).name == state.name_of(len(run_losses(run)))
    assert "failed: worker" in (run / "log.txt").read_text()
    pretrain(out=run, resume=True)
    assert same(saved_weights(run), saved_weights(uninterrupted))
    assert run_losses(run) == run_losses(uninterrupted)


def test_during_a_save_it_is_no_failed_write(picture_folder, tmp_path, uninterrupted, monkeypatch):
    run, save_tensors = tmp_path / "run", state.save_tensors

    def kill(path, *rest, **options):
        if path.name == "optimizer.safetensors" and "00000005" in str(path):
            kill_a_worker()
            multiprocessing.active_children()  # give it time to be dead before the write
        return save_tensors(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(state, "save_tensors", kill)
        with pytest.raises(RunFailedError, match="killed by SIGKILL") as failed:
            pretrain(picture_folder, run, **SMALL, epochs=4, checkpoint_every=5)
    assert "could not be written" not in str(failed.value)
    assert checkpoint_of(run).name >= state.name_of(5)
    pretrain(out=run, resume=True)
    assert same(saved_weights(run), saved_weights(uninterrupted))


def die_once(monkeypatch, marker, number=signal.SIGKILL):
    """The first worker that fits an image for a model after `marker` is there ends as by `number`, and removes it."""
    fit = ImageReader._transform

    def transform(self, image):
        if multiprocessing.parent_process() is not None and marker.exists():
            marker.unlink()
            os.kill(os.getpid(), number)
        return fit(self, image)

    monkeypatch.setattr(ImageReader, "_transform", transform)


@pytest.mark.parametrize("verb", ["embed", "probe", "predict"])
def test_a_verb_says_it_in_one_line(picture_folder, tmp_path, monkeypatch, uninterrupted, verb, capfd):
    from convnextv2.cli import main

    run = uninterrupted
    if verb == "predict":
        run = classify(picture_folder, tmp_path / "c", **SMALL_CLASSIFIER, epochs=1).run
    arguments = {
        "embed": ["embed", picture_folder, "--run", run, "--out", tmp_path / "features.npy"],
        "probe": ["probe", "--run", run, "--data", picture_folder],
        "predict": ["predict", "--run", run, picture_folder],
    }[verb]
    (tmp_path / "kill").touch()
    die_once(monkeypatch, tmp_path / "kill", signal.SIGSEGV)
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--workers", "1", "--batch-size", "4"])
    assert ended.value.code == 1
    said = capfd.readouterr().err.strip().splitlines()[-1].strip("\0")
    assert re.fullmatch(
        r"convnextv2: worker 1 of 1, .* was killed by SIGSEGV while it read \S+png: a decoder crash.*", said
    )
    assert not (tmp_path / "features.npy").exists()
    assert convnextv2.embed(uninterrupted, picture_folder, workers=1).features.shape[0] == 40
