"""Labels from a table: a CSV file with a column of paths and one of labels or one per class, or a list of both."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convnextv2.data.files.folder import EXTENSIONS, ImageList
from convnextv2.data.files.on_disk import names_on_disk
from convnextv2.data.labels.categorical import Categorical
from convnextv2.data.labels.doubtful import NOT_A_LABEL, is_literal, missing_note, separator_note
from convnextv2.data.labels.labels import LabelSource, WrittenLabels, split_of
from convnextv2.data.labels.table_columns import Columns, find_columns, is_known_header
from convnextv2.data.labels.table_rows import BLANK, Row, is_image_name, read_rows
from convnextv2.data.labels.table_text import read_text
from convnextv2.errors import UserError
from convnextv2.text import from_csv_cell, labels_from_csv_cell, listed, shown

SEPARATOR = ";"
"""What separates the labels of a cell unless another separator is named."""
_CONSISTENT = 0.05
"""Share of the labels that must hold a separator nobody named, for it to separate labels."""


def read_label_table(
    source: Path,
    *,
    label_separator: str | None = None,
    multi_label: bool = False,
    group_column: str | None = None,
    label_column: str | None = None,
) -> LabelSource:
    """Read the images that a CSV file names, in the order of its rows, by split if it has a column `split`.

    Cells are separated by comma, semicolon, tab or bar, whichever fits the header, or as a first line `sep=;` says.
    Without a header, two columns are path and label; so are the two parts of every line of a list `path label`. Paths
    are absolute or relative to the file's folder, see `names_on_disk`. Without a column of labels, two columns or more
    of 0 and 1 are one per class. Cells are read as `text.from_csv_cell` does.

    Images have several labels if `multi_label` is set, if a cell holds the `label_separator` that is given, or if a
    consistent share of the cells holds a semicolon where none is given. Then an empty cell is no label, and the labels
    of a path on several rows are merged.

    Raises:
        UserError: the file cannot be read or lacks a column, a row does not fit the others, an image has no label or
            two different ones, it is not clear whether a semicolon separates labels, or none of the files exists.
    """
    if label_separator == "":
        raise UserError("an empty --label-separator: give what separates the labels of a cell, such as ';'")
    table = _Table.read(source, group_column, label_column)
    table.check_cells(label_separator)
    several = multi_label or table.has_several(label_separator)
    names, notes = names_on_disk(source, [table.name(row) for row in table.rows], source.parent)
    entries, again = _entries(table, names, (label_separator or SEPARATOR) if several else None)
    if not several:
        _check_single(source, entries)
    if not any(os.path.exists(source.parent / entry.name) for entry in entries):
        raise _none_exists(source, [entry.name for entry in entries])
    parts: dict[str, list[_Entry]] = {}
    for entry in entries:
        parts.setdefault(entry.split, []).append(entry)
    notes = [*table.notes, *notes, *_notes(table, entries, several, multi_label, label_separator or SEPARATOR)]
    if again:
        notes.append(f"{again} lines of {shown(source)} name an image again, with the same label: read once")
    return LabelSource({split: _written(source, part) for split, part in parts.items()}, several, tuple(notes))


@dataclass
class _Entry:
    """One image of a table; `lines` are those that name it."""

    name: str
    words: list[str]
    split: str
    group: str | None
    lines: list[int]

    def join(self, other: _Entry, source: Path, several: bool) -> bool:
        """Merge another row of the same image; returns whether it says the same."""
        if (self.split, self.group) != (other.split, other.group):
            raise UserError(
                f"lines {self.lines[0]} and {other.lines[0]} of {shown(source)} put '{shown(self.name)}' into"
                " different splits or groups: keep one of them"
            )
        if not several and set(self.words) == set(other.words):
            return True
        self.words += [word for word in other.words if word not in self.words]
        self.lines += other.lines
        return False


@dataclass(frozen=True)
class _Table:
    """The rows of a table below its header, and in which column is what."""

    source: Path
    rows: Sequence[Row] = field(repr=False)
    columns: Columns
    is_list: bool = False
    notes: tuple[str, ...] = ()

    @staticmethod
    def read(source: Path, group_column: str | None, label_column: str | None) -> _Table:
        text, notes = read_text(source)
        rows, delimiter = read_rows(source, text, lambda cells: is_known_header(cells, label_column))
        columns = find_columns(source, rows, group_column, label_column)
        below = rows[1:] if columns.has_header else rows
        return _Table(source, below, columns, delimiter == BLANK, (*notes, *columns.notes))

    def name(self, row: Row) -> str:
        """Return the path of a row, as it is written."""
        line, cells = row
        name = from_csv_cell(cells[self.columns.path])
        if not name:
            raise UserError(f"line {line} of {shown(self.source)} has no path: write one, or remove the line")
        if name != cells[self.columns.path] and not _can_be_a_file(name):
            raise UserError(f"line {line} of {shown(self.source)} has the path {shown(name)}, which no file can have")
        return name

    def has_several(self, separator: str | None) -> bool:
        """Whether cells hold several labels. Raises UserError if that is not clear."""
        at = self.columns.label
        if at is None:
            return any(len(self.columns.shown_by(cells)) != 1 for _, cells in self.rows)
        given = [row for row in self.rows if row[1][at]]
        holding = [row for row in given if (separator or SEPARATOR) in row[1][at]]
        if not holding or separator is not None or len(holding) >= _CONSISTENT * len(given):
            return bool(holding)
        line, cells = holding[0]
        raise UserError(
            f"{len(holding)} of {len(given)} labels in {shown(self.source)} hold '{SEPARATOR}' (the first in line"
            f" {line}: '{shown(cells[at])}'): correct them; or give --multi-label if images may have several labels, or"
            f" another --label-separator, such as '|', if '{SEPARATOR}' is part of the label"
        )

    def words(self, cells: Sequence[str], separator: str | None) -> list[str]:
        """Return the labels of a row, each once; its cell is split at `separator` if there is one."""
        if self.columns.label is None:
            return self.columns.shown_by(cells)
        cell = cells[self.columns.label]
        words = labels_from_csv_cell(cell, separator) if separator else [from_csv_cell(cell)]
        return [word for word in dict.fromkeys(words) if word and word not in NOT_A_LABEL]

    def entry(self, row: Row, name: str, separator: str | None) -> _Entry:
        """Return one row, for the image of that name on disk."""
        line, cells = row
        split = ""
        if self.columns.split is not None:
            split = split_of(cells[self.columns.split]) or ""
            if not split:
                raise UserError(
                    f"line {line} of {shown(self.source)} has the split '{shown(cells[self.columns.split])}': write"
                    " train, val or test"
                )
        group = None if self.columns.group is None else from_csv_cell(cells[self.columns.group])
        if group == "":
            raise UserError(f"line {line} of {shown(self.source)} has no group: write one, unique if it stands alone")
        return _Entry(name, self.words(cells, separator), split, group, [line])

    def check_cells(self, separator: str | None) -> None:
        """Raise UserError for labels that are lists: as a programming language writes them, or several numbers."""
        at = self.columns.label
        if at is None:
            return
        lists = [(line, cells[at]) for line, cells in self.rows if is_literal(cells[at])]
        if lists:
            line, cell = lists[0]
            raise UserError(
                f"{len(lists)} labels in {shown(self.source)} are lists or dictionaries (the first in line {line}:"
                f" {shown(cell[:60])}): write the labels of an image as text, a;b if it has several"
            )
        numbers = [(line, cells[at]) for line, cells in self.rows if re.fullmatch(r"\d+(\s+\d+)+", cells[at])]
        if self.is_list and numbers and separator is None:
            line, cell = numbers[0]
            raise UserError(
                f"{len(numbers)} lines of {shown(self.source)} have several numbers after the path (the first is line"
                f" {line}: {shown(cell[:60])}): give --label-separator ' ' if they are the numbers of its classes; for"
                " one column of 0 and 1 per class write a header path,CLASS,CLASS and commas"
            )


def _can_be_a_file(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _entries(table: _Table, names: Sequence[str], separator: str | None) -> tuple[list[_Entry], int]:
    """The images, and how many rows say again what one has said; `separator` if images may have several labels."""
    entries: dict[str, _Entry] = {}
    root = os.path.abspath(table.source.parent)
    again = 0
    for row, name in zip(table.rows, names, strict=True):
        entry = table.entry(row, name, separator)
        first = entries.setdefault(os.path.normpath(os.path.join(root, name)), entry)
        if first is not entry:
            again += first.join(entry, table.source, separator is not None)
    return list(entries.values()), again


def _notes(table: _Table, entries: Collection[_Entry], several: bool, asked: bool, separator: str) -> list[str]:
    """What was decided about the labels, and what is odd about them."""
    where, columns = shown(table.source), table.columns
    words = Counter(word for entry in entries for word in entry.words)
    notes = missing_note(words, where)
    if columns.label is None:
        classes = listed(f"'{name}'" for _, name in columns.classes)
        have = "images may have several labels or none" if several else "every image has one label"
        notes.insert(0, f"one column per class in {where}, of 0 and 1: {classes}; {have}")
    else:
        notes += separator_note(words, where)
    if several and not asked and columns.label is not None:
        notes.insert(0, f"images of {where} may have several labels: '{shown(separator)}' separates them")
    bare = sum(not entry.words for entry in entries)
    if bare:
        notes.append(f"{bare} of {len(entries)} images of {where} have no label: they count as none of the classes")
    return notes


def _check_single(source: Path, entries: Collection[_Entry]) -> None:
    """Raise UserError unless every image has one label."""
    bare = [str(entry.lines[0]) for entry in entries if not entry.words]
    if bare:
        raise UserError(
            f"{len(bare)} images of {shown(source)} have no label (lines {listed(bare, 5)}; nan counts as none): write"
            " one, remove the lines, or give --multi-label if images may have none"
        )
    again = [entry for entry in entries if len(entry.lines) > 1]
    if again:
        raise UserError(
            f"{len(again)} images are on several lines of {shown(source)} with different labels, the first being"
            f" '{shown(again[0].name)}' (lines {listed(map(str, again[0].lines), 5)}): keep one line per image, or give"
            " --multi-label if it has all of the labels"
        )


def _none_exists(source: Path, names: Sequence[str]) -> UserError:
    """Return the error for a table whose files are all missing, with what would be right if that is found."""
    root, first = source.parent, names[0]
    hint = f"write paths that are absolute or relative to {shown(root)}"
    longer = next(
        (e for each in EXTENSIONS for e in (each, each.upper()) if os.path.exists(root / f"{first}{e}")), None
    )
    try:
        below = [
            entry.name for entry in os.scandir(root) if entry.is_dir() and os.path.exists(root / entry.name / first)
        ]
    except OSError:
        below = []
    if longer is not None and not is_image_name(first):
        hint = f"write them with their extension, as {shown(first + longer)}"
    elif below:
        hint = f"write them relative to {shown(root)}, as {shown(f'{min(below)}/{first}')}"
    return UserError(
        f"none of the {len(names)} files named in {shown(source)} exists, the first being {shown(root / first)}; {hint}"
    )


def _written(source: Path, entries: Sequence[_Entry]) -> WrittenLabels:
    images = ImageList(source, (entry.name for entry in entries), source.parent)
    groups = Categorical(entry.group for entry in entries if entry.group is not None)
    return WrittenLabels(images, (tuple(entry.words) for entry in entries), groups or None)
