"""The run's images as data addresses, small enough that the whole page stays a few megabytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from convnextv2.report.run_folder import StoredImage
from convnextv2.report.words import title

EARLIER = 8
_COLUMN = 780  # the page's text width in CSS pixels; earlier images stand two in a row
_LATEST_BYTES = 1_000_000
_ALL_EARLIER_BYTES = 1_200_000
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@dataclass(frozen=True)
class Embedded:
    """One image inside the page; `shown` is its width there, which enlarges only the tiny ones, and those little."""

    address: str
    width: int
    height: int
    shown: int
    step: int


@dataclass(frozen=True)
class Gallery:
    """The images of one kind: the latest, and some of those before it, oldest first."""

    kind: str
    title: str
    latest: Embedded
    earlier: tuple[Embedded, ...]
    left_out: int


def galleries(images: Sequence[StoredImage], first: Sequence[str] = ()) -> tuple[list[Gallery], list[str]]:
    """Build one gallery per kind, those in `first` first, in that order; returns also names of unreadable files."""
    kinds: dict[str, list[StoredImage]] = {}
    for image in images:
        kinds.setdefault(image.kind, []).append(image)
    order = sorted(kinds, key=lambda kind: (first.index(kind) if kind in first else len(first), kind))
    found: list[Gallery] = []
    unreadable: list[str] = []
    for kind in order:
        # Several kinds share the page's budget.
        latest, rest = _latest(kinds[kind], _LATEST_BYTES // len(order), unreadable)
        if latest is None:
            continue
        chosen = spread(rest, EARLIER)
        share = _ALL_EARLIER_BYTES // len(order) // EARLIER
        earlier = [_try_embed(image, _COLUMN, share, unreadable) for image in chosen]
        shown = tuple(image for image in earlier if image is not None)
        found.append(Gallery(kind, title(kind.replace("-", " ")), latest, shown, len(rest) - len(chosen)))
    return found, unreadable


def spread(images: Sequence[StoredImage], most: int) -> list[StoredImage]:
    """Choose at most `most` of the images, evenly spaced, the first and the last among them."""
    if len(images) <= most:
        return list(images)
    return [images[round(i * (len(images) - 1) / (most - 1))] for i in range(most)]


def _latest(images: list[StoredImage], budget: int, unreadable: list[str]) -> tuple[Embedded | None, list[StoredImage]]:
    """The newest image that can be read, and those before it."""
    # Twice the column, for sharp screens.
    for index in range(len(images) - 1, -1, -1):
        embedded = _try_embed(images[index], 2 * _COLUMN, budget, unreadable)
        if embedded is not None:
            return embedded, images[:index]
    return None, []


def _try_embed(image: StoredImage, width: int, budget: int, unreadable: list[str]) -> Embedded | None:
    try:
        return _embed(image, width, budget)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # Pillow raises any of these for a file cut short while the run was killed.
        unreadable.append(image.path.name)
        return None


def _embed(stored: StoredImage, most: int, budget: int) -> Embedded:
    data = stored.path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        kind = _TYPES.get(image.format or "")
        if kind is None or len(data) > budget or image.width > most:
            data, image = _smaller(image, most, budget)
            kind = "image/webp"
        width, height = image.size
    address = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Embedded(address, width, height, min(_COLUMN, max(width, min(480, 2 * width))), stored.step)


def _smaller(image: Image.Image, most: int, budget: int) -> tuple[bytes, Image.Image]:
    """The image as WebP within `budget` bytes: at most `most` pixels wide, then shrunk until it fits."""
    image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
    # WebP itself ends at 16383 pixels a side.
    image.thumbnail((most, 8000), Image.Resampling.LANCZOS)
    while True:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=82)
        if buffer.tell() <= budget or min(image.size) < 64:
            return buffer.getvalue(), image
        scale = max(0.5, 0.95 * (budget / buffer.tell()) ** 0.5)
        size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
