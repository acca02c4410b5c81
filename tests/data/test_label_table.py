"""Labels from tables: every form of them, and what users mistype."""

import pytest
import torch
from labelled import PNG, read, refusal, table, written


@pytest.mark.parametrize(
    "lines",
    [
        ("path,label", "a.png,cat", "b.png,dog", "c.png,cat", "d.png,dog"),
        ("Label; FileName", "cat; a.png", "dog;b.png", "", " ;", "cat;c.png", "dog;d.png"),
        ("image\ttarget\tnote", "a.png\tcat\tx, y; z", "b.png\tdog\t", "c.png\tcat\t", "d.png\tdog\t"),
        ("a.png,cat", "b.png,dog", "c.png,cat", "d.png,dog"),
        ("a.png;cat", "b.png;dog", "c.png;cat", "d.png;dog"),
        ('"file","class"', '"a.png","cat"', "b.png,dog", "c.png,cat", "d.png,dog"),
    ],
    ids=["comma", "semicolon", "tab", "no header", "no header, semicolon", "quoted"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_of_every_form(tmp_path, lines, encoding):
    splits = read(table(tmp_path, *lines, encoding=encoding), val_fraction=0)
    assert written(splits.train) == {"a.png": ["cat"], "b.png": ["dog"], "c.png": ["cat"], "d.png": ["dog"]}
    assert splits.train.images.root == tmp_path
    assert splits.train.images.path(1).read_bytes().startswith(PNG)


def test_without_a_header_the_path_tells_the_delimiter(tmp_path):
    splits = read(table(tmp_path, "a.png;cat,big", "b.png;dog,small"), val_fraction=0, label_separator="|")
    assert splits.train.classes == ("cat,big", "dog,small")


def test_split_column_and_absolute_paths(tmp_path):
    source = table(
        tmp_path, "split,path,label", f"train,{tmp_path}/a.png,10", "Training,b.png,9", "train,c.png,9",
        "valid,d.png,9", "TEST,e.png,10", "test,f.png,9",
    )  # fmt: skip
    splits = read(source)
    assert splits.train.classes == ("9", "10")
    assert splits.train.labels.tolist() == [1, 0, 0]
    assert splits.val.images.names == ("d.png",)
    assert splits.test.labels.tolist() == [1, 0]
    assert splits.notes == ("val has no image of 1 of 2 classes: 10",)


def test_several_labels_in_a_cell(tmp_path):
    rows = ("a.png,x; y", "b.png,", "c.png,z;", "d.png,y;y", "a.png,z")
    splits = read(table(tmp_path, "path,labels", *rows), val_fraction=0)
    assert written(splits.train) == {"a.png": ["x", "y", "z"], "b.png": [], "c.png": ["z"], "d.png": ["y"]}
    assert splits.train.labels.dtype == torch.float32
    assert splits.train.counts().tolist() == [1, 2, 2]
    assert "may have several labels: ';' separates them" in splits.notes[0]
    assert "1 of 4 images" in splits.notes[1]
    bars = table(tmp_path, "path;labels", "a.png;x|y", "b.png;x")
    assert written(read(bars, label_separator="|", val_fraction=0).train)["a.png"] == ["x", "y"]
    single = read(table(tmp_path, "path,label", "a.png,x", "b.png,"), multi_label=True, val_fraction=0).train
    assert single.labels.tolist() == [[1], [0]]


def test_of_several_columns_the_most_telling_is_taken_and_the_others_noted(tmp_path):
    splits = read(table(tmp_path, "name,path,class,label", "x,a.png,k,1", "y,b.png,k,2"), val_fraction=0)
    assert splits.train.classes == ("1", "2")
    assert "paths are taken from column 'path'" in splits.notes[0]
    assert "labels are taken from column 'label'" in splits.notes[1]


@pytest.mark.parametrize(
    ("lines", "options", "expected"),
    [
        (("path,kind", "a.png,x"), {}, "its columns are path, kind: rename"),
        (("img,kind", "a.png,x"), {}, "its columns are img, kind: rename"),
        (("a.png,x,y", "b.png,x,y"), {}, "its columns are a.png, x, y"),
        (("path,label",), {}, "names no images"),
        (("",), {}, "is empty"),
        (("path,label", "a.png,x", "b.png,y,z"), {}, "line 3 of"),
        (("path;label", "a.png;x", "b.png;x;y"), {}, "around a cell that holds ';'"),
        (("path,label", "a.png,x", "b.png,", "c.png,y", "d.png,"), {}, "2 images of"),
        (("path,label", "a.png,x", "./a.png,y"), {}, "1 images are on several lines"),
        (("path,label", "a.png,x", ",y"), {}, "line 3 of"),
        (("path,label", "a.png,x", "b.png,x"), {}, "found only one class 'x'"),
        (("path,label", "a.png,", "b.png,"), {"multi_label": True}, "has a label"),
        (("path,label", "no.png,x", "gone.png,y"), {}, "none of the 2 files"),
        (("path,label,split", "a.png,x,train", "b.png,y,dev"), {}, "has the split 'dev': write train, val or test"),
        (("path,label,split", "a.png,x,test", "b.png,y,test"), {}, "holds test but no train"),
        (("path,label,split", "a.png,x,train", "a.png,x;y,test"), {}, "into different splits"),
        (("path,label,split", "a.png,x,train", "b.png,y,train", "c.png,z,val"), {}, "1 class that train does not have"),
        (("path,label", "a.png,x", "b.png,y"), {"group_column": "who"}, "no column 'who'"),
        (("a.png,x", "b.png,y"), {"group_column": "who"}, "needs a column of paths"),
        (("path,label,who", "a.png,x,1", "b.png,y,"), {"group_column": "who"}, "line 3 of"),
        (("path,label,who", "a.png,x,1", "b.png,y,1"), {"group_column": "who"}, "of the group '1'"),
        (("path,label", "a.png,x", "b.png,y"), {"label_separator": ""}, "empty label_separator"),
        (("path,label", "a.png,x", "b.png,y"), {"group_pattern": "("}, "is not a valid regular expression"),
        (("path,label", "a.png,x", "b.png,y"), {"group_pattern": "a"}, "finds no group in 1 of 2 names (b.png)"),
    ],
)  # fmt: skip
def test_refusals_of_tables(tmp_path, lines, options, expected):
    message = refusal(table(tmp_path, *lines), **options)
    assert expected in message
    assert options or str(tmp_path) in message


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"path,label\na.png,\x00"])
def test_a_file_that_is_no_text(tmp_path, content):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    assert "neither a folder nor a UTF-8 CSV" in refusal(path)


def test_a_cell_too_long_to_read(tmp_path):
    message = refusal(table(tmp_path, "path,label", 'a.png,"' + "x" * 140_000))
    assert "is a quotation mark missing?" in message
