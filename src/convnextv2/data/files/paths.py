"""Images named one by one, by folder and by list, mixed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from convnextv2.data.files.folder import EXTENSIONS, list_images
from convnextv2.errors import UserError
from convnextv2.text import shown


def pictures_at(given: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Yield the paths of all images: files as given, those of folders and text files joined to their folder.

    A file with the extension of an image, or a zero byte near its start, is an image, not a text file of paths.

    Raises UserError if a path does not exist, and as `list_images` for a folder or a text file.
    """
    for each in given:
        path = os.fspath(each)
        if os.path.isdir(path):
            yield from (os.path.join(path, name) for name in list_images(path).names)
        elif not os.path.lexists(path):
            raise UserError(
                f"there is nothing at {shown(path)}: give image files, folders of them, or text files of paths"
            )
        elif path.lower().endswith(EXTENSIONS) or _is_binary(path):
            yield path
        else:
            yield from (os.path.join(os.path.dirname(path), name) for name in list_images(path).names)


def _is_binary(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return b"\0" in file.read(4096)
    except OSError:
        return False
