"""Errors name an argument as Python spells it, and an option as the command does."""

import json
import pickle
import shlex
from concurrent.futures import ThreadPoolExecutor

import pytest
from small_run import SMALL, small_flags

import convnextv2
from convnextv2.cli import main
from convnextv2.errors import BadImageError, StoppedError, UserError, spelled_for_command, spelled_for_python


@pytest.mark.parametrize(
    ("command", "python"),
    [
        ("--image-size 100 does not fit: use --image-size 96", "image_size=100 does not fit: use image_size=96"),
        ("--dims (8, 8, 8, 8) is for our models", "dims=(8, 8, 8, 8) is for our models"),
        ("--lr nan: give 0 or more", "lr=nan: give 0 or more"),
        ("--device gpu is no device; use --device cpu", "device gpu is no device; use device='cpu'"),
        ("say where the run goes: --out RUN, a new folder", "say where the run goes: out=RUN, a new folder"),
        ("leave out --split, or name a new --out", "leave out split, or name a new out"),
        ("(raise --max-pixels to allow it)", "(raise max_pixels to allow it)"),
        (
            "nothing is kept for val (--val-fraction 0)): add some",
            "nothing is kept for val (val_fraction=0)): add some",
        ),
        ("give --epochs or --minutes, not both", "give epochs or minutes, not both"),
        (
            "train with `convnextv2 classify --init a --data DIR`",
            "train with `convnextv2 classify --init a --data DIR`",
        ),
        ("data/a--b.png, x--y 3 and '--z' cannot be read", "data/a--b.png, x--y 3 and '--z' cannot be read"),
    ],
)
def test_options_become_arguments(command, python):
    assert spelled_for_python(command) == python
    assert str(UserError(command)) == python
    with spelled_for_command():
        assert str(UserError(command)) == command
    assert str(pickle.loads(pickle.dumps(UserError(command)))) == python


def test_the_same_mistake_in_python_and_in_the_command(picture_folder, tmp_path, capsys):
    with pytest.raises(UserError, match=r"^mask_ratio=1.5: give more than 0 and below 1$"):
        convnextv2.pretrain(picture_folder, tmp_path / "run", **SMALL, mask_ratio=1.5)
    with pytest.raises(SystemExit) as left:
        main(["pretrain", "--data", str(picture_folder), "--out", str(tmp_path / "run"), "--mask-ratio", "1.5"])
    assert left.value.code == 2
    assert capsys.readouterr().err == "convnextv2: --mask-ratio 1.5: give more than 0 and below 1\n"
    with pytest.raises(UserError, match="mask_ratio=2"):  # the command's spelling ends with the command
        convnextv2.pretrain(picture_folder, tmp_path / "run", **SMALL, mask_ratio=2.0)


def test_a_run_records_the_command_that_made_it(picture_folder, tmp_path):
    flags = ["pretrain", "--data", str(picture_folder), *small_flags(epochs=1)]
    main([*flags, "--out", str(tmp_path / "a run")])
    recorded = json.loads((tmp_path / "a run" / "config.json").read_text())["command"]
    assert shlex.split(recorded) == ["convnextv2", *flags, "--out", str(tmp_path / "a run")]
    convnextv2.pretrain(picture_folder, tmp_path / "python", **SMALL, epochs=1)
    assert json.loads((tmp_path / "python" / "config.json").read_text())["command"] == ""


def test_errors_with_parts_are_spelled_alike_and_can_be_pickled(tmp_path):
    stopped = pickle.loads(pickle.dumps(StoppedError(15, tmp_path)))
    assert str(stopped).endswith("continue with resume")
    assert (stopped.signal, stopped.saved) == (15, tmp_path)
    bad = pickle.loads(pickle.dumps(BadImageError("a.png", "raise --max-pixels to allow it")))
    assert (bad.path, bad.reason) == ("a.png", "raise max_pixels to allow it")
    assert str(bad) == "a.png: raise max_pixels to allow it"


def test_threads_of_the_command_spell_as_it_does():
    with spelled_for_command(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: str(UserError("give --lr 1"))).result() == "give --lr 1"
