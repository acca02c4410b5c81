"""Tables as spreadsheets, data frames and other projects write them: read right, or told what to type."""

import io
import json
import zipfile

import pytest
import torch
from labelled import distinct, read, refusal, written

from convnextv2.data.labels.splits import read_labelled

PLAIN = {"a.png": ["cat"], "b.png": ["dog"], "c.png": ["cat"], "d.png": ["dog"]}
CSV = "path,label\na.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n"


def place(root, content, name="labels.csv", images="abcdefghij"):
    """A table of those bytes, beside a.png to j.png."""
    for image in images:
        (root / f"{image}.png").write_bytes(distinct(image))
    path = root / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def labels_of(source, **options):
    splits = read(source, val_fraction=0, **options)
    return written(splits.train), [note for note in splits.notes if "is kept for val" not in note]


@pytest.mark.parametrize(
    "content",
    [
        CSV.encode("utf-8-sig"),
        CSV.encode("utf-16"),
        CSV.encode("utf-16-le"),
        CSV.encode("utf-16-be"),
        b"\xfe\xff" + CSV.encode("utf-16-be"),
        CSV.encode("utf-32"),
        CSV.replace("\n", "\r").encode(),
        CSV.replace("\n", "\r\n").encode(),
        ("sep=,\n" + CSV).encode(),
        ("sep=;\r\n" + CSV.replace(",", ";")).encode(),
        ("\ufeffSEP=;\n" + CSV.replace(",", ";")).encode(),
        ('"sep=;"\n' + CSV.replace(",", ";")).encode(),
        ("sep=;\n" + CSV.replace(",", ";")).encode("utf-16"),
        ("sep=\t\n" + CSV.replace(",", "\t")).encode(),
        CSV.replace(",", "\t").encode("utf-16"),  # Excel's "Unicode text"
        CSV.replace(",", ";").encode(),
        CSV.replace(",", "|").encode(),
        CSV.replace("label", "label,note").replace("cat", 'cat,"two\nlines"').replace("dog", "dog,").encode(),
        b"path,label\n'=a.png,cat\n$'b.png',dog\na.png,cat\nc.png,cat\nd.png,dog\n".replace(b"'=a.png,cat\n", b""),
        b"a.png cat\nb.png dog\nc.png cat\nd.png dog\n",
        b"# of mine\na.png\tcat\r\nb.png   dog\r\n\r\nc.png cat\nd.png dog",
        "a.png cat\nb.png dog\nc.png cat\nd.png dog\n".encode("utf-16"),
        b"path label\na.png cat\nb.png dog\nc.png cat\nd.png dog\n",
        b"path,cat,dog\na.png,1,0\nb.png,0,1\nc.png,1,0\nd.png,0,1\n",
        b"image\tcat\tdog\na.png\t1.0\t0.0\nb.png\t0.0\t1.0\nc.png\t1.0\t0.0\nd.png\t0.0\t1.0\n",
        b"image;cat;dog\na.png;1,0;0,0\nb.png;0,0;1,0\nc.png;1,0;0,0\nd.png;0,0;1,0\n",
        b",file,cat,dog\n0,a.png,True,False\n1,b.png,False,True\n2,c.png,True,False\n3,d.png,False,True\n",
        b"dog,cat,picture\n0,1,a.png\n1,0,b.png\n0,1,c.png\n1,0,d.png\n",
        b"picture,label\na.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n",
        CSV.replace(".png", ".png ").replace("cat", " cat ").encode(),
        CSV.replace("a.png", r".\a.png").replace("c.png", r"..\HERE\c.png").encode(),
    ],
    ids=[
        "UTF-8 with a mark", "UTF-16", "UTF-16 LE without a mark", "UTF-16 BE without a mark", "UTF-16 BE", "UTF-32",
        "CR", "CR LF", "sep comma", "sep semicolon", "mark and sep", "quoted sep", "UTF-16 and sep", "sep tab",
        "Unicode text", "semicolon", "bar", "quoted newline", "shell quotes", "list", "list with blanks", "UTF-16 list",
        "list with a header", "one-hot", "one-hot of floats", "one-hot with decimal commas", "one-hot of a data frame",
        "one-hot and a path column of another name", "path column of another name", "blanks", "backslashes",
    ],
)  # fmt: skip
def test_read_as_what_they_mean(tmp_path, content):
    here = tmp_path / "HERE"
    here.mkdir()
    found, _ = labels_of(place(here, content))
    assert {name.rpartition("/")[2]: words for name, words in found.items()} == PLAIN


