"""ImageNet-1K's folders are called by WordNet ids; published classifiers know its classes by names or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_ID = re.compile(r"n\d{8}")
_COUNT = 1000


def ids_in(folder: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """The ids in the order of a classifier's classes, where `folder` has ImageNet-1K's 1000 and it does not know them.

    The number of a class is the place of its id among the sorted ones. Empty for any other folder or classifier.
    """
    if len(classes) != _COUNT or not folder.is_dir() or any(map(_ID.fullmatch, classes)):
        return ()
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return tuple(names) if len(names) == _COUNT and all(map(_ID.fullmatch, names)) else ()
