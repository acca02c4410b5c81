"""What is wrong with a safetensors file that cannot be read, and which of its tensors that concerns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convnextv2.text import listed, one_line

_LARGEST_HEADER = 100_000_000  # bytes, the format's own limit


def why_unreadable(path: Path, error: Exception) -> str:
    """Return in a line why a file is no readable safetensors.  error: what the library says of it."""
    size = path.stat().st_size
    if not size:
        return "it is empty"
    with path.open("rb") as file:
        length, start = int.from_bytes(file.read(8), "little"), file.read(1)
        if start != b"{" or length > _LARGEST_HEADER:
            return one_line(error)
        if 8 + length > size:
            return f"it is cut off within its header, at {size:,} bytes"
        return _of_tensors(start + file.read(length - 1), size - 8 - length) or one_line(error)


def _of_tensors(header: bytes, held: int) -> str | None:
    """Which tensors of a header lie beyond the `held` bytes after it, or that there are more bytes than theirs."""
    try:
        said: dict[str, Any] = json.loads(header)
        ends = {name: int(about["data_offsets"][1]) for name, about in said.items() if name != "__metadata__"}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return "its header, which names its tensors, is damaged"
    whole = max(ends.values(), default=0)
    if held > whole:
        return f"it has {held - whole:,} bytes more than its tensors"
    cut = sorted((name for name, end in ends.items() if end > held), key=ends.__getitem__)
    if cut:
        return f"it is cut off: {len(cut)} of its {len(ends)} tensors are incomplete or missing, {listed(cut, 3)}"
    return None
