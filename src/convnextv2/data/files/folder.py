"""Finding the images: a folder, or a text file that names them."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convnextv2.data.files.decode import MAX_PIXELS, opened
from convnextv2.data.files.decoders.dicom import is_dicom
from convnextv2.data.files.decoders.opened import Opened
from convnextv2.data.files.decoders.others import known_kind
from convnextv2.data.files.decoders.slide import EXTENSIONS as SLIDES
from convnextv2.data.files.in_memory import ImagesInMemory
from convnextv2.data.files.path_list import PathList
from convnextv2.errors import UserError
from convnextv2.text import shown

if TYPE_CHECKING:
    from convnextv2.data.files.parts import Parts

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp"),
    *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".dcm", ".dicom"),
    *SLIDES,
)
"""Extensions (in any case) of the files in a folder that are taken for images."""

ARRAYS = (".npy", ".npz")
"""Extensions of files that are taken for images in a folder without any of `EXTENSIONS`; else they may be features."""

UNNAMED = ("",)
"""Files without an extension are taken for images in a folder without any other, if the first of them is DICOM."""


@dataclass(frozen=True, init=False)
class ImageList:
    """Names of image files in a fixed order; nothing has been opened yet.

    `names` are relative to `root` (posix style) for a folder, and as written for a text file.
    `held` gives the images themselves where they are no files; `names` then number them.
    `parts` says which parts of which images the entries are, if they are parts of them; see `data.files.parts`.
    `ignored` counts the other files of a folder, by lower-case extension (`""` for names without one).
    """

    source: Path
    names: PathList
    root: Path
    ignored: Mapping[str, int]
    held: ImagesInMemory | None
    parts: Parts | None

    def __init__(
        self,
        source: Path,
        names: Iterable[str],
        root: Path,
        ignored: Mapping[str, int] = MappingProxyType({}),
        held: ImagesInMemory | None = None,
        parts: Parts | None = None,
    ) -> None:
        kept = names if isinstance(names, PathList) else PathList(names)
        values = {"source": source, "names": kept, "root": root, "ignored": ignored, "held": held, "parts": parts}
        for field, value in values.items():
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> ImageList:
        """Return the images at `indices`, in that order, with the same root."""
        rows = np.asarray(indices, np.int64)
        held = None if self.held is None else self.held.at(indices)
        parts = None if self.parts is None else replace(self.parts, places=self.parts.places[rows])
        return replace(self, names=self.names[rows], held=held, parts=parts)

    def path(self, index: int) -> Path:
        """Return the path of image `index` (0 to len - 1)."""
        if self.parts is not None:
            return self.parts.whole.path(self.parts.image(index))
        return self.root / self.names[index]

    def open(
        self, index: int, max_pixels: int = MAX_PIXELS, min_side: int | None = None
    ) -> AbstractContextManager[Opened]:
        """Open image `index` with its header read; see `decode.opened`. Any failure inside is a BadImageError."""
        if self.parts is not None:
            return self.parts.open(index, max_pixels, min_side)
        if self.held is not None:
            return self.held.open(index, max_pixels, min_side)
        return opened(self.path(index), max_pixels, min_side)


def list_images(source: str | Path) -> ImageList:
    """List the images of a folder, or those that a text file names.

    A folder is walked with everything below it: flat, nested or one folder per class. Names come
    sorted by code point, so the order is the same on every machine. Links to folders are
    followed, and no folder is entered twice. Hidden files and folders are left out.

    A text file holds one path per line, absolute or relative to the text file, of an image or of a
    folder (whose name has no dot, or a slash at its end), which is walked too; blank lines and
    lines that begin with `#` are skipped. A path to a missing file gives a `BadImageError` when it is
    decoded.

    Raises:
        UserError: `source` does not exist, is a single image or not text, holds or names no
            image, or none of the named files exists.
    """
    source = Path(source)
    if source.is_dir():
        return _list_folder(source)
    check_source(source, IMAGES)
    return _list_text(source)


IMAGES, LABELLED = "a folder of images or a text file of paths", "a folder of class folders or a CSV file"
"""What a source of images is, and one of labelled images, in words."""


def check_source(source: Path, wanted: str) -> None:
    """Check that something is at `source`, and not a single image.  wanted: what to give, `IMAGES` or `LABELLED`.

    Raises UserError. Nothing is read.
    """
    if not source.exists():
        raise UserError(f"{shown(source)} does not exist; give {wanted}")
    if source.is_file() and source.suffix.lower() in EXTENSIONS:
        instead = (
            "a folder of class folders or a CSV file"
            if wanted == LABELLED
            else (f"the folder it lies in ({shown(source.parent)}) or a text file of paths")
        )
        raise UserError(f"{shown(source)} is a single image; give {instead}")


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
    return sorted(_visible(folder), key=lambda entry: entry.name)


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The same, one by one as the file system gives them."""
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if not entry.name.startswith(".") and entry.name.lower() not in _BY_MACHINES:
                    yield entry
    except OSError as error:
        raise _cannot_look_into(folder, error) from error


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
    folders, ignored = _walk(root)
    names = PathList(_in_order(folders))
    for instead in (ARRAYS, UNNAMED):
        if not names and any(extension in ignored for extension in instead):
            if instead == UNNAMED and not is_dicom(_head(next(_files(root, ""), root))):
                continue
            folders, ignored = _walk(root, instead)
            names = PathList(_in_order(folders))
    if not names:
        raise UserError(_nothing_found(root, ignored))
    return ImageList(root, names, root, dict(sorted(ignored.items())))


