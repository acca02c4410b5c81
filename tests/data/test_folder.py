"""Listing: folders of every shape, text files, and what users mistype."""

import os
from pathlib import Path

import pytest
from PIL import Image

from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import list_images
from convnextv2.data.labels.splits import read_splits
from convnextv2.errors import BadImageError, UserError
from convnextv2.text import shown


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def refusal(source: Path) -> str:
    with pytest.raises(UserError) as caught:
        list_images(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_folder_is_walked_sorted_and_counted(tmp_path):
    touch(tmp_path, "b.JPG", "a.png", "cats/2.webp", "cats/1.Tiff", "cats/deep/er/x.gif", "z.bmp")
    touch(tmp_path, "notes.txt", "cats/more.TXT", "README", "model.pt")
    images = list_images(tmp_path)
    assert images.names == ("a.png", "b.JPG", "cats/1.Tiff", "cats/2.webp", "cats/deep/er/x.gif", "z.bmp")
    assert images.ignored == {"": 1, ".pt": 1, ".txt": 2}
    assert len(images) == 6
    assert images.path(2) == tmp_path / "cats" / "1.Tiff"
    assert images.source == images.root == tmp_path
    assert list_images(str(tmp_path)) == images


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "tif", "tiff", "gif", "bmp"])
def test_every_extension_in_any_case(tmp_path, extension):
    touch(tmp_path, f"a.{extension}", f"b.{extension.upper()}")
    assert len(list_images(tmp_path)) == 2


def test_folder_named_like_a_picture_is_walked(tmp_path):
    touch(tmp_path, "x.jpg/inside.png", "y.jpg")
    (tmp_path / "empty.jpg").mkdir()
    assert list_images(tmp_path).names == ("x.jpg/inside.png", "y.jpg")


def test_hidden_files_and_folders_are_left_out(tmp_path):
    touch(tmp_path, "a.jpg", "._a.jpg", ".thumbs/b.jpg", "sub/.c.png")
    images = list_images(tmp_path)
    assert images.names == ("a.jpg",)
    assert images.ignored == {}


def test_links_to_folders_are_followed_once_and_without_loops(tmp_path):
    touch(tmp_path, "data/a.jpg", "data/sub/b.jpg", "elsewhere/c.jpg")
    data = tmp_path / "data"
    (data / "up").symlink_to(data, target_is_directory=True)
    (data / "sub" / "around").symlink_to(data, target_is_directory=True)
    (data / "first").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (data / "second").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert list_images(data).names == ("a.jpg", "first/c.jpg", "sub/b.jpg")


def test_dangling_link_is_listed_and_pipe_is_not(tmp_path):
    touch(tmp_path, "a.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert list_images(tmp_path).names == ("a.jpg", "gone.jpg")


@pytest.mark.parametrize("links", [{"a.png": "a.png"}, {"a.png": "b.png", "b.png": "a.png"}, {"loop": "loop"}])
def test_a_link_that_leads_to_itself_is_one_bad_file(links, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "good.png")
    for name, target in links.items():
        (tmp_path / "x" / name).symlink_to(target)
    images = list_images(tmp_path)
    named = [f"x/{name}" for name in links if name.endswith(".png")]
    assert images.names == (*named, "x/good.png", "y/good.png")
    for index in range(len(named)):
        with pytest.raises(BadImageError, match="too many levels of symbolic links"):
            decode(images.path(index))
    assert len(read_splits(tmp_path, val_fraction=0).train) == 2 + len(named)


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "#recycle", "@Recycle", "$RECYCLE.BIN"])
def test_what_storage_boxes_leave_is_no_image_and_no_class(name, tmp_path):
    for folder in ("x", "y", name, f"x/{name}"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "image.png")
    assert list_images(tmp_path).names == ("x/image.png", "y/image.png")
    assert read_splits(tmp_path, val_fraction=0).train.classes == ("x", "y")


def test_names_that_are_not_utf8(tmp_path):
    touch(tmp_path, "a.jpg")
    (tmp_path / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(b"x")
    images = list_images(tmp_path)
    assert len(images) == 2
    assert images.path(1).exists()
    assert shown(images.names[1]).isascii()
    assert shown("two\nlines") == r"'two\nlines'"


def test_unreadable_folder_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "locked/b.jpg")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    message = refusal(tmp_path)
    assert "locked" in message
    assert "Permission denied" in message


def test_missing_source(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nothing")


def test_single_picture(tmp_path):
    touch(tmp_path, "one.jpg")
    message = refusal(tmp_path / "one.jpg")
    assert "single image" in message
    assert str(tmp_path) in message


def test_empty_folder_says_what_was_looked_for_and_what_lies_there(tmp_path):
    assert "no other files" in refusal(tmp_path)
    touch(tmp_path, "a.txt", "b.txt", "c.json", "sub/README")
    message = refusal(tmp_path)
    for part in (".jpg", ".webp", "4 other files", "2 .txt", "1 .json", "1 without extension"):
        assert part in message


def test_text_file(tmp_path):
    touch(tmp_path, "pics/a.jpg", "b.weird")
    listing = tmp_path / "list.txt"
    absolute = tmp_path / "pics" / "a.jpg"
    listing.write_bytes(f"\ufeff# mine\r\n\r\nb.weird\r\n{absolute}\r\n  gone.png \n".encode())
    images = list_images(listing)
    assert images.names == ("b.weird", str(absolute), "gone.png")
    assert images.path(0) == tmp_path / "b.weird"
    assert images.path(1) == absolute
    assert images.source == listing
    assert images.ignored == {}


def test_a_text_file_names_folders_too(tmp_path):
    touch(tmp_path, "lists/a.png", "cats/1.jpg", "cats/deep/2.jpg", "v1.jpg/3.png", "other/4.png")
    listing = tmp_path / "lists" / "all.txt"
    listing.write_text(f"../cats\na.png\n../v1.jpg/\n{tmp_path / 'other'}\n../gone\n")
    found = list_images(listing)
    folder = [f"{tmp_path / 'other'}/4.png"]
    assert found.names == ("../cats/1.jpg", "../cats/deep/2.jpg", "a.png", "../v1.jpg/3.png", *folder, "../gone")
    assert found.path(0).is_file()
    assert found.path(4).is_file()


def test_text_files_that_do_not_serve(tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text("# nothing\n\n")
    assert "names no files" in refusal(listing)
    listing.write_text("a.jpg\nb.jpg\n")
    assert "none of the 2 files" in refusal(listing)
    for content in (b"\x00\x01\x02", b"\xff\xfe\xfd"):
        listing.write_bytes(content)
        assert "neither" in refusal(listing)
