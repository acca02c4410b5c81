"""Mistakes in what a command names are found before torch is imported, in the words of the verb itself."""

import subprocess
import sys

import pytest

import convnextv2
from convnextv2 import UserError
from convnextv2.errors import spelled_for_command

# Runs a command, and fails if torch was imported before it was refused.
WATCHED = """
import subprocess
import sys
from convnextv2.cli import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules, "torch was imported"
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pretrain --data typo --out run", "typo does not exist; give a folder of images or a text file of paths"),
        ("pretrain --data one.png --out run", "one.png is a single image; give the folder it lies in"),
        ("pretrain --data images --out full", "--out full is not empty; name a new folder"),
        ("pretrain --data images --out run --init typo", "no run and no file at typo; name the --out folder of a run"),
        ("pretrain --data images --out run --init convnextv2_atto.fcma", "did you mean convnextv2_atto.fcmae"),
        ("pretrain --data images --out run --mask-ratio 1.5", "--mask-ratio 1.5: give more than 0 and below 1"),
        ("classify --data typo --out run", "typo does not exist; give a folder of class folders or a CSV file"),
        ("classify --data one.png --out run", "one.png is a single image; give a folder of class folders or a CSV"),
        ("classify --data images --out full --init none", "--out full is not empty"),
        ("evaluate --run typo --data images", "no run and no file at typo"),
        ("evaluate --run one.png --data typo", "typo does not exist; give a folder of class folders or a CSV file"),
        ("probe --run typo --data images", "no run and no file at typo"),
        ("predict --run typo one.png", "no run and no file at typo"),
        ("reconstruct --run typo one.png", "no run and no file at typo"),
        (
            "embed typo --run one.png --out f.npy",
            "typo does not exist; give a folder of images or a text file of paths",
        ),
    ],
)
def test_refused_before_torch(line, message, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    (tmp_path / "one.png").write_bytes(b"")
    words = [sys.executable, "-c", WATCHED, *line.split()]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "AssertionError" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_words_are_those_of_the_verb(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with spelled_for_command():
        with pytest.raises(UserError, match=r"^no run and no file at typo; name the --out folder of a run"):
            convnextv2.load("typo")
        with pytest.raises(UserError, match=r"typo does not exist; give a folder of images or a text file of paths$"):
            convnextv2.pretrain("typo", "run")
