"""Finding the images: a folder, or a text file that names them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convnextv2.errors import UserError
from convnextv2.text import shown

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp")
"""Extensions (in any case) of the files in a folder that are taken for images."""


@dataclass(frozen=True)
class ImageList:
    """Names of image files in a fixed order; nothing has been opened yet.

    `names` are relative to `root` (posix style) for a folder, and as written for a text file.
    `ignored` counts the other files of a folder, by lower-case extension
    (`""` for names without one).
    """

    source: Path
    names: tuple[str, ...]
    root: Path
    ignored: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """Return the path of image `index` (0 to len - 1)."""
        return self.root / self.names[index]


def list_images(source: str | Path) -> ImageList:
    """List the images of a folder, or those that a text file names.

    A folder is walked with everything below it: flat, nested or one folder per class. Names come
    sorted by code point, so the order is the same on every machine. Links to folders are
    followed, and no folder is entered twice. Hidden files and folders are left out.

    A text file holds one path per line, absolute or relative to the text file; blank lines and
    lines that begin with `#` are skipped. A path to a missing file gives a `BadImageError` when it is
    decoded.

    Raises:
        UserError: `source` does not exist, is a single image or not text, holds or names no
            image, or none of the named files exists.
    """
    source = Path(source)
    if source.is_dir():
        return _list_folder(source)
    if not source.exists():
        raise UserError(f"{shown(source)} does not exist; give a folder of images or a text file of paths")
    if source.suffix.lower() in EXTENSIONS:
        raise UserError(
            f"{shown(source)} is a single image; give the folder it lies in ({shown(source.parent)})"
            " or a text file of paths"
        )
    return _list_text(source)


_BY_MACHINES = {
    "@eadir", "@recycle", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "system volume information",
    "lost+found",
}  # fmt: skip
"""Folders that storage boxes, archivers and systems leave beside files (in lower case): thumbnails, copies, bins."""


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of `folder` itself that are neither hidden nor of `_BY_MACHINES`, sorted by name.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise _cannot_look_into(folder, error) from error
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _BY_MACHINES]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; not one that leads to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_regular(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file or a link to one; not one that leads to itself."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _cannot_look_into(folder: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(f"cannot read the folder {shown(folder)}: {reason}; make it readable or move it away")


def _list_folder(root: Path) -> ImageList:
    names: list[str] = []
    ignored: Counter[str] = Counter()
    for name in _walk(root):
        extension = os.path.splitext(name)[1].lower()
        if extension in EXTENSIONS:
            names.append(name)
        else:
            ignored[extension] += 1
    if not names:
        raise UserError(_nothing_found(root, ignored))
    return ImageList(root, tuple(sorted(names)), root, dict(sorted(ignored.items())))


def _walk(root: Path) -> Iterator[str]:
    """Yield every visible file below `root`, as a posix path relative to it."""
    entered: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        where = root / folder
        try:
            status = where.stat()
        except OSError as error:
            raise _cannot_look_into(where, error) from error
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        below: list[str] = []
        for entry in visible_entries(where):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_folder(entry):
                below.append(name)
            elif is_regular(entry) or _leads_nowhere(entry):
                yield name
        # Popped from the end, so the first folder by name is entered first: if two links lead
        # to one folder, which of them gives the names does not depend on the file system.
        waiting.extend(reversed(below))


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link to a missing file or to itself; kept, so that it is reported as a bad image."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def _nothing_found(root: Path, ignored: Mapping[str, int]) -> str:
    total = sum(ignored.values())
    kinds = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{count} {extension or 'without extension'}" for extension, count in kinds[:5])
    if len(kinds) > 5:
        named += f", {sum(count for _, count in kinds[5:])} more"
    there = f"{total} other file{'s' if total != 1 else ''} there ({named})" if total else "no other files there"
    return (
        f"no images in {shown(root)}: looked for {' '.join(EXTENSIONS)}, in it and its subfolders; {there};"
        " give a folder that holds images"
    )


def _list_text(source: Path) -> ImageList:
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            f"cannot read {shown(source)}: {error.strerror}; give a folder of images or a text file of paths"
        ) from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"{shown(source)} is neither a folder nor a UTF-8 text file of paths; give one of the two")
    lines = (line.strip() for line in text.split("\n"))
    names = tuple(line for line in lines if line and not line.startswith("#"))
    if not names:
        raise UserError(f"{shown(source)} names no files; write one path per line, or give a folder of images")
    root = source.parent
    if not any(os.path.exists(root / name) for name in names):
        raise UserError(
            f"none of the {len(names)} files named in {shown(source)} exists, the first being"
            f" {shown(root / names[0])}; write paths that are absolute or relative to {shown(root)}"
        )
    return ImageList(source, names, root)
