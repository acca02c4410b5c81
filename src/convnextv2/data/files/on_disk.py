"""Names of files as others wrote them, found on disk under the names that they have there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from convnextv2.errors import UserError
from convnextv2.text import composed, shown

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\]")


def names_on_disk(source: Path, names: Sequence[str], root: Path) -> tuple[list[str], list[str]]:
    """Return the names under which files lie on disk, relative to `root` if they were, and notes.

    A name that is there as it is written stays. Else it is looked for in another Unicode form, with backslashes read as
    slashes, and, if it is not UTF-8 on disk, as Windows-1252; if it is not found it stays. Names in ASCII without a
    backslash are not looked up.

    Raises:
        UserError: a name is an address (`https://`, `s3://`), or a path of a Windows machine.
    """
    addresses = [name for name in names if _ADDRESS.match(name)]
    if addresses:
        raise UserError(
            f"{len(addresses)} of the {len(names)} paths in {shown(source)} are addresses (the first:"
            f" {shown(addresses[0])}): images are read from disk, so download them and write the paths of the files"
        )
    finder = _Finder()
    found: list[str] = []
    turned = 0
    for name in names:
        there = name
        if not name.isascii() or "\\" in name:
            there = finder.find(root, name)
            turned += "\\" in name and "\\" not in there
        found.append(there)
    lost = next((name for name, there in zip(names, found, strict=True) if there == name and _DRIVE.match(name)), None)
    if lost is not None and not os.path.lexists(root / lost):
        last = lost.replace("\\", "/").rpartition("/")[2]
        raise UserError(
            f"{shown(source)} has paths of a Windows machine ({shown(lost)}): write paths relative to"
            f" {shown(root)}, such as {shown(last)}"
        )
    return found, [f"backslashes in {turned} paths of {shown(source)} are read as /"] if turned else []


class _Finder:
    """Looks names up in folders, each of which is listed once."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, str]] = {}

    def find(self, root: Path, name: str) -> str:
        """Return the name on disk for one that was written, or the same if there is none."""
        for spelling in (name, name.replace("\\", "/")):
            there = self._in_other_form(root, spelling)
            if there is not None:
                return there
        return name

    def _in_other_form(self, root: Path, name: str) -> str | None:
        if os.path.lexists(root / name):
            return name
        folder, parts = "/" if name.startswith("/") else os.fspath(root), []
        for part in name.split("/"):
            if part and not os.path.lexists(os.path.join(folder, part)):
                part = self._listing(folder).get(composed(part))
                if part is None:
                    return None
            parts.append(part)
            folder = os.path.join(folder, part)
        return "/".join(parts)

    def _listing(self, folder: str) -> dict[str, str]:
        """The entries of a folder by their composed form, and of those that are not UTF-8 as Windows-1252."""
        if folder not in self._entries:
            entries: dict[str, str] = {}
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            for name in names:
                entries.setdefault(composed(name), name)
                raw = os.fsencode(name)
                if any("\udc80" <= character <= "\udcff" for character in name):
                    entries.setdefault(composed(raw.decode("cp1252", "replace")), name)
            self._entries[folder] = entries
        return self._entries[folder]