@pytest.mark.parametrize(
    ("content", "options", "expected", "told"),
    [
        ("path,cat,dog\na.png,1,1\nb.png,0,0\nc.png,0,1\n", {},
         {"a.png": ["cat", "dog"], "b.png": [], "c.png": ["dog"]},
         "of 0 and 1: 'cat', 'dog'; images may have several labels or none"),
        ("path,cat,dog\na.png,1,0\nb.png,0,1\n", {}, {"a.png": ["cat"], "b.png": ["dog"]}, "every image has one label"),
        ("path,cat,dog\na.png,1,0\nb.png,0,1\n", {"label_column": "Dog"}, {"a.png": ["0"], "b.png": ["1"]}, ""),
        ("path,cat,dog,label\na.png,1,0,x\nb.png,0,1,y\n", {}, {"a.png": ["x"], "b.png": ["y"]}, ""),
        ("path,kind,age\na.png,x,3\nb.png,y,4\n", {"label_column": "kind"}, {"a.png": ["x"], "b.png": ["y"]}, ""),
        ("Image Index,Finding Labels\na.png,x|y\nb.png,z\n", {"label_column": "Finding Labels", "label_separator": "|"},
         {"a.png": ["x", "y"], "b.png": ["z"]}, "paths are taken from column 'Image Index'"),
        ("a.png 0 3\nb.png 1\n", {"label_separator": " "}, {"a.png": ["0", "3"], "b.png": ["1"]}, ""),
        ("a b.png 3\nc.png 12\n", {}, None, ""),
        ("path,label\na.png,x\nb.png,y\na.png,x\n./b.png,y\na.png,x\n", {}, {"a.png": ["x"], "b.png": ["y"]},
         "3 lines of HERE name an image again, with the same label: read once"),
        ("path,label\na.png,x;y\nb.png,NaN\nc.png,y\n", {}, {"a.png": ["x", "y"], "b.png": [], "c.png": ["y"]},
         "1 of 3 images of HERE have no label"),
        ("path,label\na.png,-1\nb.png,1\nc.png,0\n", {}, {"a.png": ["-1"], "b.png": ["1"], "c.png": ["0"]}, ""),
        ("path,label\na.png,'=x\nb.png,'-y\nc.png,'s-Hertogenbosch\n", {},
         {"a.png": ["=x"], "b.png": ["-y"], "c.png": ["'s-Hertogenbosch"]}, ""),
        ("path,label\na.png,$'x\\x3by'\nb.png,z\n", {}, {"a.png": ["x;y"], "b.png": ["z"]}, ""),
        ("path,label\nimages\\a.png,x\nimages\\b.png,y\n", {}, {"images/a.png": ["x"], "images/b.png": ["y"]},
         "backslashes in 2 paths of HERE are read as /"),
    ],
)  # fmt: skip
def test_labels_and_what_is_said(tmp_path, content, options, expected, told):
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "../a b"):
        (tmp_path / "images" / f"{name}.png").write_bytes(distinct(name))
    source = place(tmp_path, content)
    found, notes = labels_of(source, **options)
    assert found == ({"a b.png": ["3"], "c.png": ["12"]} if expected is None else expected)
    said = "\n".join(notes).replace(str(source), "HERE")
    assert told in said
    assert len(notes) <= 2
    if not told and "label_separator" not in options:
        assert not notes


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["a,cat", "b,dog|cat", "c,dog"], "labels such as 'dog|cat' are read as one class each in HERE (1 of them): if"
         " '|' separates several labels, give label_separator '|'"),
        (["a,cat", 'b,"dog, cat"', "c,dog"], "labels such as 'dog, cat'"),
        (["a,cat", "b,dog/cat", "c,dog"], "labels such as 'dog/cat'"),
        (["a,clear primary", "b,haze primary", "c,clear water", "d,haze water"], "labels such as 'clear primary'"),
        (["a,cat", "b,None", "c,None"], "read as a class like any other in HERE: 'None' (2 images); if it means that"),
        (["a,cat", "b,NA", "c,dog"], "'NA' (1 image)"),
        (["a,cat", "b,n/a", "c,dog"], "'n/a' (1 image)"),
        (["a,1", "b,1.0", "c,01", "d,2", "e,02"], "look alike and are read as different ones: '01' (1 image) and '1' (1"
         " image) and '1.0' (1 image); '02' (1 image) and '2' (1 image); write them alike"),
        (["a,Cat", "b,cat", "c,dog"], "'Cat' (1 image) and 'cat' (1 image)"),
        (["a,ca t", "b,ca  t", "c,dog"], "'ca  t' (1 image) and 'ca t' (1 image)"),
        (["a,cat", "b,\uff43at", "c,dog"], "look alike"),
        (["a,cat", "b,c\u200bat", "c,dog"], "look alike"),
        (["a,cafe\u0301", "b,caf\u00e9", "c,dog"], "labels of HERE that differ only in Unicode form (NFC, NFD) are read"
         " as one: 'cafe\\u0301' and 'caf\\xe9'"),
    ],
)  # fmt: skip
def test_doubtful_labels_are_told(tmp_path, rows, told):
    text = "path,label\n" + "".join(row[0] + ".png" + row[1:] + "\n" for row in rows)
    source = place(tmp_path, text)
    found, notes = labels_of(source)
    (note,) = notes
    assert told in note.replace(str(source), "HERE").replace("--label-separator", "label_separator")
    assert len(found) == len(rows)


