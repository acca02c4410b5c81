"""Whole pre-training runs: what is promised of every one of them."""

import contextlib
import fcntl
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest
import torch
from small_run import SMALL, run_losses, same, saved_weights, small_flags

from convnextv2 import load_pretrained, pretrain
from convnextv2.errors import RunFailedError, StoppedError, UserError
from convnextv2.weights.files import checkpoint_of

SETTINGS_LR = 1.5e-3 * (SMALL["batch_size"] / 256) ** 0.5


@pytest.fixture(scope="module")
def uninterrupted(picture_folder, tmp_path_factory):
    """A run of 20 steps (4 epochs) that nothing disturbs."""
    run = tmp_path_factory.mktemp("run") / "whole"
    pretrain(picture_folder, run, **SMALL, epochs=4)
    return run


def test_a_run_leaves_all_that_is_promised(uninterrupted):
    run = uninterrupted
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["pictures"] == 40
    assert config["settings"]["lr"] > 0
    assert {"torch", "convnextv2"} <= set(config["versions"])
    assert sorted(run_losses(run)) == list(range(1, 21))
    assert (run / "report.html").read_text().count("<svg") >= 2
    assert len(list((run / "pictures").glob("*.png"))) == 1
    assert "finished 20 steps" in (run / "log.txt").read_text()
    tensors = saved_weights(run)
    assert "mask_token" in tensors
    assert "pred.weight" in tensors  # the decoder stays in the checkpoint


def test_the_saved_model_is_built_again_from_its_file_alone(uninterrupted):
    pretrained = load_pretrained(uninterrupted)
    assert same(pretrained.model.state_dict(), saved_weights(uninterrupted))
    assert pretrained.image_size == 32
    assert not pretrained.model.training


def test_it_learns(picture_folder, tmp_path):
    run = pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=60, lr=3e-3).run
    found = run_losses(run)
    first, last = found[1], sum(list(found.values())[-10:]) / 10
    assert last < 0.9 * first


@pytest.mark.parametrize("changes", [{"workers": 0}, {"workers": 2}, {"cache": False}, {"log_every": 7}])
def test_how_a_run_is_fed_or_watched_changes_no_bit(picture_folder, tmp_path, uninterrupted, changes):
    pretrain(picture_folder, tmp_path / "run", **SMALL | changes, epochs=4)
    assert same(saved_weights(tmp_path / "run"), saved_weights(uninterrupted))


def test_another_seed_is_another_run(picture_folder, tmp_path, uninterrupted):
    pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=4, seed=1)
    assert not same(saved_weights(tmp_path / "run"), saved_weights(uninterrupted))


def test_accumulation_gives_the_same_losses(picture_folder, tmp_path, uninterrupted):
    pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=4, micro_batch=2)
    expected = run_losses(uninterrupted)
    for step, loss in run_losses(tmp_path / "run").items():
        assert loss == pytest.approx(expected[step], rel=1e-5)


def test_a_config_alone_starts_the_run_again(picture_folder, tmp_path, uninterrupted):
    pretrain(out=tmp_path / "again", config=uninterrupted / "config.json")
    assert same(saved_weights(tmp_path / "again"), saved_weights(uninterrupted))


