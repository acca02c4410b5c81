"""ImageNet-1K's folders are named by WordNet ids; published classifiers name its classes in words or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_ID = re.compile(r"n\d{8}")
_COUNT = 1000


def ids_in(folder: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the ids in the order of a classifier's classes if `folder` has ImageNet-1K's 1000 and it has none itself.

    The index of a class is the position of its id among the sorted ones. Empty for any other folder or classifier.
    """
    if len(classes) != _COUNT or not folder.is_dir() or any(map(_ID.fullmatch, classes)):
        return ()
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return tuple(names) if len(names) == _COUNT and all(map(_ID.fullmatch, names)) else ()
