"""What a user can set for a pre-training run; the Python call and the command line read the same class."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convnextv2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Settings of `convnextv2 pretrain`. What is None is chosen by the recipe and told before the run starts."""

    data: Path | None = None
    """A folder of pictures (flat, nested or class folders; labels are not used), or a text file of paths."""
    out: Path | None = None
    """The run's folder: checkpoints, metrics, pictures and report. Must be new or empty, but for --resume."""
    resume: bool = False
    """Go on with the run in --out from its newest checkpoint, bit for bit."""
    config: Path | None = None
    """The config.json of another run: start with its settings; what is given besides takes precedence."""

    model: str = "convnextv2_atto"
    """convnextv2_atto, _femto, _pico, _nano, _tiny, _base, _large, _huge, or convnext_* for V1."""
    image_size: int = 224
    """Pixels on a side of a training crop; a multiple of the mask cell, 8 times the stem stride."""
    stem_stride: int = 4
    """4 as published; 2 or 1 for small pictures, so that they keep a useful grid."""
    in_chans: int = 3
    """3 for colour, 1 for grey pictures."""
    depths: tuple[int, int, int, int] | None = None
    """Own number of blocks of each stage."""
    dims: tuple[int, int, int, int] | None = None
    """Own number of channels of each stage."""

    mask_ratio: float = 0.6
    """Part of the cells that is hidden."""
    decoder_dim: int = 512
    """Width of the decoder."""
    decoder_depth: int = 1
    """Blocks of the decoder."""
    norm_pix_loss: bool = True
    """Predict each cell normalised by its own mean and variance."""

    recipe: Literal["auto", "paper"] = "auto"
    """auto fits batch, warm-up and epochs to the data and the machine; paper is Table 8 of the paper."""
    epochs: float | None = None
    """Passes over the pictures."""
    minutes: float | None = None
    """In place of --epochs: as many as fit into this time, by a measurement at the start."""
    batch_size: int | None = None
    """Pictures of one optimiser step, over all processes."""
    micro_batch: int | None = None
    """Pictures that one process works on at a time; the step adds up as many as it needs (accumulation)."""
    lr: float | None = None
    """Highest learning rate, as used (not a base rate)."""
    warmup_epochs: float | None = None
    """Epochs of linear warm-up."""
    weight_decay: float | None = None
    """Of AdamW; never on norms, biases, GRN and the mask token."""
    clip_grad: float | None = None
    """Largest norm of the gradient; none by default, as in the paper."""
    min_scale: float = 0.2
    """Smallest part of a picture's area that a random crop takes."""
    flip: bool = True
    """Mirror half of the crops (the official code does; the paper's text does not)."""

    seed: int = 0
    """Of weights, order, crops and masks."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 autocast where the machine computes in it."""
    compile: bool = False
    """Compile the model with torch.compile."""
    workers: int | None = None
    """Processes that read pictures; by default as many as the processor has cores, less one, up to 8."""
    max_pixels: int = 100_000_000
    """Pictures of more pixels count as broken (decompression bombs)."""
    max_bad_fraction: float = 0.01
    """The run stops when more than this part of the files cannot be read."""
    cache: bool = True
    """Decode all pictures once into memory where they fit into a quarter of what is free."""

    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; the last step is always saved."""
    checkpoint_every: int = 0
    """Also save after every so many steps; 0 for by the clock alone."""
    log_every: int | None = None
    """Steps between two lines of metrics.jsonl."""
    pictures: int = 8
    """How often reconstructions are drawn during the run; the last are always drawn."""

    def __post_init__(self) -> None:
        self._normalise()
        rules = [
            (self.epochs is None or self.minutes is None, "give --epochs or --minutes, not both"),
            (self.epochs is None or self.epochs > 0, f"--epochs {self.epochs}: give more than 0"),
            (self.minutes is None or self.minutes > 0, f"--minutes {self.minutes}: give more than 0"),
            (self.batch_size is None or self.batch_size > 0, f"--batch-size {self.batch_size}: give 1 or more"),
            (self.micro_batch is None or self.micro_batch > 0, f"--micro-batch {self.micro_batch}: give 1 or more"),
            (self.lr is None or self.lr > 0, f"--lr {self.lr}: give more than 0"),
            (0 < self.mask_ratio < 1, f"--mask-ratio {self.mask_ratio}: give a number between 0 and 1"),
            (0 < self.min_scale <= 1, f"--min-scale {self.min_scale}: give more than 0 and at most 1"),
            (0 <= self.max_bad_fraction <= 1, f"--max-bad-fraction {self.max_bad_fraction}: give 0 to 1"),
            (self.in_chans in (1, 3), f"--in-chans {self.in_chans}: folders of pictures give 1 (grey) or 3 (colour)"),
            (self.stem_stride in (1, 2, 4), f"--stem-stride {self.stem_stride}: give 4, 2 or 1"),
            (self.decoder_dim > 0 and self.decoder_depth > 0, "--decoder-dim and --decoder-depth must be 1 or more"),
            (self.workers is None or self.workers >= 0, f"--workers {self.workers}: give 0 or more"),
            (0 <= self.seed < 2**63, f"--seed {self.seed}: give 0 or more, below 2**63"),
            (math.isfinite((self.epochs or 0) + (self.minutes or 0)), "--epochs and --minutes must be finite"),
            (
                self.warmup_epochs is None or self.warmup_epochs >= 0,
                f"--warmup-epochs {self.warmup_epochs}: give 0 or more",
            ),
            (
                self.weight_decay is None or self.weight_decay >= 0,
                f"--weight-decay {self.weight_decay}: give 0 or more",
            ),
            (self.clip_grad is None or self.clip_grad > 0, f"--clip-grad {self.clip_grad}: give more than 0"),
            (self.log_every is None or self.log_every > 0, f"--log-every {self.log_every}: give 1 or more"),
            (self.pictures >= 0, f"--pictures {self.pictures}: give 0 (only at the end) or more"),
            (self.checkpoint_every >= 0, f"--checkpoint-every {self.checkpoint_every}: give 0 or more"),
            (self.checkpoint_minutes > 0, f"--checkpoint-minutes {self.checkpoint_minutes}: give more than 0"),
            (self.max_pixels > 0, f"--max-pixels {self.max_pixels}: give 1 or more"),
        ]
        for holds, message in rules:
            if not holds:
                raise UserError(message)
        cell = 8 * self.stem_stride
        if self.image_size < 2 * cell or self.image_size % cell:
            near = max(2 * cell, round(self.image_size / cell) * cell)
            raise UserError(
                f"--image-size {self.image_size} does not fit the mask cell of {cell} pixels (8 times --stem-stride): "
                f"use --image-size {near}" + (", or a smaller --stem-stride" if self.stem_stride > 1 else "")
            )

    def _normalise(self) -> None:
        """Paths and tuples, whatever Python or JSON gave for them."""
        for name in ("data", "out", "config"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        for name in ("depths", "dims"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))


NAMES = tuple(field.name for field in dataclasses.fields(PretrainSettings))
