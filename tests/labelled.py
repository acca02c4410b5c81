"""Labelled pictures on disk, and how they were read."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from convnextv2.data.labels.labels import LabelledImages
from convnextv2.data.labels.splits import read_splits
from convnextv2.errors import UserError


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), (200, 30, 90)).save(stream, "png")
    return stream.getvalue()


PNG = _png()


def distinct(name: str) -> bytes:
    """The same picture in a file of other bytes for every name."""
    return PNG + name.encode()


def fill(root: Path, **counts: int) -> Path:
    """`cats=3` makes cats/0.png to cats/2.png; `train__cats` is train/cats, and `here` the root itself."""
    for folder, count in counts.items():
        below = root if folder == "here" else root / folder.replace("__", "/")
        below.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (below / f"{number}.png").write_bytes(distinct(f"{folder}/{number}"))
    return root


def table(root: Path, *lines: str, encoding: str = "utf-8") -> Path:
    """A table of those lines, beside a.png to j.png."""
    for name in "abcdefghij":
        (root / f"{name}.png").write_bytes(distinct(name))
    path = root / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def read(source: Path, **options: Any) -> Any:
    """`read_splits`, its result without a type: val and test are there where a test expects them."""
    return read_splits(source, **options)


def refusal(source: Path, **options: Any) -> str:
    """The one line that `read_splits` refuses with."""
    with pytest.raises(UserError) as caught:
        read_splits(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def written(data: LabelledImages) -> dict[str, list[str]]:
    """The labels of each picture, in words."""
    rows = data.labels if data.multi_label else torch.nn.functional.one_hot(data.labels, len(data.classes))
    words = ([name for name, on in zip(data.classes, row, strict=True) if on] for row in rows.tolist())
    return dict(zip(data.images.names, words, strict=True))
