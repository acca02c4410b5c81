"""Images with masks: layouts, what values and colours mean, faults."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import COLOURS, NAMES, draw, write_scenes

from convnextv2.data.masks.codes import NO_CLASS, SceneClasses, default_palette
from convnextv2.data.masks.scenes import SceneRequest, read_scene_split, read_scene_splits
from convnextv2.errors import RunFailedError, UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def read(root, **changes):
    return read_scene_splits(root, SceneRequest(**changes))


def test_split_folders_with_named_classes(tmp_path):
    found = read(write_scenes(tmp_path, {"train": 6, "val": 2, "test": 3}))
    assert [len(part) for part in (found.train, found.val, found.test)] == [6, 2, 3]
    assert found.train.names == tuple(NAMES)
    assert np.array_equal(found.train.mask(2), draw(2)[1])
    assert found.train.pixels().tolist() == np.bincount(
        np.concatenate([draw(seed)[1].ravel() for seed in range(6)]), minlength=3
    ).tolist()  # fmt: skip


def test_what_is_not_split_is_drawn_and_the_draw_does_not_depend_on_the_order(tmp_path):
    found = read(write_scenes(tmp_path, {"": 10}))
    assert (len(found.train), len(found.val)) == (8, 2)
    again = read_scene_splits(tmp_path, SceneRequest(), seed=0)
    assert list(again.val.images.names) == list(found.val.images.names)
    assert not {*found.val.images.names} & {*found.train.images.names}
    whole, name, _ = read_scene_split(tmp_path, None, SceneRequest())
    assert (len(whole), name) == (10, "all")


def test_ade20k_layout_with_its_zero_label(tmp_path):
    for split in ("training", "validation"):
        for folder in ("images", "annotations"):
            (tmp_path / folder / split).mkdir(parents=True)
        for seed in range(4):
            image, classes = draw(seed)
            Image.fromarray(image).save(tmp_path / "images" / split / f"{seed}.jpg")
            Image.fromarray(classes).save(tmp_path / "annotations" / split / f"{seed}.png")
    found = read(tmp_path, reduce_zero_label=True)
    assert (len(found.train), len(found.val), found.train.names) == (4, 4, ("1", "2"))
    there, classes = found.train.mask(0), draw(0)[1]
    assert np.array_equal(there, np.where(classes == 0, NO_CLASS, classes - 1))


@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_masks_in_colours_with_a_palette_and_as_numbers(tmp_path, mode):
    def save(classes, path):
        if mode == "RGB":
            Image.fromarray(COLOURS[classes]).save(path)
            return
        image = Image.fromarray(classes)
        if mode == "P":
            image.putpalette(COLOURS.tobytes())
        image.save(path)

    found = read(write_scenes(tmp_path, {"train": 4, "val": 1}, save=save))
    assert np.array_equal(found.train.mask(3), draw(3)[1])


def test_without_names_each_value_is_a_class_and_0_and_255_are_two(tmp_path):
    found = read(write_scenes(tmp_path / "a", {"": 6}, classes_file=False))
    assert found.train.names == ("0", "1", "2")
    assert any("each taken for a class: 0, 1, 2" in note for note in found.notes)
    binary = write_scenes(
        tmp_path / "b",
        {"": 6},
        classes_file=False,
        save=lambda classes, path: Image.fromarray(np.where(classes > 0, 255, 0).astype(np.uint8)).save(path),
    )
    found = read(binary)
    assert found.train.names == ("background", "foreground")
    assert set(np.unique(found.train.mask(0))) == {0, 1}


def test_colours_that_nothing_names_are_listed_ready_to_paste(tmp_path):
    write_scenes(
        tmp_path, {"": 4}, classes_file=False, save=lambda c, path: Image.fromarray(COLOURS[c]).save(path)
    )  # fmt: skip
    with pytest.raises(UserError, match=r"in 3 colours.*classes\.json as \{\"classes\".*\[40, 60, 200\]"):
        read(tmp_path)


def spoil_size(path):
    Image.open(path).resize((20, 20)).save(path)


def spoil_turned(path):
    Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)


def spoil_value(path):
    classes = np.array(Image.open(path))
    classes[3:5, 4] = 77
    Image.fromarray(classes).save(path)


def spoil_jpeg(path):
    Image.open(path).save(path, format="JPEG")


def spoil_floats(path):
    Image.fromarray(np.full((40, 48), 0.5, np.float32)).save(path.with_suffix(".tif"))
    path.unlink()


FAULTS = {
    spoil_size: r"the mask has 20 x 20 pixels and the image 48 x 40",
    spoil_turned: r"the mask has 40 x 48 pixels and the image 48 x 40: turned by a quarter",
    spoil_value: r"values that no class has \(77\), at 2 pixels",
    spoil_jpeg: r"a mask saved as JPEG",
    spoil_floats: r"a mask of fractions or NaN",
    lambda path: path.write_bytes(path.read_bytes()[:60]): r"mask 003\.png: ",
    lambda path: path.write_bytes(b""): r"mask 003\.png: an empty file",
    lambda path: path.unlink(): r"003\.png: no mask",
    lambda path: path.with_name("999.png").write_bytes(path.read_bytes()): r"mask 999\.png: no image",
}


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: FAULTS[spoil][:20])
def test_every_fault_is_named_and_skipped_or_refused(tmp_path, spoil):
    write_scenes(tmp_path, {"train": 12, "val": 2})
    spoil(tmp_path / "train" / "masks" / "003.png")
    said = []
    found = read(tmp_path, say=said.append)
    assert len(said) == 1
    assert len(found.train) == (12 if "999" in FAULTS[spoil] else 11)
    with pytest.raises(RunFailedError, match=FAULTS[spoil]) as refused:
        read(tmp_path, max_bad_fraction=0)
    assert "\n" not in str(refused.value)


def test_classes_in_another_order_are_found_by_name(tmp_path):
    write_scenes(tmp_path, {"train": 3, "val": 1})
    known = SceneClasses(("grass", "sky", "brick", "snow"), (0, 1, 2, 3), default_palette(4))
    scenes, name, _ = read_scene_split(tmp_path, None, SceneRequest(known=known))
    assert name == "val"
    assert np.array_equal(scenes.mask(0), np.array([1, 2, 0], np.uint8)[draw(3)[1]])
    with pytest.raises(UserError, match=r"that the model does not have: brick, grass, sky|does not have"):
        read_scene_split(
            tmp_path, None, SceneRequest(known=SceneClasses(("a", "b"), (0, 1), default_palette(2)))
        )  # fmt: skip


def coco(root, annotations, count=6):
    (root / "images").mkdir(parents=True)
    for number in range(count):
        Image.fromarray(draw(number)[0]).save(root / "images" / f"{number}.png")
    said = {
        "images": [{"id": n + 1, "file_name": f"{n}.png", "width": 48, "height": 40} for n in range(count)],
        "categories": [{"id": 7, "name": "house"}, {"id": 3, "name": "car"}],
        "annotations": annotations,
    }
    (root / "instances.json").write_text(json.dumps(said))
    return root


def square(x, y, side, **more):
    points = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {"id": 1, "image_id": 1, "category_id": 7, "segmentation": [points], "iscrowd": 0} | more


def test_coco_objects_are_drawn_small_ones_on_top(tmp_path):
    runs = {"size": [40, 48], "counts": [0, 5, 40 * 48 - 5]}
    small = square(10, 10, 4, category_id=3, id=2)
    found = read(coco(tmp_path, [small, square(4, 4, 20), square(0, 0, 0, segmentation=runs, image_id=2, id=3)]))
    scenes, _, _ = read_scene_split(tmp_path, None, SceneRequest())
    assert found.train.names == ("background", "car", "house")
    mask = scenes.mask(0)
    assert (mask[11, 11], mask[6, 6], mask[35, 40]) == (1, 2, 0)
    assert np.bincount(mask.ravel()).tolist() == [40 * 48 - 400, 16, 384]
    assert scenes.mask(1)[:5, 0].tolist() == [2] * 5
    assert not scenes.mask(2).any()


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (square(0, 0, 4, category_id=99), "category 99 is not in the json"),
        (square(0, 0, 4, segmentation=[[1, 2, 3, 4]]), "a polygon of 4 numbers"),
        (square(0, 0, 4, segmentation=[[1, 2, 3, float("nan"), 5, 6]]), "no finite number"),
        (square(0, 0, 4, segmentation={"size": [4, 4], "counts": [16]}), "its mask is of"),
        (square(0, 0, 4, segmentation={"size": [40, 48], "counts": [5]}), "do not cover the image"),
        (square(0, 0, 4, segmentation={"size": [40, 48], "counts": "zzzz"}), "run lengths"),
        (square(0, 0, 4, segmentation=None), "no segmentation"),
    ],
)
def test_objects_that_cannot_be_drawn_are_named(tmp_path, annotation, said):
    coco(tmp_path, [annotation, square(1, 1, 9, image_id=2)], count=12)
    with pytest.raises(RunFailedError, match=said):
        read(tmp_path, max_bad_fraction=0)


def test_what_is_for_mask_files_is_refused_with_coco_objects(tmp_path):
    coco(tmp_path, [square(1, 1, 9)])
    for changes in ({"ignore": 0}, {"reduce_zero_label": True}, {"classes": tmp_path / "x.json"}):
        with pytest.raises(UserError, match="is for mask files"):
            read(tmp_path, **changes)


def test_255_is_no_class_whatever_else_is_none(tmp_path):
    def save(classes, path):
        classes[0] = 255
        Image.fromarray(classes).save(path)

    found = read(write_scenes(tmp_path, {"": 6}, classes_file=False, save=save), ignore=0)
    assert found.train.names == ("1", "2")
    assert (found.train.mask(0)[0] == NO_CLASS).all()


def test_real_scenes():
    if not SHARED.is_dir():
        pytest.skip("the folder of shared images is not here")
    found = read(SHARED / "camvid")
    assert [len(part) for part in (found.train, found.val, found.test)] == [367, 101, 233]
    told = json.loads((SHARED / "camvid" / "classes.json").read_text())["pixel_counts"]
    assert found.train.pixels().tolist() == told["train"][:11]
    assert found.test.counts[:, -1].sum() == told["test"][11]
