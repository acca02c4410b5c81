"""Images that are in more than one split: the same file, links to it, or files of the same bytes."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from zlib import crc32

from convnextv2.data.files.folder import ImageList
from convnextv2.text import shown

MOST_FILES = 100_000
"""Files that are looked at, in all splits together. Of more, those are taken whose names hash to a fixed share, so
that a copy of the same name is taken if its original is."""
MOST_READ = 20_000
"""Files that are opened, as there are some of the same size in another split; those of small size first."""
MOST_BYTES = 512 * 2**20
"""Bytes that are read to compare files whose ends and middles are equal."""

_SAMPLE = 4096


def same_images_notes(splits: Mapping[str, ImageList]) -> list[str]:
    """Return a note for every two of `train`, `val` and `test` that share images, byte for byte.

    Sizes are compared first, then hashes of files of equal size. The cost is bounded for any number of images: at most
    `MOST_FILES` are looked at, `MOST_READ` of them opened, and `MOST_BYTES` read in full.
    """
    step = -(-sum(map(len, splits.values())) // MOST_FILES)
    files = {split: list(_files(images, step)) for split, images in splits.items()}
    is_complete = _compare(files)
    notes: list[str] = []
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if one in files and other in files:
            notes += _note(one, other, splits, files, "" if is_complete else "at least ")
    return notes


@dataclass(eq=False)
class _File:
    """An image on disk. `content` is what it holds, as far as it was compared; else the file itself."""

    path: str
    place: int
    size: int
    inode: tuple[int, int]
    content: object = None


def _files(images: ImageList, step: int) -> Iterable[_File]:
    """The images that are there, or one of `step` of them."""
    root = os.fspath(images.root)
    for place, name in enumerate(images.names):
        if step > 1 and crc32(os.fsencode(os.path.basename(name))) % step:
            continue
        path = os.path.join(root, name)
        try:
            status = os.stat(path)
        except OSError:
            continue
        if status.st_size:
            inode = (status.st_dev, status.st_ino)
            yield _File(path, place, status.st_size, inode, inode)


def _compare(files: Mapping[str, Iterable[_File]]) -> bool:
    """Set the content of files that have the size of one in another split; returns whether all were compared."""
    by_size: dict[int, dict[tuple[int, int], list[_File]]] = defaultdict(lambda: defaultdict(list))
    splits: dict[int, set[str]] = defaultdict(set)
    for split, found in files.items():
        for file in found:
            by_size[file.size][file.inode].append(file)
            splits[file.size].add(split)
    opened, read = 0, 0
    for size in sorted(by_size):
        links = by_size[size]
        if len(splits[size]) < 2 or len(links) < 2:
            continue
        opened += len(links)
        if opened > MOST_READ:
            return False
        by_sample: dict[bytes, list[list[_File]]] = defaultdict(list)
        for same in links.values():
            sample = _sample(same[0].path, size)
            if sample is not None:
                by_sample[sample].append(same)
        for sample, equal in by_sample.items():
            if len(equal) < 2:
                continue
            is_whole = size <= 2 * _SAMPLE
            read += 0 if is_whole else size * len(equal)
            if read > MOST_BYTES:
                return False
            for same in equal:
                content = sample if is_whole else _digest(same[0].path)
                for file in same:
                    file.content = content or file.inode
    return True


def _sample(path: str, size: int) -> bytes | None:
    """A hash of the middle and the end of a file, all of it if it is small; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            start = file.read(2 * _SAMPLE) if size <= 2 * _SAMPLE else b""
            if not start:
                file.seek(size // 2)
                start = file.read(_SAMPLE)
                file.seek(-_SAMPLE, os.SEEK_END)
                start += file.read(_SAMPLE)
    except OSError:
        return None
    return hashlib.blake2b(start).digest()


def _digest(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None


def _note(
    one: str, other: str, splits: Mapping[str, ImageList], files: Mapping[str, list[_File]], at_least: str
) -> list[str]:
    there = {file.content: file for file in reversed(files[one])}
    shared = [file for file in files[other] if file.content in there]
    if not shared:
        return []
    twin = there[shared[0].content]
    names = [shown(images.names[file.place]) for images, file in ((splits[other], shared[0]), (splits[one], twin))]
    linked = all(file.content == file.inode or file.inode == there[file.content].inode for file in shared)
    how = "as the same files, linked" if linked else "byte for byte"
    looked = len(files[other])
    of = (
        f"the {looked} images of {other} that were compared"
        if looked < len(splits[other])
        else f"{looked} images of {other}"
    )
    say = f"results on {other} will be too optimistic"
    if len(shared) == looked:
        say = f"results on {other} say nothing about images that were not trained on"
        return [f"all {of.removeprefix('the ')} are also in {one}, {how} ({names[0]} is {names[1]}); {say}"]
    such = f"such as {names[0]}, which is {names[1]} there"
    return [f"{at_least}{len(shared)} of {of} are also in {one}, {how} ({such}); {say}"]
