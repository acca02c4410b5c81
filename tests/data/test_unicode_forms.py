"""Names that look the same and differ only in Unicode form: composed (NFC) and decomposed (NFD, as macOS writes)."""

import os
import unicodedata

import pytest
from labelled import distinct, fill, read, refusal, table, written

from convnextv2.data.files.on_disk import names_on_disk
from convnextv2.data.labels.splits import read_labelled

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
KOREAN = "한국"


def images(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(distinct(ascii(name)))
    return root


def test_two_folders_of_one_split_are_one_class(tmp_path):
    images(tmp_path, f"{NFC}/0.png", f"{NFD}/0.png", f"{NFD}/1.png", "dog/0.png")
    splits = read(tmp_path, val_fraction=0)
    assert splits.train.classes == (NFC, "dog")
    assert splits.train.counts().tolist() == [3, 1]
    assert sum("class folders of" in note for note in splits.notes) == 1
    assert "are read as one: 'cafe\\u0301' and 'caf\\xe9'" in splits.notes[0]


@pytest.mark.parametrize("forms", [(NFC, NFD), (NFD, NFC)])
def test_val_has_the_classes_of_train(tmp_path, forms):
    images(tmp_path, f"train/{forms[0]}/0.png", "train/dog/0.png", f"val/{forms[1]}/0.png", f"test/{forms[1]}/0.png")
    splits = read(tmp_path)
    assert splits.train.classes == tuple(sorted([forms[0], "dog"]))  # as before where there is one form
    assert written(splits.val) == {f"{forms[1]}/0.png": [forms[0]]}
    assert written(splits.test) == {f"{forms[1]}/0.png": [forms[0]]}
    assert not any("Unicode" in note for note in splits.notes)


@pytest.mark.parametrize("stored", [NFC, NFD])
@pytest.mark.parametrize("here", [NFC, NFD])
def test_a_folder_has_the_classes_of_a_model(tmp_path, stored, here):
    images(tmp_path, f"{here}/0.png", "dog/0.png")
    found = read_labelled(tmp_path, None, ("dog", stored), multi_label=False)
    assert found.classes == ("dog", stored)
    assert sorted(found.labels.tolist()) == [0, 1]
    both = read_labelled(images(tmp_path / "b", f"{NFC}/0.png", f"{NFD}/0.png"), None, (NFD, NFC), multi_label=False)
    assert sorted(found_name.split("/")[0] == both.classes[label] for found_name, label in
                  zip(both.images.names, both.labels.tolist(), strict=True)) == [True, True]  # fmt: skip


def test_labels_and_groups_of_a_table(tmp_path):
    rows = (f"a.png,{NFC},{NFD}", f"b.png,{NFD},{NFC}", f"c.png,dog,{NFC}", "d.png,dog,x", f"e.png,{NFD},x")
    splits = read(table(tmp_path, "path,label,who", *rows), group_column="who", val_fraction=0.4)
    assert splits.train.classes == splits.val.classes == tuple(sorted([NFC, "dog"]))
    names = [set(part.images.names) for part in (splits.train, splits.val)]
    assert {"a.png", "b.png", "c.png"} in names  # one group, however it is spelled
    several = read(table(tmp_path, "path,label", f"a.png,{NFC};{NFD}", "b.png,dog"), val_fraction=0).train
    assert written(several) == {"a.png": [NFC], "b.png": ["dog"]}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_files_are_found_under_the_other_form(tmp_path, form):
    def on_disk(text):
        return unicodedata.normalize(form, text)

    names = [f"été/{KOREAN}/naïve.png", "Å/ö.png", "plain.png", "absent é.png"]
    images(tmp_path, *(on_disk(name) for name in names[:3]))
    for written_as in ("NFC", "NFD"):
        given = [unicodedata.normalize(written_as, name) for name in names]
        found, notes = names_on_disk(tmp_path / "x.csv", given, tmp_path)
        assert found == [*(on_disk(name) for name in names[:3]), given[3]]
        assert notes == []
        absolute = [os.path.join(tmp_path, name) for name in given[:2]]
        assert names_on_disk(tmp_path / "x.csv", absolute, tmp_path)[0] == [str(tmp_path / name) for name in found[:2]]
    rows = [f"{unicodedata.normalize('NFC', names[0])},x", f"{unicodedata.normalize('NFD', names[0])},x", "a.png,y"]
    splits = read(table(tmp_path, "path,label", *rows), val_fraction=0)
    assert splits.train.images.names == (on_disk(names[0]), "a.png")  # one image, however it is spelled
    assert splits.train.images.path(0).is_file()


def test_a_name_that_is_not_utf_8_on_disk_is_found_as_windows_1252(tmp_path):
    raw = os.fsdecode(b"caf\xe9.png")
    (tmp_path / raw).write_bytes(distinct("raw"))
    source = table(tmp_path, "path,label")
    source.write_bytes("path,label\ncafé.png,x\na.png,y\n".encode("cp1252"))
    assert read(source, val_fraction=0).train.images.names == (raw, "a.png")
    source.write_bytes(b"path,label\ncaf\xe9.png,\xc3\xa9\na.png,y\n")
    splits = read(source, val_fraction=0)
    assert written(splits.train) == {raw: ["é"], "a.png": ["y"]}
    assert "1 bytes of" in splits.notes[0]
    assert "are not UTF-8 (the first in line 2): kept as they are" in splits.notes[0]


def test_case_and_blanks_are_told_and_not_merged(tmp_path):
    fill(tmp_path, **{"Cat": 2, "cat": 3, "cat ": 1, "dog": 1})
    splits = read(tmp_path, val_fraction=0)
    assert splits.train.classes == ("Cat", "cat", "cat ", "dog")
    assert "'Cat' (2 images) and 'cat' (3 images) and 'cat ' (1 image)" in splits.notes[0]
    assert "begin or end with a space, which is part of them: 'cat '" in splits.notes[1]
    fill(tmp_path / "split", train__cat=1, train__dog=1, val__Cat=1)
    assert "'Cat' (for 'cat'?)" in refusal(tmp_path / "split")


def test_names_in_one_form_only_stay_as_they_are(tmp_path):
    images(tmp_path, f"{NFD}/0.png", "zebra/0.png", f"caff{NFC}/0.png")
    assert read(tmp_path, val_fraction=0).train.classes == (NFD, f"caff{NFC}", "zebra")
