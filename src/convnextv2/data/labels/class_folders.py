"""Labels from folders: the first folder below the root, or below train, val and test, is the class."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from convnextv2.data.files.folder import EXTENSIONS, ImageList, is_folder, is_regular, list_images, visible_entries
from convnextv2.data.files.path_list import PathList
from convnextv2.data.labels.categorical import Categorical
from convnextv2.data.labels.labels import LabelSource, WrittenLabels, split_of
from convnextv2.errors import UserError
from convnextv2.text import listed, shown


def read_class_folders(root: Path, only: str | None = None) -> LabelSource:
    """Read the images of a folder of class folders, or of one that holds `train`, `val` and `test` of them.

    The class of an image is the first folder below; it may lie deeper. Images beside the class
    folders are ignored, and counted in `ignored` of the list. With `only`, the other splits are
    not read.

    Raises:
        UserError: there are no images, or they lie in no class folders.
    """
    notes: list[str] = []
    found = split_folders(root)
    if not found:
        return LabelSource({"": _read(root, notes)}, notes=tuple(notes))
    parts: dict[str, WrittenLabels] = {}
    for split, name in found.items():
        if only not in (None, split):
            continue
        if split == "test" and only is None and "train" in found and not _folders(root / name):
            count = len(list_images(root / name))
            notes.append(f"the {count} images of {shown(root / name)} lie in no class folders and are ignored")
            continue
        parts[split] = _read(root / name, notes, "put them into one folder per class")
    notes += _beside(root, set(found.values()))
    return LabelSource(parts, notes=tuple(notes))


def split_folders(root: Path) -> dict[str, str]:
    """Return the folders of `root` that hold its splits, by `train`, `val` and `test`; empty if it is not split.

    A folder `train` of images beside `bus` and `car` is a class like them.

    Raises:
        UserError: two folders stand for the same split.
    """
    folders = _folders(root)
    found: dict[str, str] = {}
    for name in folders:
        split = split_of(name)
        if split in found:
            raise UserError(
                f"{shown(root)} holds both {shown(found[split])} and {shown(name)}: leave one of them there as its"
                f" {split} images"
            )
        if split:
            found[split] = name
    if len(found) < len(folders) and not any(_folders(root / name) for name in found.values()):
        return {}
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def splits_beside(root: Path) -> list[str]:
    """Return the names of the splits beside `root` if it is itself one of several; empty if that is unclear."""
    here = Path(os.path.abspath(root))
    try:
        found = split_folders(here.parent).values()
    except UserError:
        return []
    return [name for name in found if name != here.name] if here.name in found else []


def one_class(source: Path, images: ImageList, name: str) -> UserError:
    """Return the error for a `source` whose training images all lie in one class folder."""
    root = images.root
    below = {parts[1] for parts in (image.split("/") for image in images.names) if len(parts) > 2}
    if len(below) > 1:
        advice = f"if its folders are the classes, give {shown(root / name)}"
    elif root == source:
        advice = _give_above(root)
    else:
        advice = "put the images of every other class into a folder beside it"
    return UserError(f"found only one class '{shown(name)}' in {shown(root)}: {advice}")


def _read(root: Path, notes: list[str], advice: str = "") -> WrittenLabels:
    images = list_images(root)
    names = PathList(name for name in images.names if "/" in name)
    if not names:
        raise UserError(f"the images of {shown(root)} lie in no class folders: {advice or _give_above(root)}")
    words = Categorical((name.partition("/")[0],) for name in names)
    loose = [name for name in images.names if "/" not in name]
    ignored = dict(images.ignored)
    for name in loose:
        extension = os.path.splitext(name)[1].lower()
        ignored[extension] = ignored.get(extension, 0) + 1
    if loose:
        count = f"{len(loose)} image{'s' if len(loose) > 1 else ''}"
        notes.append(f"ignored: {count} beside the class folders of {shown(root)} ({listed(loose, 3)})")
    empty = sorted(set(_folders(root)) - {word for (word,) in words.categories})
    if empty:
        notes.append(f"not a class, as it has no images of its own, in {shown(root)}: {listed(empty)}")
    return WrittenLabels(replace(images, names=names, ignored=dict(sorted(ignored.items()))), words)


def _beside(root: Path, splits: set[str]) -> list[str]:
    """Return a note on what lies in a folder beside its splits."""
    names = [f"{name}/" for name in _folders(root) if name not in splits] + _images_in(root)
    return [f"ignored in {shown(root)}, beside {listed(sorted(splits))}: {listed(names)}"] if names else []


def _give_above(root: Path) -> str:
    """Return the advice to give the folder above, with its path if folders of images lie in it."""
    above = Path(os.path.abspath(root)).parent
    named = ""
    try:
        if sum(bool(_images_in(above / name)) for name in _folders(above) if not split_of(name)) > 1:
            named = f" ({shown(above.parent if split_of(above.name) else above)})"
    except UserError:  # it cannot be read
        pass
    return f"give the folder above it{named}, with one folder per class"


def _folders(root: Path) -> list[str]:
    return [entry.name for entry in visible_entries(root) if is_folder(entry)]


def _images_in(folder: Path) -> list[str]:
    """Names of the images in `folder` itself."""
    return [
        entry.name for entry in visible_entries(folder) if entry.name.lower().endswith(EXTENSIONS) and is_regular(entry)
    ]
