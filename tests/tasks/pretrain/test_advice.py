"""What is said before a run that is too short."""

import pytest
from small_run import SMALL

from convnextv2 import pretrain
from convnextv2.tasks.pretrain.advice import ENOUGH_STEPS, advise


def told(images=5000, steps=100, seconds=0.5, image_size=224, patch=32, minutes=None):
    return list(advise(images, steps, seconds, image_size=image_size, patch=patch, minutes=minutes))


def test_a_run_that_is_long_enough_is_not_spoken_to():
    assert told(steps=ENOUGH_STEPS) == []


def test_the_minutes_that_would_do_follow_from_the_pace():
    assert f"--minutes {round(ENOUGH_STEPS * 3.0 / 60)}" in told(seconds=3.0)[0]


@pytest.mark.parametrize(("steps", "size"), [(ENOUGH_STEPS // 2, 128), (ENOUGH_STEPS // 4, 96), (10, None)])
def test_a_smaller_size_that_would_do_in_the_same_time_is_named(steps, size):
    """Time goes with the square of the side: half of the steps fit at 224 / sqrt(2) = 158 pixels, in whole patches."""
    line = told(steps=steps, minutes=3.0)[0]
    assert (f"--image-size {size} in the same time" in line) == (size is not None)
    assert "--epochs" not in line


def test_few_images_are_told():
    assert "40 images are few" in told(images=40, steps=10_000)[0]


def test_the_run_says_it_and_keeps_it(picture_folder, tmp_path, capsys):
    pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=1)
    said = capsys.readouterr().err
    assert "note: 40 images are few" in said
    assert "note: 5 steps are few" in said
    assert "5 steps are few" in (tmp_path / "run" / "report.html").read_text()
