"""Which column of a table is what: paths, labels, one column per class, splits, groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convnextv2.data.labels.table_rows import Row, is_image_name
from convnextv2.errors import UserError
from convnextv2.text import from_csv_cell, listed, shown

PATH_COLUMNS = ("path", "file", "filename", "image", "name")
"""Names of the column of paths, in any case; the first one present is taken."""
LABEL_COLUMNS = ("label", "labels", "class", "target")
"""Names of the column of labels, in any case; the first one present is taken."""

_ON = frozenset({"1", "1.0", "1,0", "true"})
_OFF = frozenset({"0", "0.0", "0,0", "false"})
_INDEX = re.compile(r"(unnamed: ?\d+)?")
"""Name of a data frame's index (it has none), which is no class."""
_LOOKED_AT = 50


@dataclass(frozen=True)
class Columns:
    """Positions of a table's columns.

    label: None if there is one column per class, whose names `classes` holds by position.
    has_header: whether the first row is one.  notes: for the user, a line each.
    """

    path: int
    label: int | None
    split: int | None = None
    group: int | None = None
    classes: tuple[tuple[int, str], ...] = ()
    has_header: bool = True
    notes: tuple[str, ...] = ()

    def shown_by(self, cells: Sequence[str]) -> list[str]:
        """Return the classes whose column holds a 1 in a row."""
        return [name for column, name in self.classes if cells[column].casefold() in _ON]


def is_known_header(cells: Sequence[str], label_column: str | None) -> bool:
    """Whether a row names a column of paths and one of labels, or several that may be classes."""
    names = [cell.casefold() for cell in cells]
    labels = LABEL_COLUMNS if label_column is None else (label_column.strip().casefold(),)
    may_be_classes = label_column is None and len(cells) > 2
    return bool(_places(names, PATH_COLUMNS)) and (bool(_places(names, labels)) or may_be_classes)


def find_columns(source: Path, rows: Sequence[Row], group_column: str | None, label_column: str | None) -> Columns:
    """Find the columns by their names; that of paths also by what it holds, and one column per class by its 0 and 1.

    Raises:
        UserError: a column is missing, or there is nothing below the header.
    """
    head = rows[0][1]
    names = [cell.casefold() for cell in head]
    asked = group_column, label_column
    if len(head) == 2 and is_image_name(head[0]) and not _places(names, LABEL_COLUMNS) and asked == (None, None):
        return Columns(0, 1, has_header=False)
    paths = _places(names, PATH_COLUMNS)
    notes = []
    if not paths:
        paths = _columns_of_images(rows)
        notes += [
            f"paths are taken from column '{shown(head[at])}' of {shown(source)}, which holds them" for at in paths
        ]
    split = names.index("split") if "split" in names else None
    if len(head) == 1 and is_image_name(head[0]):
        raise UserError(f"{shown(source)} is a list of images without labels: write path,label in every line")
    if not paths:
        raise _not_found(source, head)
    group = None if group_column is None else _named(source, head, group_column, "--group-column")
    labels = _places(names, LABEL_COLUMNS)
    if label_column is not None:
        labels = [_named(source, head, label_column, "--label-column")]
    if len(rows) == 1 and labels:
        raise UserError(f"{shown(source)} names no images: write one per line below the header")
    notes += [
        f"{what} are taken from column '{shown(head[there[0]])}' of {shown(source)}, not from"
        f" {listed(head[index] for index in there[1:])}"
        for what, there in (("paths", paths), ("labels", labels))
        if len(there) > 1
    ]
    if labels:
        return Columns(paths[0], labels[0], split, group, notes=tuple(notes))
    others = [at for at in range(len(head)) if at not in (*paths, split, group) and not _INDEX.fullmatch(names[at])]
    classes = _one_per_class(source, rows, others)
    return Columns(paths[0], None, split, group, classes, notes=tuple(notes))


def _one_per_class(source: Path, rows: Sequence[Row], columns: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """The columns of 0 and 1, and the classes they stand for."""
    head = rows[0][1]
    odd = {at: next((row for row in rows[1:] if row[1][at].casefold() not in _ON | _OFF), None) for at in columns}
    good = [at for at in columns if odd[at] is None]
    if len(good) < 2 or len(rows) == 1:
        raise _not_found(source, head)
    wrong = next((at for at in columns if odd[at] is not None), None)
    if wrong is not None:
        line, cells = odd[wrong] or rows[0]
        raise UserError(
            f"{shown(source)} has no column of labels ({', '.join(LABEL_COLUMNS)}), and for one column per class all"
            f" others must hold 0 or 1, as {listed(head[at] for at in good)} do: column '{shown(head[wrong])}' holds"
            f" '{shown(cells[wrong])}' in line {line}; take out what is no class, or give --label-column"
        )
    classes = tuple((at, from_csv_cell(head[at])) for at in columns)
    again = [name for at, name in classes if any(name == other for place, other in classes if place < at)]
    if again:
        raise UserError(f"{shown(source)} has several columns '{shown(again[0])}': rename or remove all but one")
    return classes


def _columns_of_images(rows: Sequence[Row]) -> list[int]:
    """The only column whose first cells are all names of images; none if there are several."""
    below = [cells for _, cells in rows[1 : _LOOKED_AT + 1]]
    if not below or any(map(is_image_name, rows[0][1])):
        return []
    found = [at for at in range(len(rows[0][1])) if all(is_image_name(cells[at]) for cells in below)]
    return found if len(found) == 1 else []


def _not_found(source: Path, head: Sequence[str]) -> UserError:
    return UserError(
        f"{shown(source)} needs a column of paths ({', '.join(PATH_COLUMNS)}) and one of labels"
        f" ({', '.join(LABEL_COLUMNS)}); its columns are {listed(head)}: rename them in the first line, or give"
        " --label-column"
    )


def _named(source: Path, head: Sequence[str], name: str, option: str) -> int:
    names = [cell.casefold() for cell in head]
    wanted = name.strip().casefold()
    if wanted not in names:
        raise UserError(
            f"no column '{shown(name)}' in {shown(source)}; its columns are {listed(head)}: give one of them as"
            f" {option}"
        )
    return names.index(wanted)


def _places(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Return the positions of the known names among `names`, in the order of `known`."""
    return [names.index(name) for name in known if name in names]
