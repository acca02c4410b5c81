"""Settings of `convnextv2 probe`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from convnextv2.inference.settings import InferenceSettings


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(InferenceSettings):
    """Settings of `convnextv2 probe`."""

    label_fraction: float = 1.0
    """Use only this share of the labels of each class, drawn several times."""
    labels_per_class: int | None = None
    """Or this many labels of each class."""
    draws: int = 3
    """How often these are drawn; mean and standard deviation are reported."""
    against: str | Path = "random"
    """Another run or file to compare with; random weights of the same architecture are always beside it."""
    split: Literal["val", "test"] | None = None
    """The images to evaluate on; by default val, or test if there is no val."""
    val_fraction: float | None = None
    """Share of the images to evaluate on if the data has no val; by default a fifth, or a tenth of train/."""
    group_column: str | None = None
    """Column of the CSV whose equal values (a patient, a site) must not be on both sides of the split."""
    group_pattern: str | None = None
    """The same for folders: a regular expression; what it matches in the path below --data, as 'patient(\\d+)', is
    the group."""
    multi_label: bool = False
    """Several labels per image, each evaluated by itself; also chosen if a CSV has several in a cell."""
    label_column: str | None = None
    """Column of the CSV with the labels, if it is not called label, class or target."""
    label_separator: str | None = None
    """What separates the labels of an image in a CSV; by default a semicolon, if a consistent share has it."""
    image_size: int | None = None
    """Pixels on a side; by default that of the run."""
    neighbours: int = 20
    """k of k-NN."""
    seed: int = 0
    """Random seed of what is drawn: labels, val, random weights."""
    out: Path | None = None
    """A new JSON file for the whole result."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of `InferenceSettings`, and those of these settings."""
        yield from super().rules()
        yield from self.in_range("label_fraction", 0, 1, low_open=True)
        for name in ("labels_per_class", "draws", "neighbours"):
            yield from self.in_range(name, 1, inf)
        yield from self.in_range("image_size", 8, inf)
        yield from self.in_range("seed", 0, inf)
        yield (
            self.labels_per_class is None or self.label_fraction == 1,
            "both --label-fraction and --labels-per-class: give one of them",
        )
        yield self.split in (None, "val", "test"), f"--split {self.split}: give val or test"
        yield (
            self.out is None or self.out.suffix == ".json",
            f"--out {self.out}: name a file that ends in .json",
        )
