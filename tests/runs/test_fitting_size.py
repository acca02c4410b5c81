"""Image size and stem of a new model follow from the files, unless they are given, of weights, or the paper's."""

import json

import numpy as np
import pytest
from PIL import Image
from small_run import SMALL, SMALL_CLASSIFIER

import convnextv2
from convnextv2 import UserError
from convnextv2.data.files.extent import Extent, extent
from convnextv2.data.files.folder import list_images
from convnextv2.runs.settings import size_for, stem_for

UNSIZED = {name: value for name, value in SMALL.items() if name not in ("image_size", "stem_stride")}
UNSIZED_CLASSIFIER = {
    name: value for name, value in SMALL_CLASSIFIER.items() if name not in ("image_size", "stem_stride")
}


def write(folder, sizes, grey=False):
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes):
        target = folder / ("a", "b")[number % 2] / f"{number:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (height, width, 1 if grey else 3), dtype=np.uint8)
        Image.fromarray(np.repeat(pixels, 3, 2) if grey else pixels).save(target)
    return folder


def shape_of(run):
    settings = json.loads((run / "config.json").read_text())["settings"]
    return settings["image_size"], settings["stem_stride"]


@pytest.mark.parametrize(
    ("side", "size", "stem"),
    [(500, 224, 4), (224, 224, 4), (200, 192, 4), (160, 160, 4), (128, 128, 4), (127, 128, 2), (64, 64, 2), (63, 64, 1),
     (28, 32, 1), (32, 32, 1), (9, 16, 1)],
)  # fmt: skip
def test_the_rule(side, size, stem):
    assert stem_for(side) == stem
    assert size_for(side, 8 * stem) == size


def test_the_median_shorter_side_and_grey(tmp_path):
    images = list_images(write(tmp_path / "colour", [(50, 40), (60, 90), (70, 300), (30, 30), (80, 80)]))
    assert extent(images) == Extent(5, 60, grey=False)
    (tmp_path / "colour" / "a" / "00.png").write_bytes(b"x")
    assert extent(images).files == 4
    assert extent(list_images(write(tmp_path / "grey", [(9, 9)] * 3, grey=True))) == Extent(3, 9, grey=True)


def test_a_run_is_sized_by_its_files_says_so_and_is_resumed_alike(tmp_path):
    data = write(tmp_path / "images", [(70, 50)] * 8 + [(40, 33)] * 12)
    run = convnextv2.pretrain(data, tmp_path / "run", epochs=1, **UNSIZED).run
    assert shape_of(run) == (32, 1)
    log = (run / "log.txt").read_text()
    assert "image size 32 (the shorter side of the files is 33 pixels, the median of 20)" in log
    assert "stem stride 1 (for images of 33 pixels)" in log
    convnextv2.pretrain(out=run, resume=True)
    assert convnextv2.load(run).image_size == 32
    again = convnextv2.pretrain(data, tmp_path / "again", config=run / "config.json").run
    assert shape_of(again) == (32, 1)
    classifier = convnextv2.classify(data, tmp_path / "classifier", init=run, epochs=1, batch_size=8, workers=1).run
    assert shape_of(classifier) == (32, 1)


def test_what_is_given_is_kept(tmp_path):
    data = write(tmp_path / "images", [(70, 70)] * 16)
    small = UNSIZED_CLASSIFIER | {"epochs": 1}
    assert shape_of(convnextv2.classify(data, tmp_path / "a", **small).run) == (64, 2)
    assert shape_of(convnextv2.classify(data, tmp_path / "b", **small, stem_stride=4).run) == (64, 4)
    assert shape_of(convnextv2.classify(data, tmp_path / "c", **small, image_size=32).run) == (32, 1)
    paper = small | {"recipe": "supervised", "model": "convnextv2_atto", "batch_size": 4, "mixup": 0, "cutmix": 0}
    assert shape_of(convnextv2.classify(data, tmp_path / "d", **paper).run) == (224, 4)


def test_only_a_size_that_was_given_is_checked_before_the_files(tmp_path):
    with pytest.raises(
        UserError, match=r"^image_size=90 does not fit the mask patch of 16 pixels .*: use image_size=96"
    ):
        convnextv2.PretrainSettings(image_size=90)
    convnextv2.PretrainSettings(stem_stride=1)
    convnextv2.PretrainSettings(image_size=96)


def test_images_without_colour_are_told(tmp_path):
    data = write(tmp_path / "images", [(32, 32)] * 8, grey=True)
    run = convnextv2.pretrain(data, tmp_path / "run", epochs=1, **UNSIZED).run
    assert "the images have no colour: in_chans=1 reads them as grey" in (run / "log.txt").read_text()
    told = convnextv2.pretrain(data, tmp_path / "grey", epochs=1, **UNSIZED, in_chans=1).run
    assert "no colour" not in (told / "log.txt").read_text()
