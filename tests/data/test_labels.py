"""Labelled pictures: folders split or not, for training and for evaluation, and what users mistype."""

from pathlib import Path

import pytest
import torch
from labelled import PNG, fill, read, refusal, table, written

from convnextv2.data.labels.labels import class_order, few_labels
from convnextv2.data.labels.splits import read_labelled
from convnextv2.errors import UserError

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Train", "valid", "Test"), ("training", "validation", "testing")]
)
def test_a_split_folder_is_taken_as_it_is(tmp_path, names):
    train, val, test = names
    fill(tmp_path, **{f"{train}__dogs": 3, f"{train}__cats__deep": 2, f"{val}__dogs": 1, f"{test}__cats": 2})
    splits = read(tmp_path)
    assert splits.train.classes == splits.val.classes == splits.test.classes == ("cats", "dogs")
    assert splits.train.images.root == tmp_path / train
    assert written(splits.train) == {
        "cats/deep/0.png": ["cats"], "cats/deep/1.png": ["cats"],
        "dogs/0.png": ["dogs"], "dogs/1.png": ["dogs"], "dogs/2.png": ["dogs"],
    }  # fmt: skip
    assert splits.train.labels.dtype == torch.int64
    assert splits.train.counts().tolist() == [2, 3]
    assert splits.train.images.path(0).read_bytes().startswith(PNG)
    assert (len(splits.val), len(splits.test)) == (1, 2)
    assert splits.notes == ("val has no image of 1 of 2 classes: cats", "test has no image of 1 of 2 classes: dogs")


def test_val_is_drawn_from_train_where_there_is_none(tmp_path):
    fill(tmp_path, train__a=30, train__b=20, test__a=4, test__b=5)
    splits = read(tmp_path)
    assert splits.val.counts().tolist() == [3, 2]
    assert splits.train.counts().tolist() == [27, 18]
    assert splits.test.counts().tolist() == [4, 5]
    (note,) = splits.notes
    assert "has no val: 5 of 50 images were drawn for val (0.1 of each class, seed 0" in note


def test_class_folders_are_split(tmp_path):
    fill(tmp_path, a=30, b=10, c=1)
    splits = read(tmp_path)
    assert splits.val.counts().tolist() == [6, 2, 0]
    assert splits.train.counts().tolist() == [24, 8, 1]
    assert splits.test is None
    assert "is not split: 8 of 41 images were drawn for val (0.2 of each class, seed 0" in splits.notes[0]
    assert splits.notes[1:] == ("val has no image of 1 of 3 classes: c",)
    assert read(tmp_path, val_fraction=0.5).val.counts().tolist() == [15, 5, 0]
    assert read(tmp_path, seed=1).val.images.names != splits.val.images.names
    whole = read(tmp_path, val_fraction=0)
    assert (len(whole.train), whole.val) == (41, None)
    assert "nothing is kept for val" in whole.notes[0]


def test_one_picture_a_class_leaves_none_for_val(tmp_path):
    splits = read(fill(tmp_path, a=1, b=1))
    assert (len(splits.train), splits.val) == (2, None)
    assert "no image can be kept for val" in splits.notes[0]


def test_several_labels_from_folders(tmp_path):
    splits = read(fill(tmp_path, a=5, b=10), multi_label=True)
    assert splits.train.multi_label
    assert splits.train.labels.dtype == torch.float32
    assert splits.val.labels.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert splits.val.counts().tolist() == [1, 2]
    assert splits.val.counts().dtype == torch.int64


def test_a_folder_named_train_may_be_a_class(tmp_path):
    fill(tmp_path, bus=5, car=5, train=5)
    assert read(tmp_path).train.classes == ("bus", "car", "train")


def test_what_is_passed_over_is_noted(tmp_path):
    fill(tmp_path, here=2, train__a=9, train__b=9, val__a=3, val__b=3, test=4, train=7, extra=1, train__empty=0)
    (tmp_path / "train" / "a" / "readme.txt").write_text("x")
    splits = read(tmp_path, val_fraction=0.5)
    assert (len(splits.train), len(splits.val), splits.test) == (18, 6, None)
    assert splits.train.images.ignored == {".png": 7, ".txt": 1}
    notes = "\n".join(splits.notes)
    assert f"7 images beside the class folders of {tmp_path / 'train'} (0.png, 1.png, 2.png and 4 more)" in notes
    assert f"not a class, as it has no images of its own, in {tmp_path / 'train'}: empty" in notes
    assert f"the 4 images of {tmp_path / 'test'} lie in no class folders" in notes
    assert "beside test, train, val: extra/, 0.png, 1.png" in notes
    assert "--val-fraction has no effect" in notes
    assert len(splits.notes) == 5


def test_pointing_at_train_alone_tells_of_its_neighbours(tmp_path):
    fill(tmp_path, train__a=5, train__b=5, val__a=1)
    assert "not read: val beside" in read(tmp_path / "train").notes[0]


def test_order_of_classes():
    assert class_order(["10", "2", "-1", "002", "2"]) == ("-1", "002", "2", "10")
    assert class_order(["10", "2", "x"]) == ("10", "2", "x")
    assert class_order(["b", "B", "a", "ä"]) == ("B", "a", "b", "ä")


