"""The settings that every run has, and those of every run that trains a backbone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from convnextv2.records import LARGEST_SIDE
from convnextv2.settings import Settings, as_value_range


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """Settings of any run. A task's settings derive from it, define what `data` is, and add their own.

    What is None is chosen by the task and logged before the run starts.
    """

    data: Path | None = None
    """The training data."""
    out: Path | None = None
    """The run's folder: checkpoints, metrics, images and report. Must be new or empty, except for --resume."""
    resume: bool = False
    """Resume the run in --out from its newest checkpoint, bit for bit."""
    auto_resume: bool = False
    """Resume the run in --out if there is one, else start it: for jobs that are started again by themselves."""
    config: Path | None = None
    """Start from the settings in this config.json of another run; options on the command line override them."""

    epochs: float | None = None
    """Passes over the images."""
    minutes: float | None = None
    """Train for about this many minutes instead of --epochs, measured at the start and without evaluations."""
    batch_size: int | None = None
    """Images per optimiser step, over all processes."""
    micro_batch: int | None = None
    """Images that one process works on at a time; a step accumulates as many of these as it needs."""
    lr: float | None = None
    """Highest learning rate, as used (not a base rate)."""
    warmup_epochs: float | None = None
    """Epochs of linear warm-up."""
    weight_decay: float | None = None
    """AdamW weight decay; weights of convolutions and linear layers only."""
    clip_grad: float | None = None
    """Largest norm of the gradient; not clipped by default, as in the paper."""

    seed: int = 0
    """Random seed for weights, order and augmentation."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    timeout: float = 30.0
    """Minutes that several processes wait for each other, as for the slowest to list the images."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 autocast if the machine computes in it."""
    compile: bool = False
    """Compile the model with torch.compile."""
    threads: int | Literal["auto"] | None = None
    """Threads that compute on a CPU, by default one per core; auto measures which numbers of threads and workers are
    fastest now, as on a busy machine. The number can change the last bits of results."""
    workers: int | None = None
    """Processes that read images; by default one per core less one, at most 8."""
    max_pixels: int = 100_000_000
    """Images of more pixels count as unreadable (decompression bombs)."""
    value_range: str | tuple[float, float] | None = None
    """LOW:HIGH, the values that become black and white in files of more than 8 bits, as 0:4095; by default that of
    --init, else all of 16 bits, and each image's own range for floats. 8 bits stay as they are."""
    max_bad_fraction: float = 0.01
    """Stop the run if more than this share of the files cannot be read; a few always may, unless it is 0."""
    cache: bool = True
    """Keep decoded images in memory, shared by all processes of a machine, if a quarter of what is free is enough."""

    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; the last step is always saved."""
    checkpoint_every: int = 0
    """Also save every so many steps; 0: time-based only."""
    log_every: int | None = None
    """Steps between two lines of metrics.jsonl."""

    def __post_init__(self) -> None:
        """Read `value_range` as two numbers, then check all settings."""
        object.__setattr__(self, "value_range", as_value_range(self.value_range))
        super().__post_init__()

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of these settings, as `Settings.rules`; a task adds its own."""
        yield self.epochs is None or self.minutes is None, "give --epochs or --minutes, not both"
        for name in ("epochs", "minutes", "lr", "clip_grad"):
            yield from self.in_range(name, 0, inf, low_open=True, high_open=True)
        for name in ("batch_size", "micro_batch", "log_every", "max_pixels"):
            yield from self.in_range(name, 1, inf)
        if self.threads != "auto":
            yield from self.in_range("threads", 1, inf)
        for name in ("warmup_epochs", "weight_decay", "workers", "checkpoint_every"):
            yield from self.in_range(name, 0, inf)
        yield from self.in_range("max_bad_fraction", 0, 1)
        yield from self.in_range("checkpoint_minutes", 0, inf, low_open=True)
        yield from self.in_range("timeout", 0, 100_000, low_open=True)
        yield not (self.resume and self.auto_resume), "give --resume or --auto-resume, not both"
        yield from self.in_range("seed", 0, 2**63, high_open=True)


