"""Labels that may not be what their writer meant: missing values, several in one, one in several spellings."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from convnextv2.text import composed, listed, shown

NOT_A_LABEL = frozenset({"nan", "NaN", "NAN", "-nan", "-NaN", "<NA>", "#N/A", "#N/A N/A", "#NA", "NaT", "1.#QNAN"})
"""What spreadsheets and data frames write for a missing value, and nobody calls a class."""
_PERHAPS_NONE = frozenset({"na", "n/a", "none", "null", "nil", "(null)", "-", "--", "?", "unlabeled", "unlabelled"})
_SEPARATORS = ("|", ",", "/", "&", "+", " ")


def is_literal(cell: str) -> bool:
    """Whether a cell holds a list or a dictionary, as Python, NumPy or JSON write them."""
    if cell[:1] + cell[-1:] not in ("[]", "{}", "()"):
        return False
    if re.fullmatch(r"\[[\s0-9.,+-]*\]|\[.*,.*\]|\{.*[,:].*\}", cell, re.DOTALL):
        return True
    try:
        return isinstance(ast.literal_eval(re.sub(r"\b(true|false|null)\b", "None", cell)), list | tuple | dict | set)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def missing_note(words: Mapping[str, int], where: str) -> list[str]:
    """Return a note if a label may stand for none.  words: labels, and how many images have each."""
    found = [word for word in words if word.casefold() in _PERHAPS_NONE]
    if not found:
        return []
    named = listed(f"'{word}' ({_images(words[word])})" for word in found)
    return [
        f"read as a class like any other in {where}: {named}; if it means that there is no label, empty those cells"
    ]


def separator_note(words: Iterable[str], where: str) -> list[str]:
    """Return a note if labels seem to be several in one cell, with a separator that was not asked for.

    A bar is always noted. Any other is if half of the labels with it are made of parts that other labels have, too.
    """
    distinct = list({_look(word): word for word in sorted(set(words))}.values())
    for separator in _SEPARATORS:
        cells = [word for word in distinct if separator in word.strip(separator)]
        parts = {word: {part.strip() for part in word.split(separator)} for word in cells}
        in_cells = Counter(part for found in parts.values() for part in found)
        alone = set(distinct) - set(cells)
        shared = [word for word in cells if all(part in alone or in_cells[part] > 1 for part in parts[word])]
        if cells and (separator == "|" or len(shared) >= max(1, len(cells) / 2)):
            return [
                f"labels such as '{shown((shared or cells)[0])}' are read as one class each in {where} ({len(cells)} of"
                f" them): if '{separator}' separates several labels, give --label-separator '{separator}'"
            ]
    return []


def alike_note(words: Mapping[str, int], where: str) -> list[str]:
    """Return a note if classes differ only in case, spaces, width or the way a number is written, or end in a space.

    words: classes, and how many images have each.
    """
    by_look: dict[str, list[str]] = defaultdict(list)
    for word in words:
        by_look[_look(word)].append(word)
    twins = [sorted(group) for group in by_look.values() if len({composed(word) for word in group}) > 1]
    notes = []
    if twins:
        named = "; ".join(" and ".join(f"'{shown(w)}' ({_images(words[w])})" for w in group) for group in twins[:5])
        more = f"; and {len(twins) - 5} more" if len(twins) > 5 else ""
        notes.append(
            f"classes of {where} that look alike and are read as different ones: {named}{more}; write them alike if"
            " they are the same"
        )
    padded = [word for word in words if word != word.strip()]
    if padded:
        named = listed(f"'{shown(word)}'" for word in padded)
        notes.append(f"names of classes of {where} that begin or end with a space, which is part of them: {named}")
    return notes


def one_spelling(names: Iterable[str], known: Sequence[str] = ()) -> dict[str, str]:
    """Map names that are equal but for their Unicode form to one spelling: that in `known`, else the composed one if
    it is there, else the first in order. Names that need no change are left out.
    """
    distinct = set(names)
    chosen: dict[str, str] = {}
    for name in sorted(distinct, key=lambda name: (name != composed(name), name)):
        chosen.setdefault(composed(name), name)
    chosen |= {composed(name): name for name in reversed(known)}
    kept = distinct & set(known)
    return {name: chosen[composed(name)] for name in distinct if name not in kept and chosen[composed(name)] != name}


def forms_note(names: Iterable[str], where: str, what: str) -> list[str]:
    """Return a note if some names differ only in Unicode form, as they are read as one.  what: what bears the names."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        if not name.isascii():
            groups[composed(name)].add(name)
    twins = sorted(sorted(group) for group in groups.values() if len(group) > 1)
    if not twins:
        return []
    named = listed((" and ".join(map(ascii, group)) for group in twins), 3)
    return [f"{what} of {where} that differ only in Unicode form (NFC, NFD) are read as one: {named}"]


def _look(name: str) -> str:
    """What is left of a name if case, width, blanks, invisible characters and how a number is written are not seen."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    text = " ".join(text.split())
    number = re.fullmatch(r"([+-]?)0*([0-9]+)(?:\.0*)?", text)
    return f"{number[1].strip('+')}{number[2]}" if number else text


def _images(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"
