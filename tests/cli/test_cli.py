"""The command line as a user meets it: whole processes, their output and exit codes."""

import json

import numpy as np
import pytest
from PIL import Image
from small_run import SMALL, small_flags

from convnextv2 import pretrain


@pytest.fixture(scope="module")
def run(picture_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    pretrain(picture_folder, folder, **SMALL, epochs=2)
    return folder


def test_help_is_instant_and_names_every_verb(command):
    import subprocess
    import sys

    code = "import sys\nfrom convnextv2.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("False\n"), "asking for help must not load torch"
    for verb in ("pretrain", "classify", "evaluate", "predict", "probe", "reconstruct", "embed", "demo"):
        assert verb in done.stdout


def test_help_of_pretrain_explains_its_flags(command):
    done = command("pretrain", "--help")
    assert done.returncode == 0
    for flag in ("--data", "--out", "--resume", "--no-flip", "--max-pixels", "--max-bad-fraction", "--stem-stride"):
        assert flag in done.stdout
    assert "bit for bit" in " ".join(done.stdout.split())


def test_a_run_from_the_command_line(picture_folder, tmp_path, command):
    done = command("pretrain", "--data", picture_folder, "--out", tmp_path / "run", *small_flags(epochs=2), "--no-flip")
    assert done.returncode == 0, done.stderr
    assert "40 pictures" in done.stderr
    assert "10 steps, about" in done.stderr
    assert "step 10/10" in done.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["flip"] is False


def test_a_classifier_from_the_command_line(picture_folder, tmp_path, command, run):
    flags = ["--init", run, "--batch-size", 8, "--epochs", 1, "--no-flip", "--group-pattern", "\\d(\\d)"]
    done = command("classify", "--data", picture_folder, "--out", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    assert "2 classes in" in done.stderr
    assert "a new head for 2 classes" in done.stderr
    assert "val top-1 at step" in done.stderr
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert (settings["flip"], settings["stem_stride"], settings["image_size"]) == (False, 1, 32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "absent", "--out", "run"], "absent"),
        (["--out", "run"], "--data DIR"),
        (["--data", "empty", "--out", "run"], "empty"),
        (["--data", "empty", "--out", "run", "--mask-ratio", "1.5"], "--mask-ratio 1.5"),
        (["--data", "empty", "--out", "run", "--epochs", "many"], "many"),
        (["--data", "empty", "--out", "run", "--epoch", "3"], "--epoch"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(tmp_path, command, arguments, words):
    (tmp_path / "empty").mkdir()
    done = command("pretrain", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "run").exists()


def test_a_failed_run_has_exit_code_1_and_debug_shows_the_traceback(picture_folder, tmp_path, command):
    flags = ["--data", picture_folder, "--out", "run", *small_flags(epochs=2, lr=1e20, warmup_epochs=0)]
    done = command("pretrain", *flags, cwd=tmp_path)
    assert done.returncode == 1
    assert "not finite" in done.stderr
    assert "Traceback" not in done.stderr
    done = command("pretrain", "--debug", "--data", "absent", "--out", "other", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_one_picture_is_reconstructed(run, picture_folder, tmp_path, command):
    picture = next(picture_folder.rglob("*.png"))
    done = command("reconstruct", "--run", run, picture, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with Image.open(done.stdout.strip()) as grid:
        assert grid.width > 3.9 * grid.height  # one row of four
    done = command("reconstruct", "--run", run, picture, __file__, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "1 of 2 files are no pictures" in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2  # nothing overwritten, the good one done


def test_embed_writes_features_and_names(run, picture_folder, tmp_path, command):
    done = command("embed", picture_folder, "--run", run, "--out", tmp_path / "f.npy")
    assert done.returncode == 0, done.stderr
    features, names = np.load(tmp_path / "f.npy"), (tmp_path / "f.names.txt").read_text().splitlines()
    assert features.shape == (40, 16)
    assert names == sorted(names)
    assert (picture_folder / names[0]).is_file()
    done = command("embed", picture_folder, "--run", run / "checkpoints", "--out", tmp_path / "f.csv")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    done = command("embed", picture_folder, "--run", run, "--out", tmp_path / "f.csv")
    rows = (tmp_path / "f.csv").read_text().splitlines()
    assert rows[0].startswith("name,f0,f1")
    assert len(rows) == 41
    assert float(rows[1].split(",")[1]) == pytest.approx(float(features[0, 0]), rel=1e-5)
    assert command("embed", picture_folder, "--run", run, "--out", tmp_path / "f.xlsx").returncode == 2