def test_stopped_in_the_middle_of_an_epoch_and_resumed_is_bitwise_the_same(
    picture_folder, tmp_path, uninterrupted, monkeypatch
):
    from convnextv2.tasks.pretrain.task import PretrainTask

    run, step = tmp_path / "run", PretrainTask.step

    def interrupt(self, model, batch):
        log = run / "metrics.jsonl"
        if log.exists() and log.read_text().count("\n") == 6:  # in the seventh step
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainTask, "step", interrupt)
        with pytest.raises(StoppedError, match=r"SIGTERM; saved .*step-00000007; continue with resume"):
            pretrain(picture_folder, run, **SMALL, epochs=4)
    assert (run / "report.html").is_file()
    pretrain(picture_folder, run, **SMALL, epochs=4, resume=True)
    assert same(saved_weights(run), saved_weights(uninterrupted))
    assert run_losses(run) == run_losses(uninterrupted)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_closed_terminal_and_a_scheduler_stop_a_run_as_sigterm_does(name, picture_folder, tmp_path):
    """On a terminal of its own, which is closed while it runs."""
    main_end, run_end = pty.openpty()
    line = ["pretrain", "--data", picture_folder, "--out", tmp_path / "run", *small_flags(epochs=10_000)]
    process = subprocess.Popen(
        [sys.executable, "-m", "convnextv2", *map(str, line)],
        stdin=run_end,
        stdout=run_end,
        stderr=run_end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(run_end)
    with contextlib.suppress(OSError):
        while b"10000" not in os.read(main_end, 65536) and not run_losses(tmp_path / "run"):
            pass
    while len(run_losses(tmp_path / "run")) < 3:
        time.sleep(0.05)
    if name == "SIGHUP":
        os.close(main_end)  # the kernel sends it to the whole group, workers included
    else:
        os.killpg(process.pid, getattr(signal, name))
        threading.Thread(target=_drain, args=(main_end,), daemon=True).start()
    assert process.wait(timeout=120) == 128 + getattr(signal, name)
    assert checkpoint_of(tmp_path / "run") is not None
    assert f"stopped by {name}; saved" in (tmp_path / "run" / "log.txt").read_text()


def _drain(terminal):
    with contextlib.suppress(OSError):
        while os.read(terminal, 65536):
            pass


def test_resume_needs_only_the_run(picture_folder, uninterrupted):
    before = saved_weights(uninterrupted)
    pretrain(out=uninterrupted, resume=True)  # finished: nothing is left to do
    assert same(saved_weights(uninterrupted), before)


def test_resume_with_other_settings_is_refused(picture_folder, uninterrupted):
    with pytest.raises(UserError, match=r"epochs was 4.*now 5"):
        pretrain(picture_folder, uninterrupted, **SMALL, epochs=5, resume=True)


def test_resume_with_the_same_command_works_when_time_decided_the_epochs(picture_folder, tmp_path):
    settings = SMALL | {"minutes": 0.02}
    run = pretrain(picture_folder, tmp_path / "run", **settings).run
    before = saved_weights(run)
    pretrain(picture_folder, run, **settings, resume=True)
    assert same(saved_weights(run), before)


def test_a_default_that_is_named_counts_as_named(picture_folder, tmp_path, uninterrupted):
    """Naming convnextv2_atto is a contradiction where another model is resumed, though it is the default."""
    run = pretrain(picture_folder, tmp_path / "run", **SMALL | {"model": "convnext_atto"}, epochs=1).run
    with pytest.raises(UserError, match="model was convnext_atto, now convnextv2_atto"):
        pretrain(out=run, model="convnextv2_atto", resume=True)
    again = pretrain(out=tmp_path / "again", config=uninterrupted / "config.json", minutes=0.01).run
    config = json.loads((again / "config.json").read_text())["settings"]
    assert (config["minutes"], config["lr"]) == (None, SETTINGS_LR)


def test_resume_needs_the_pictures_the_run_began_with(picture_folder, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(picture_folder, folder)
    run = pretrain(folder, tmp_path / "run", **SMALL, epochs=1).run
    (folder / "dogs" / "00.png").rename(folder / "dogs" / "new.png")
    with pytest.raises(UserError, match="not those the run began with"):
        pretrain(out=run, resume=True)


def test_one_run_is_not_worked_on_twice(picture_folder, tmp_path, uninterrupted):
    with (uninterrupted / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is working on"):
            pretrain(out=uninterrupted, resume=True)


def test_what_a_run_leaves_before_it_begins_is_no_obstacle(picture_folder, tmp_path, uninterrupted):
    """Killed while it decodes, a run leaves a log and no config: the same command, with or without --resume, works."""
    for resume in (False, True):
        run = tmp_path / f"run-{resume}"
        run.mkdir()
        (run / "log.txt").write_text("40 pictures")
        pretrain(picture_folder, run, **SMALL, epochs=4, resume=resume)
        assert same(saved_weights(run), saved_weights(uninterrupted))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_files(picture_folder, tmp_path):
    with pytest.raises(RunFailedError, match=r"not finite at step \d+ .*learning rate \S+e\+(19|20).*\.png") as error:
        pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=4, lr=1e20, warmup_epochs=0)
    assert str(error.value).count(".png") == 8
    assert "failed: the loss is not finite" in (tmp_path / "run" / "log.txt").read_text()
    assert "Failed on 40 images" in (tmp_path / "run" / "report.html").read_text()


def test_broken_files_are_named_once_and_too_many_stop_the_run(picture_folder, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, path in enumerate(sorted(picture_folder.rglob("*.png"))):
        (folder / path.name).write_bytes(path.read_bytes()[: 60 if number < 2 else None])
    for cache in (True, False):
        run = tmp_path / f"run-{cache}"
        pretrain(folder, run, **SMALL, epochs=4, max_bad_fraction=0.05, cache=cache)
        log = (run / "log.txt").read_text()
        assert [log.count(f"skipped {name}") for name in ("01.png", "03.png")] == [1, 1]
        assert "2 files could not be read" in log
        pretrain(out=run, resume=True)  # tells of them no second time
        assert (run / "log.txt").read_text().count("skipped 01.png") == 1
        with pytest.raises(RunFailedError, match=r"of 40 files cannot be read.*max_bad_fraction"):
            pretrain(folder, tmp_path / f"stopped-{cache}", **SMALL, epochs=4, max_bad_fraction=0, cache=cache)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "convnextv2_at"}, "did you mean convnextv2_atto"),
        ({"image_size": 30}, "use image_size=32"),
        ({"recipe": "paper", "batch_size": None}, "zero steps with the paper's batch of 4096"),
        ({"batch_size": 64}, "40 images make zero steps"),
        ({"batch_size": 9, "micro_batch": 4}, "use batch_size=8"),
        ({"device": "cuda"} if not torch.cuda.is_available() else {"device": "tpu0"}, "device"),
        ({"epochs": 1, "minutes": 1}, "not both"),
        ({"weight_decay": -1}, "weight_decay=-1"),
        ({"dims": (8, 8, 16)}, "dims must be 4 numbers"),
        ({"decoder_dim": 0}, "decoder_dim=0"),
        ({"masking": 0.5}, "pretrain has no setting 'masking'"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing_behind(picture_folder, tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        pretrain(picture_folder, tmp_path / "run", **SMALL | changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_empty_is_never_written_into(picture_folder, tmp_path, uninterrupted):
    with pytest.raises(UserError, match="add resume to continue that run"):
        pretrain(picture_folder, uninterrupted, **SMALL)
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="is not empty"):
        pretrain(picture_folder, tmp_path, **SMALL)
    with pytest.raises(UserError, match=r"no config\.json, so it is no run"):
        pretrain(picture_folder, tmp_path, **SMALL, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_v1_and_bf16_and_grey_train(picture_folder, tmp_path):
    changes = {"model": "convnext_atto", "precision": "bf16", "in_chans": 1}
    run = pretrain(picture_folder, tmp_path / "run", **SMALL | changes, epochs=2).run
    assert saved_weights(run)["encoder.stages.0.0.gamma"].shape == (8,)
    assert saved_weights(run)["encoder.downsample_layers.0.0.weight"].shape == (8, 1, 1, 1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_it_follows_the_same_losses(picture_folder, tmp_path, uninterrupted):
    pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=4, compile=True)
    expected = run_losses(uninterrupted)
    for step, loss in run_losses(tmp_path / "run").items():
        assert loss == pytest.approx(expected[step], rel=1e-4)


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_bit(picture_folder, tmp_path, command):
    """SIGKILL, anywhere: while starting, training, or in the middle of a save (every step is saved)."""
    run = tmp_path / "run"
    uninterrupted = pretrain(picture_folder, tmp_path / "whole", **SMALL, epochs=20).run
    flags = ["pretrain", "--data", picture_folder, "--out", run, *small_flags(epochs=20, checkpoint_every=1)]
    rng, kills, reached = random.Random(0), 0, []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    while kills < 10:
        line = [sys.executable, "-m", "convnextv2", *map(str, flags), "--auto-resume"]
        process = subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        log = run / "metrics.jsonl"
        before = log.stat().st_size if log.exists() else 0
        while process.poll() is None and (log.stat().st_size if log.exists() else 0) <= before and kills % 5:
            time.sleep(0.01)  # most kills strike while it trains; two of the ten at any moment of the start
        time.sleep(rng.uniform(0, 0.4) if kills % 5 else rng.uniform(0, 5))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
        pointer = run / "checkpoints" / "latest"
        reached.append(pointer.read_text() if pointer.exists() else "nothing")
    finished = command(*flags, "--auto-resume")
    assert finished.returncode == 0, finished.stderr
    assert same(saved_weights(run), saved_weights(uninterrupted)), reached
    assert run_losses(run) == run_losses(uninterrupted)
    assert kills == 10, f"the run ended after {kills} kills: {reached}"


@pytest.mark.slow
def test_two_processes_follow_one(picture_folder, tmp_path, uninterrupted, command):
    """torchrun with two gloo processes: the same global batches, the same losses."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    flags = ["pretrain", "--data", picture_folder, "--out", tmp_path / "run", *small_flags(epochs=4, device="cpu")]
    done = command(*flags, launcher=launcher)
    assert done.returncode == 0, done.stderr
    expected, found = run_losses(uninterrupted), run_losses(tmp_path / "run")
    assert sorted(found) == list(range(1, 21))
    assert max(abs(found[step] / expected[step] - 1) for step in found) <= 1e-5
