"""A file of a foreign kind given as data is named, with what to do."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from convnextv2.data.files.folder import list_images
from convnextv2.errors import UserError


def test_a_zip_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.png", b"\x89PNG\0\xff")
    with pytest.raises(UserError, match=r"a zip archive .*unpack it and give the folder"):
        list_images(tmp_path / "photos.zip")


def test_a_video_is_to_be_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0")
    with pytest.raises(UserError, match=r"video .*extract its frames"):
        list_images(tmp_path / "a.mp4")


def test_a_folder_of_foreign_files_says_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "phone").mkdir()
    for number in range(3):
        (tmp_path / "phone" / f"{number}.JXL").write_bytes(b"\xff\x0a" + bytes(20))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        UserError, match=r"\(3 \.jxl, 1 \.txt\); 0\.JXL is JPEG XL, which is not read: convert it to PNG"
    ):
        list_images(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"\(1 \.txt\); give a folder that holds images$"):
        list_images(tmp_path / "notes")