@pytest.mark.parametrize(
    "rows",
    [
        ["a,golden retriever", "b,labrador retriever", "c,tabby cat"],
        ['a,"tench, Tinca tinca"', 'b,"goldfish, Carassius auratus"', "c,crane"],
        ["a,animal/cat", "b,animal/dog", "c,plant/oak"],
        ["a,1", "b,1.5", "c,1.50", "d,1e0"],
        ["a,nothing", "b,naan", "c,[none]", "d,(left)", "e,{x}"],
        ["a,R&D", "b,AT&T", "c,C++"],
    ],
)
def test_usual_names_are_not_doubted(tmp_path, rows):
    source = place(tmp_path, "path,label\n" + "".join(row[0] + ".png" + row[1:] + "\n" for row in rows))
    found, notes = labels_of(source)
    assert notes == []
    assert [words[0] for words in found.values()] == [row[2:].strip('"') for row in rows]


def _many(count, odd):
    names = "".join(f"x{number}.png,{'cat' if number % 2 else 'dog'}\n" for number in range(count - len(odd)))
    return "path,label\na.png,cat\n" + names + "".join(odd)


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (_many(1000, ["b.png,cat;dog\n"]), {}, "1 of 1001 labels in HERE hold ';' (the first in line 1002: 'cat;dog'):"
         " correct them; or give multi_label if images may have several labels, or another label_separator"),
        (_many(1000, ["b.png,cat;dog\n"] * 40), {}, "40 of 1001 labels"),
        ("path,label\na.png,x\nb.png,nan\nc.png,\nd.png,<NA>\ne.png,y\n", {}, "3 images of HERE have no label (lines 3,"
         " 4, 5; nan counts as none): write one, remove the lines, or give multi_label if images may have none"),
        ("path,label\na.png,x\nb.png,\"['x', 'y']\"\n", {}, "1 labels in HERE are lists or dictionaries (the first in"
         " line 3: ['x', 'y']): write the labels of an image as text, a;b if it has several"),
        ("path,label\na.png,\"['x', 'y']\"\nb.png,['y']\n", {"multi_label": True}, "2 labels in HERE are lists"),
        ('path,label\na.png,x\nb.png,"{""a"": 1}"\n', {}, "lists or dictionaries"),
        ('path,label\na.png,x\nb.png,"[""a"", true]"\n', {}, "lists or dictionaries"),
        ("path,label\na.png,x\nb.png,[0 1 0]\n", {}, "lists or dictionaries"),
        ('path,label\na.png,x\nb.png,"[cat, dog]"\n', {}, "lists or dictionaries"),
        ("path,label\na.png,x\nb.png,{cat: 1}\n", {}, "lists or dictionaries"),
        ("path,label\na.png,x\nb.png,\"('a',)\"\n", {}, "lists or dictionaries"),
        ("a.png 0 1 0\nb.png 1 0 0\n", {}, "2 lines of HERE have several numbers after the path (the first is line 1: "
         "0 1 0): give label_separator ' ' if they are the numbers of its classes"),
        ("path,label\n$'a\\x00.png',x\nb.png,y\n", {}, "line 2 of HERE has the path 'a\\x00.png', which no file"),
        ("path,label\n$'\\ud800.png',x\nb.png,y\n", {}, "line 2 of HERE has the path '\\ud800.png', which no file"),
        ("a.png 3\nb.png\n", {}, "line 2 of HERE is not a path and a label"),
        ("a.png\nb.png\n", {}, "HERE is a list of images without labels: write path,label in every line"),
        ("path,cat,dog,age\na.png,1,0,34\nb.png,0,1,28\n", {}, "for one column per class all others must hold 0 or 1,"
         " as cat, dog do: column 'age' holds '34' in line 2; take out what is no class, or give label_column"),
        ("path,cat,dog\na.png,1,0\nb.png,,1\nc.png,0,1\n", {}, "its columns are path, cat, dog"),
        ("path,cat,cat\na.png,1,0\nb.png,0,1\n", {}, "has several columns 'cat'"),
        ("path,kind\na.png,x\nb.png,y\n", {}, "rename them in the first line, or give label_column"),
        ("path,kind\na.png,x\nb.png,y\n", {"label_column": "sort"}, "no column 'sort' in HERE; its columns"),
        ("path,label\na.png,x\nb.png,y\na.png,y\n", {}, "1 images are on several lines of HERE with different labels,"
         " the first being 'a.png' (lines 2, 4): keep one line per image"),
        ("path,label\nhttps://h.org/a.png,x\ns3://b/b.png,y\nc.png,y\n", {}, "2 of the 3 paths in HERE are addresses"
         " (the first: https://h.org/a.png): images are read from disk, so download them"),
        ("path,label\ns3://bucket/b.png,y\nc.png,y\n", {}, "1 of the 2 paths in HERE are addresses"),
        ("file:///a.png 1\nfile:///b.png 2\n", {}, "2 of the 2 paths in HERE are addresses"),
        ("path,label\nC:\\Users\\me\\a.png,x\nC:\\Users\\me\\b.png,y\n", {}, "has paths of a Windows machine "
         "(C:\\Users\\me\\a.png): write paths relative to ROOT, such as a.png"),
        ("path,label\n\\\\server\\share\\a.png,x\nb.png,y\n", {}, "has paths of a Windows machine"),
        ("path,label\na,x\nb,y\n", {}, "write them with their extension, as a.png"),
        ("path,label\n1.png,x\n2.png,y\n", {}, "write them relative to ROOT, as train/1.png"),
        ("path,label\n/nowhere/1.png,x\n", {}, "none of the 1 files named in HERE exists"),
        ('{"path": "a.png", "label": "x"}\n', {}, "HERE is JSON and not a CSV file of paths and labels: write a CSV"),
        ('[{"path": "a.png"}]', {}, "is JSON"),
        ('{"path": "a.png", "label": "x", "confidence": 0.5}\n', {}, "`convnextv2 predict --format csv`"),
        ("<!DOCTYPE html><html></html>", {}, "is a web page or XML"),
        ("<annotation><filename>a.png</filename></annotation>", {}, "is a web page or XML"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", {}, "is a Git LFS pointer"),
        (b"PAR1" + bytes(20) + b"PAR1", {}, "HERE is a Parquet file and not a CSV file of paths and labels: write"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), {}, "is an old Excel workbook"),
        (b"\x1f\x8b\x08" + bytes(20), {}, "is compressed by gzip and not a CSV file of paths and labels: unpack it"),
        (b"\x93NUMPY\x01\0" + bytes(20), {}, "is a NumPy array"),
        (b"\x80\x04\x95" + bytes(20), {}, "is a pickle"),
        (b"ARROW1\0\0" + bytes(20), {}, "is an Arrow file"),
        ("path,label\na.png,カー\nb.png,ネコ\n".encode("shift-jis"), {}, "its encoding is not known: save it as"),
        ("path,label\na.png,caf\xe9\n".encode("mac-roman"), {}, None),
    ],
)  # fmt: skip
def test_told_what_to_type(tmp_path, content, options, expected):
    (tmp_path / "train").mkdir()
    for name in "12":
        (tmp_path / "train" / f"{name}.png").write_bytes(distinct(name))
    source = place(tmp_path, content)
    if expected is None:  # an encoding that cannot be told from another: said, with a word of it
        assert "read as Windows-1252, for example 'cafŽ'" in read(source, val_fraction=0, multi_label=True).notes[0]
        return
    message = refusal(source, **options)
    assert expected in message.replace(str(source), "HERE").replace(str(tmp_path), "ROOT")


