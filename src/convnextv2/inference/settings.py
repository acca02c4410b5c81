"""How images are read and computed by every verb that uses a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from convnextv2.settings import Settings


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

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield rules, as `Settings.rules`."""
        yield from self.in_range("batch_size", 1, float("inf"))
        yield from self.in_range("workers", 0, float("inf"))
        yield from self.in_range("max_pixels", 1, float("inf"))
