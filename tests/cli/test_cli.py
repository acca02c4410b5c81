"""The command line as a user meets it: whole processes, their output and exit codes."""

import importlib
import inspect
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_run import SMALL, small_flags

import convnextv2
from convnextv2 import pretrain
from convnextv2.cli import VERBS, main
from convnextv2.tasks.classify.settings import ClassifySettings
from convnextv2.tasks.pretrain.settings import PretrainSettings

WIDE = os.environ | {"COLUMNS": "200"}


@pytest.fixture(scope="module")
def run(picture_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    pretrain(picture_folder, folder, **SMALL, epochs=2)
    return folder


def test_help_is_instant_and_gives_every_verb_its_line():
    code = "import sys\nfrom convnextv2.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=WIDE)
    assert done.stdout.endswith("False\n"), "asking for help must not load torch"
    for title, verbs in VERBS.items():
        assert title in done.stdout
        for verb, line in verbs.items():
            assert re.search(rf"{verb} +{re.escape(line)}", done.stdout), verb


@pytest.mark.parametrize("verb", [verb for verbs in VERBS.values() for verb in verbs])
def test_the_line_of_a_verb_is_the_first_of_its_own_help(verb):
    function = getattr(importlib.import_module(f"convnextv2.cli.{verb}"), verb)
    line = next(line for verbs in VERBS.values() for name, line in verbs.items() if name == verb)
    assert inspect.getdoc(function).splitlines()[0] == line
    code = f"from convnextv2.cli import main\ntry: main(['{verb}', '--help'])\nfinally: print('torch' in sys.modules)"
    code = f"import sys\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=WIDE)
    assert line in done.stdout
    assert done.stdout.endswith("False\n"), "asking for help must not load torch"


def test_every_verb_of_the_command_is_a_function_of_the_package():
    verbs = {verb for verbs in VERBS.values() for verb in verbs} - {"zoo", "demo"}  # a list to look at, and a show
    assert verbs <= set(convnextv2.__all__)


@pytest.mark.parametrize(("verb", "settings"), [("pretrain", PretrainSettings), ("classify", ClassifySettings)])
def test_every_setting_stands_in_one_group_and_help_all_shows_it(verb, settings):
    short, whole = (
        subprocess.run(
            [sys.executable, "-m", "convnextv2", verb, flag], capture_output=True, text=True, env=WIDE
        ).stdout
        for flag in ("--help", "--help-all")
    )
    flags = [f"--{name.replace('_', '-')}" for name in settings.names()]
    counts = {flag: len(re.findall(rf"^│ {flag}\b(?!-)", whole, re.MULTILINE)) for flag in flags}
    assert counts == dict.fromkeys(flags, 1)
    shown = [flag for flag in flags if re.search(rf"^│ {flag}\b(?!-)", short, re.MULTILINE)]
    assert {"--data", "--out", "--init", "--epochs"} <= set(shown)
    assert len(shown) < 25
    assert "--help-all shows every option." in short
    assert "bit for bit" in " ".join(short.split())
    assert "--empty-" not in whole


def test_what_was_named_is_what_main_was_given_and_not_what_another_program_was(picture_folder, tmp_path, monkeypatch):
    """Also a value that is the default's, a switch turned off, and one given after an equals sign."""
    monkeypatch.setattr(sys, "argv", ["pytest", "--epochs", "7", "--lr=3"])
    arguments = [
        "--data",
        str(picture_folder),
        "--out",
        str(tmp_path / "run"),
        *small_flags(),
        "--epochs=1",
        "--no-flip",
    ]
    main(["pretrain", *arguments, "--seed", "0"])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert set(config["given"]) == {"data", "out", "epochs", "flip", "seed", *SMALL}
    assert (config["given"]["seed"], config["given"]["flip"], config["settings"]["epochs"]) == (0, False, 1)
    with pytest.raises(SystemExit) as stopped:
        main(["pretrain", "--out", str(tmp_path / "run"), "--resume", "--seed", "1"])
    assert stopped.value.code == 2
    main(["pretrain", "--out", str(tmp_path / "run"), "--resume"])  # the other program's --epochs is not ours


def test_a_run_from_the_command_line(picture_folder, tmp_path, command):
    done = command("pretrain", "--data", picture_folder, "--out", tmp_path / "run", *small_flags(epochs=2), "--no-flip")
    assert done.returncode == 0, done.stderr
    assert "40 images" in done.stderr
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
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "bad.png").write_bytes(b"no image")
    done = command("reconstruct", "--run", run, picture, tmp_path / "folder", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "1 of 2 files are not readable images" in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2  # nothing overwritten, the good one done


def test_python_reconstructs_as_the_command_does(run, picture_folder, tmp_path, command):
    picture = next(picture_folder.rglob("*.png"))
    done = command("reconstruct", "--run", run, picture, "--out", tmp_path / "out", "--seed", "3")
    lines = []
    (written,) = convnextv2.reconstruct(run, picture, tmp_path / "python", seed=3, say=lines.append)
    assert lines == [str(written)]
    with Image.open(done.stdout.strip()) as one, Image.open(written) as other:
        assert one.tobytes() == other.tobytes()


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


def test_depths_and_widths_with_commas():
    from convnextv2.cli.options import separated

    expected = ["pretrain", "--depths", "2", "2", "6", "2", "--out", "a,b"]
    for given in (["--depths", "2,2,6,2"], ["--depths=2,2,6,2"], ["--depths", "2", "2", "6", "2"]):
        assert separated(["pretrain", *given, "--out", "a,b"]) == expected