@pytest.mark.parametrize("names", [("xl/workbook.xml", "an Excel workbook"), ("content.xml", "an OpenDocument sheet"),
                                   ("labels.csv", "a zip archive")])  # fmt: skip
def test_what_is_a_zip_archive_inside(tmp_path, names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(names[0], "x")
    message = refusal(place(tmp_path, stream.getvalue(), name="labels.xlsx"))
    assert f"{tmp_path / 'labels.xlsx'} is {names[1]} and not a CSV" in message


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_a_consistent_share_of_semicolons_makes_several_labels(tmp_path, share):
    odd = int(200 * share)
    rows = [f"x{number}.png,{'cat;dog' if number < odd else 'cat'}\n" for number in range(200)]
    found, notes = labels_of(place(tmp_path, "path,label\n" + "".join(rows), images=["x0"]))
    assert [len(words) for words in found.values()] == [2] * odd + [1] * (200 - odd)
    assert "may have several labels: ';' separates them" in notes[0]


def test_one_semicolon_is_taken_as_it_is_asked(tmp_path):
    text = _many(1000, ["b.png,cat;dog\n"])
    source = place(tmp_path, text)
    assert written(read(source, val_fraction=0, multi_label=True).train)["b.png"] == ["cat", "dog"]
    assert written(read(source, val_fraction=0, label_separator=";").train)["b.png"] == ["cat", "dog"]
    single = read(source, val_fraction=0, label_separator="|").train
    assert single.classes == ("cat", "cat;dog", "dog")
    assert single.labels.dtype == torch.int64


def test_latin_1_is_read_and_said(tmp_path):
    (tmp_path / "ü.png").write_bytes(distinct("u"))
    source = place(tmp_path, "path;label\nü.png;Käfer\na.png;naïve “x”\n".encode("cp1252"))
    found, notes = labels_of(source)
    assert found == {"ü.png": ["Käfer"], "a.png": ["naïve “x”"]}
    assert notes == [
        f"{source} is not UTF-8: read as Windows-1252, for example 'ü.png'; if that looks wrong, save it as UTF-8"
    ]


def test_a_data_frame_and_numpy_write_what_is_read(tmp_path):
    """The label of a row as other tools spell it, against the words."""
    source = place(tmp_path, "path,cat,dog,split\na.png,1,0,train\nb.png,0,1,train\nc.png,0,1,val\nd.png,1,1,val\n")
    splits = read(source)
    assert splits.train.labels.tolist() == [[1, 0], [0, 1]]
    assert splits.val.labels.tolist() == [[0, 1], [1, 1]]
    assert read_labelled(source, "val", ("dog", "cat"), multi_label=True).labels.tolist() == [[1, 0], [1, 1]]
    grouped = place(tmp_path, "path,cat,dog,who\na.png,1,0,x\nb.png,0,1,x\nc.png,0,1,y\nd.png,1,0,y\n")
    assert read(grouped, group_column="who", val_fraction=0.5).train.classes == ("cat", "dog")


def test_json_lines_name_the_command(tmp_path):
    line = json.dumps({"path": "a.png", "label": "x", "confidence": 1.0, "top": []})
    assert "predict --format csv" in refusal(place(tmp_path, line + "\n", name="predictions.jsonl"))


def test_a_folder_takes_no_column(tmp_path):
    assert "label_column is for a CSV file" in refusal(tmp_path, label_column="x")