def test_refusals_of_folders(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "no images in" in refusal(fill(tmp_path / "bare", cats=0, dogs=0))
    assert "no images in" in refusal(fill(tmp_path / "hollow", train=0, val__a=1))
    assert "holds test but no train" in refusal(fill(tmp_path / "late", test__a=1, test__b=1))
    assert "both val and validation" in refusal(fill(tmp_path / "twice", train__a=1, val__a=1, validation__a=1))
    (tmp_path / "one.png").write_bytes(PNG)
    assert "single image" in refusal(tmp_path / "one.png")
    flat = refusal(fill(tmp_path / "flat", train=3, val=2))
    assert f"{tmp_path / 'flat' / 'train'} lie in no class folders: put them into one folder per class" in flat
    assert "group_column is for a CSV" in refusal(tmp_path, group_column="x")
    assert "give one of them" in refusal(tmp_path, group_column="x", group_pattern="x")


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_fractions_out_of_range(tmp_path, fraction):
    assert f"val_fraction={fraction:g}" in refusal(tmp_path, val_fraction=fraction)


def test_one_class_says_what_to_give_instead(tmp_path):
    fill(tmp_path, set__train__cats=2, set__train__dogs=2, alone__x=2, zip__inside__a=1, zip__inside__b=1)
    train = tmp_path / "set" / "train"
    assert refusal(train / "cats") == (
        f"the images of {train / 'cats'} lie in no class folders:"
        f" give the folder above it ({tmp_path / 'set'}), with one folder per class"
    )
    assert refusal(tmp_path / "alone") == (
        f"found only one class 'x' in {tmp_path / 'alone'}: give the folder above it, with one folder per class"
    )
    assert f"if its folders are the classes, give {tmp_path / 'zip' / 'inside'}" in refusal(tmp_path / "zip")
    fill(tmp_path / "half", train__a=2, val__a=1)
    assert "put the images of every other class into a folder beside it" in refusal(tmp_path / "half")


def test_classes_that_train_does_not_have(tmp_path):
    fill(tmp_path, train__cats=1, train__dogs=1, val__Dogs=1, **{f"val__{number}": 1 for number in range(12)})
    message = refusal(tmp_path)
    assert "13 classes that train does not have, perhaps spelled differently: '0', '1', '10'" in message
    assert message.count("'") == 2 * 10
    assert "and 3 more" in message
    fill(tmp_path / "b", train__cats=1, train__dogs=1, test__Dogs=1)
    assert "'Dogs' (for 'dogs'?)" in refusal(tmp_path / "b")


def test_a_subset_keeps_root_classes_and_order_asked_for(tmp_path):
    data = read(fill(tmp_path, a=2, b=2), val_fraction=0).train
    some = data.subset([3, 0])
    assert written(some) == {"b/1.png": ["b"], "a/0.png": ["a"]}
    assert (some.classes, some.images.root) == (data.classes, tmp_path)
    assert len(data.subset([])) == 0


def test_labelled_in_the_order_of_the_model(tmp_path):
    fill(tmp_path, train__a=1, train__b=2, test__b=3, val__a=1)
    classes = ("c", "b", "a")
    test = read_labelled(tmp_path, "test", classes, multi_label=False)
    assert (test.classes, test.labels.tolist()) == (classes, [1, 1, 1])
    every = read_labelled(tmp_path, None, classes, multi_label=False)
    assert every.images.names == ("train/a/0.png", "train/b/0.png", "train/b/1.png", "val/a/0.png",
                                  "test/b/0.png", "test/b/1.png", "test/b/2.png")  # fmt: skip
    assert every.labels.tolist() == [2, 1, 1, 2, 1, 1, 1]
    assert all(every.images.path(index).exists() for index in range(len(every)))
    flat = read_labelled(tmp_path / "test", "val", classes, multi_label=True)
    assert flat.labels.tolist() == [[0, 1, 0]] * 3


def test_labelled_from_a_table(tmp_path):
    source = table(tmp_path, "path,label,split", "a.png,x,train", "b.png,y;x,val", "c.png,,val")
    assert read_labelled(source, "validation", "yx", multi_label=True).labels.tolist() == [[1, 1], [0, 0]]
    assert len(read_labelled(source, None, "yx", multi_label=True)) == 3
    with pytest.raises(UserError, match=r"several labels per image.*the model predicts one"):
        read_labelled(source, "val", "yx", multi_label=False)
    with pytest.raises(UserError, match=r"no test images.*\(train, val\)"):
        read_labelled(source, "test", "yx", multi_label=True)
    with pytest.raises(UserError, match="'dev': give train, val or test"):
        read_labelled(source, "dev", "yx", multi_label=True)
    with pytest.raises(UserError, match=r"1 class that the model does not have.*'y'"):
        read_labelled(source, "val", "x", multi_label=True)


def test_no_such_folder_of_a_split(tmp_path):
    with pytest.raises(UserError, match=r"no test images.*\(train, val\)"):
        read_labelled(fill(tmp_path, train__a=1, val__a=1), "test", "a", multi_label=False)


@pytest.mark.skipif(not (DATA / "clothing_small_160").is_dir(), reason=f"no clothing in {DATA}")
def test_clothing():
    splits = read(DATA / "clothing_small_160")
    assert (len(splits.train), len(splits.val), len(splits.test)) == (780, 146, 214)
    assert splits.notes == ()
    assert splits.train.counts().tolist() == [78] * 10
    assert splits.test.counts().tolist() == [15, 12, 25, 25, 25, 25, 25, 25, 12, 25]
    assert splits.train.classes[:3] == ("dress", "hat", "longsleeve")
    assert few_labels(splits.train, 0.1, 0).counts().tolist() == [8] * 10


@pytest.mark.skipif(not (DATA / "tiny_imagenet_100").is_dir(), reason=f"no Tiny ImageNet in {DATA}")
def test_tiny_imagenet():
    splits = read(DATA / "tiny_imagenet_100")
    assert splits.train.counts().tolist() == [300] * 100
    assert splits.val.counts().tolist() == [50] * 100
    assert (splits.test, splits.notes) == (None, ())
    assert list(splits.train.classes) == (DATA / "tiny_imagenet_100" / "wnids.txt").read_text().split()