PUBLISHED_SIZE, PUBLISHED_STEM = 224, 4


def stem_for(side: int) -> int:
    """Return the stem stride for images of so many pixels on a side: as published from 128 on, less for smaller ones.

    So a picture of 32 to 224 pixels becomes a map of at least 4 x 4 sites in the last stage, as far as strides go.
    """
    return PUBLISHED_STEM if side >= 128 else 2 if side >= 64 else 1


def size_for(side: int, patch: int) -> int:
    """Return the image size for files of so many pixels on their shorter side: at most 224, in whole patches.

    patch: pixels on a side of a site of the last stage, which is a mask patch.
    """
    return PUBLISHED_SIZE if side >= PUBLISHED_SIZE else max(2, round(side / patch)) * patch


SHAPE = frozenset({"model", "in_chans", "stem_stride", "depths", "dims", "image_size"})
"""What the weights to start from decide, if it is not given."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings(RunSettings):
    """Settings of a run that trains a backbone, from random weights or from existing ones.

    What is None is that of the weights to start from, else the default.
    """

    init: Path | None = None
    """Weights to start from: a run, a file, published weights (convnextv2 zoo), hf:OWNER/NAME, or none."""
    bands: str | tuple[str, ...] | None = None
    """Patterns of the files of each band, where an image's bands lie in files of their own, as
    '{id}_B02.tif,{id}_B03.tif'."""
    channels: str | tuple[str, ...] | None = None
    """Which bands are read, in this order: numbers from 1, or names, as 4,3,2; by default all of them."""
    nodata: float | None = None
    """The value that stands for missing data; NaN, alpha and what a file says itself always do."""
    stats: str = "auto"
    """What the numbers of bands mean: auto (those of --init, else made of the images), imagenet (8 bits only), or a
    file of `convnextv2 stats`."""
    show: str | tuple[str, ...] | None = None
    """Which bands figures show as red, green and blue: one to three of those read, by number or name, as 4,3,2; by
    default those named red, green and blue, else the first three."""
    inflate: str = "repeat"
    """How to adapt the stem if the channels differ from those of --init: repeat (by name, where both sides have the
    same names), mean, a list of channels as 0,1,2,0, or a table as red=0,green=1,nir=red."""
    model: str | None = None
    """convnextv2_SIZE, atto to huge (convnext_SIZE for V1); by default that of --init, else convnextv2_atto."""
    image_size: int | None = None
    """Pixels on a side of what the model sees; by default that of --init, else as the files, 224 at most."""
    stem_stride: int | None = None
    """4 as published; 2 or 1 for small images; by default that of --init, else 4 from 128 pixels on, 2 from 64."""
    in_chans: int | None = None
    """3 for colour, 1 for grey images, or the number of bands; by default that of --init, else as the images."""
    depths: tuple[int, int, int, int] | None = None
    """Number of blocks of each stage, in place of the model's."""
    dims: tuple[int, int, int, int] | None = None
    """Number of channels of each stage, in place of the model's."""

    def rules(self) -> Iterator[tuple[bool, str]]:
        """Yield the rules of `RunSettings`, and those of these settings."""
        yield from super().rules()
        yield from self.in_range("image_size", 8, LARGEST_SIDE)
        for name in ("depths", "dims"):
            value = getattr(self, name)
            holds = value is None or (len(value) == 4 and all(isinstance(each, int) and each >= 1 for each in value))
            yield holds, f"{name} must be 4 numbers of at least 1, got {value}"
        yield from self.in_range("in_chans", 1, 4096)
        as_numbers = self.bands or self.channels or self.nodata is not None or self.stats != "auto"
        message = "--value-range is for pictures, and --bands, --channels, --nodata and --stats for numbers: give one"
        yield not (as_numbers and self.value_range is not None), message
        yield self.stem_stride in (None, 1, 2, 4), f"--stem-stride {self.stem_stride}: give 4, 2 or 1"

    @property
    def init_source(self) -> Path | None:
        """The weights to start from; None for random ones, if --init is left out or none."""
        return None if self.init is None or str(self.init) == "none" else self.init
