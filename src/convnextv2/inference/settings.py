"""How images are read and computed by every verb that uses a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from convnextv2.settings import Settings, as_value_range


@dataclass(frozen=True, kw_only=True)
class InferenceSettings(Settings):
    """Settings that evaluate, predict, probe and embed share."""

    batch_size: int = 64
    """Images per batch."""
    workers: int | None = None
    """Processes that read images; by default one per core less one, at most 8."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    max_pixels: int = 100_000_000
    """Images of more pixels count as unreadable (decompression bombs)."""

    value_range: str | tuple[float, float] | None = None
    """LOW:HIGH, the values that become black and white in files of more than 8 bits; by default as the model was
    trained."""

    bands: str | tuple[str, ...] | None = None
    """Patterns of the files of each band; the model knows them, and they are only compared."""
    channels: str | tuple[str, ...] | None = None
    """Which bands are read; the model knows them, and they are only compared."""
    stats: str | None = None
    """A file of `convnextv2 stats`; the model knows its statistics, and they are only compared."""

    pages: Literal["bands", "images"] = "bands"
    """What the pages of a TIFF and the frames of DICOM are: bands of one image, or images of their own, in embed and
    predict."""
    tile: int | None = None
    """Cover each image with squares of so many pixels on a side, which are read one by one, each for itself: for large
    images, in embed and predict."""

    def __post_init__(self) -> None:
        """Read `value_range` as two numbers, then check all settings."""
        object.__setattr__(self, "value_range", as_value_range(self.value_range))
        super().__post_init__()

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield rules, as `Settings.rules`."""
        yield from self.in_range("batch_size", 1, float("inf"))
        yield from self.in_range("workers", 0, float("inf"))
        yield from self.in_range("max_pixels", 1, float("inf"))
        yield from self.in_range("tile", 16, 1 << 14)
