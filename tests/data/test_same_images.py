"""The same images on both sides of a split: copies, links, and how much it may cost to find them."""

import os
import shutil

import pytest
from labelled import fill, read, table

from convnextv2.data.labels import same_images


def about_same(source, **options):
    return [note for note in read(source, **options).notes if "are also in" in note]


def copy(one, other):
    shutil.copytree(one, other)


def hard_links(one, other):
    shutil.copytree(one, other, copy_function=os.link)


def links(one, other):
    shutil.copytree(one, other, copy_function=lambda a, b: os.symlink(os.path.abspath(a), b))


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (copy, "byte for byte"),
        (hard_links, "as the same files, linked"),
        (links, "as the same files, linked"),
        (lambda one, other: os.symlink("train", other), "as the same files, linked"),
    ],
    ids=["copy", "hard links", "links of files", "link of the folder"],
)
def test_val_that_is_train(tmp_path, make, how):
    fill(tmp_path, train__a=5, train__b=4)
    make(tmp_path / "train", tmp_path / "val")
    assert about_same(tmp_path) == [
        f"all 9 images of val are also in train, {how} (a/0.png is a/0.png); results on val say nothing about images"
        " that were not trained on"
    ]


def test_some_images_on_both_sides(tmp_path):
    fill(tmp_path, train__a=5, train__b=4, val__a=3, val__b=3, test__a=2, test__b=2)
    shutil.copy(tmp_path / "train/b/2.png", tmp_path / "val/a/renamed.png")
    os.link(tmp_path / "train/a/1.png", tmp_path / "val/b/linked.png")
    shutil.copy(tmp_path / "val/a/0.png", tmp_path / "test/b/0.png")
    assert about_same(tmp_path) == [
        "2 of 8 images of val are also in train, byte for byte (such as a/renamed.png, which is b/2.png there); results"
        " on val will be too optimistic",
        "1 of 4 images of test are also in val, byte for byte (such as b/0.png, which is a/0.png there); results on"
        " test will be too optimistic",
    ]


def test_copies_inside_a_folder_that_is_split_here(tmp_path):
    fill(tmp_path, a=10, b=10)
    for name in "ab":
        for number in range(10):
            shutil.copy(tmp_path / name / f"{number}.png", tmp_path / name / f"copy of {number}.png")
    (note,) = about_same(tmp_path)
    splits = read(tmp_path)
    contents = [{part.images.path(i).read_bytes() for i in range(len(part))} for part in (splits.train, splits.val)]
    both = sum(splits.val.images.path(i).read_bytes() in contents[0] for i in range(len(splits.val)))
    assert both
    assert f"{both} of 8 images of val are also in train" in note or f"all {both} images" in note


def test_equal_sizes_are_not_equal_images(tmp_path, monkeypatch):
    fill(tmp_path, train__a=3, train__b=3, val__a=3, val__b=3)
    for number, path in enumerate(sorted(tmp_path.rglob("*.png"))):
        path.write_bytes(bytes(20_000) + number.to_bytes(2, "big") + bytes(30_000))  # equal but for one place
    assert about_same(tmp_path) == []
    shutil.copy(tmp_path / "train/a/0.png", tmp_path / "val/b/0.png")
    (note,) = about_same(tmp_path)
    assert note.startswith("1 of 6 images of val are also in train, byte for byte (such as b/0.png, which is a/0.png")
    read_in_full = []
    digest = same_images._digest
    monkeypatch.setattr(same_images, "_digest", lambda path: read_in_full.append(path) or digest(path))
    (tmp_path / "val/a/1.png").write_bytes(b"of another size")
    about_same(tmp_path)
    assert len(read_in_full) == 11


def test_empty_and_missing_files_are_no_copies(tmp_path):
    source = table(tmp_path, "path,label,split", "a.png,x,train", "no.png,x,train", "b.png,y,train", "no.png ,x,train",
                   "c.png,x,val", "gone.png,y,val", "d.png,y,test")  # fmt: skip
    for name in "acd":
        (tmp_path / f"{name}.png").write_bytes(b"")
    assert about_same(source) == []


def test_the_cost_is_bounded(tmp_path, monkeypatch):
    fill(tmp_path, train__a=60, train__b=60)
    copy(tmp_path / "train", tmp_path / "val")
    monkeypatch.setattr(same_images, "MOST_FILES", 80)
    (note,) = about_same(tmp_path)
    looked = int(note.split("all ")[1].split()[0])
    assert 0 < looked < 80
    assert note.startswith(f"all {looked} images of val that were compared are also in train, byte for byte")
    monkeypatch.setattr(same_images, "MOST_FILES", 1000)
    monkeypatch.setattr(same_images, "MOST_READ", 50)
    opened = []
    monkeypatch.setattr(same_images, "_sample", lambda path, size: opened.append(path))
    about_same(tmp_path)
    assert len(opened) <= 50
    monkeypatch.undo()
    monkeypatch.setattr(same_images, "MOST_BYTES", 60_000)
    for folder in ("train", "val"):
        for number in range(4):
            (tmp_path / folder / f"a/{number}.png").write_bytes(bytes([number]) * (20_000 + number))
    shutil.rmtree(tmp_path / "train/b")
    shutil.rmtree(tmp_path / "val/b")
    fill(tmp_path, train__b=1, val__b=1)
    (note,) = about_same(tmp_path)
    assert note.startswith("at least 57 of 61 images of val are also in train, byte for byte")