def _walk(
    root: Path, extensions: Sequence[str] = EXTENSIONS
) -> tuple[dict[str, tuple[PathList, list[str]]], Counter[str]]:
    """Return the names of the images in every folder below `root`, and of its folders; and what else is there.

    Folders are named by their posix path relative to `root`, `""` or ending in `/`. Names are sorted.
    """
    folders: dict[str, tuple[PathList, list[str]]] = {}
    ignored: Counter[str] = Counter()
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
        images: list[str] = []
        below: list[str] = []
        for entry in _visible(where):
            if is_folder(entry):
                below.append(entry.name)
            elif is_regular(entry) or _leads_nowhere(entry):
                extension = os.path.splitext(entry.name)[1].lower()
                if extension in extensions:
                    images.append(entry.name)
                else:
                    ignored[extension] += 1
        folders[folder] = PathList(sorted(images)), sorted(below)
        # Popped from the end, so the first folder by name is entered first: if two links lead
        # to one folder, which of them gives the names does not depend on the file system.
        waiting.extend(f"{folder}{name}/" for name in reversed(folders[folder][1]))
    return folders, ignored


def _in_order(folders: Mapping[str, tuple[PathList, list[str]]]) -> Iterator[str]:
    """Yield the paths of all images, sorted, without a list of them."""

    def entries(folder: str) -> Iterator[str]:
        images, below = folders[folder]
        return heapq.merge(images, sorted(f"{name}/" for name in below if f"{folder}{name}/" in folders))

    inside = [("", entries(""))]
    while inside:
        folder, remaining = inside[-1]
        for name in remaining:
            if name.endswith("/"):
                inside.append((f"{folder}{name}", entries(f"{folder}{name}")))
                break
            yield f"{folder}{name}"
        else:
            inside.pop()


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
    looked_for = f"no images in {shown(root)}: looked for {' '.join(EXTENSIONS)}, in it and its subfolders; {there}"
    example = next((path for path in _files(root, kinds[0][0])), None) if kinds else None
    kind = None if example is None else _kind_of(example)
    if example is not None and kind:
        return f"{looked_for}; {shown(example.name)} is {kind}"
    return f"{looked_for}; give a folder that holds images"


def _files(root: Path, extension: str) -> Iterator[Path]:
    """Yield the files below a folder with this extension, in lower case, that are not hidden."""
    for folder, _, names in os.walk(root):
        shown_names = sorted(name for name in names if not name.startswith("."))
        yield from (Path(folder, name) for name in shown_names if os.path.splitext(name)[1].lower() == extension)


def _kind_of(path: Path) -> str | None:
    """What a file is that is not read, and what to do with it, if its first bytes tell."""
    return known_kind(_head(path))


def _head(path: Path) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(512)
    except OSError:
        pass
    return b""


def _no_list(source: Path) -> UserError:
    """Return the error of a file that is no text: what it is and what to do with it, if its kind is known."""
    advice = "neither a folder nor a UTF-8 text file of paths; give one of the two"
    return UserError(f"{shown(source)} is {_kind_of(source) or advice}")


def _list_text(source: Path) -> ImageList:
    names = PathList(_with_folders(source.parent, _lines(source)))
    if not names:
        raise UserError(f"{shown(source)} names no files; write one path per line, or give a folder of images")
    root = source.parent
    if not any(os.path.exists(root / name) for name in names):
        raise UserError(
            f"none of the {len(names)} files named in {shown(source)} exists, the first being"
            f" {shown(root / names[0])}; write paths that are absolute or relative to {shown(root)}"
        )
    return ImageList(source, names, root)


def _with_folders(root: Path, lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines, in place of a folder the images in it."""
    for name in lines:
        if "." not in name.rpartition("/")[2] and os.path.isdir(
            root / name
        ):  # most names have one: no look at the disk
            folder = name.rstrip("/")
            yield from (f"{folder}/{each}" for each in list_images(root / name).names)
        else:
            yield name


def _lines(source: Path) -> Iterator[str]:
    """Yield the lines of a text file that are neither blank nor comments, stripped."""
    try:
        with source.open(encoding="utf-8-sig", newline="\n") as file:
            for name in map(str.strip, file):
                if "\0" in name:
                    raise _no_list(source)
                if name and name[0] != "#":
                    yield name
    except OSError as error:
        raise UserError(
            f"cannot read {shown(source)}: {error.strerror}; give a folder of images or a text file of paths"
        ) from error
    except UnicodeDecodeError:
        raise _no_list(source) from None
