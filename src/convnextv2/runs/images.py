"""The images of a run: the same ones when it is resumed, decoded once if they fit into memory."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import Tensor

from convnextv2.data.files.folder import ImageList
from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.cache import PixelCache, decode_all
from convnextv2.engine import machine, runfolder
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.runlog import RunLog
from convnextv2.errors import UserError
from convnextv2.runs.settings import RunSettings

BAD_IMAGES = "bad_images.json"
"""In the run's folder: index and reason of every file that could not be read."""


def fingerprint(*parts: tuple[ImageList, Tensor | None]) -> str:
    """Return the SHA-256 of the names of images, and of their labels (N,) or (N, K) if they have any."""
    digest = hashlib.sha256()
    for images, labels in parts:
        digest.update(images.names.joined())
        if labels is not None:
            digest.update(labels.contiguous().numpy().tobytes())
    return digest.hexdigest()


def take_images(
    images: ImageList,
    mark: str,
    settings: RunSettings,
    *,
    channels: int,
    min_side: int,
    resuming: bool,
    context: DistributedContext,
    log: RunLog,
) -> tuple[BadImages, PixelCache | None]:
    """Return the record of unreadable images, and all the others decoded if they fit into memory.

    mark: their fingerprint; a resumed run must find exactly the images that it began with, as their order decides
    what every step sees.  min_side: see `data.files.decode.decode`.
    """
    bad = BadImages(images, settings.max_bad_fraction, log.warn)
    if resuming:
        began = runfolder.read_config(log.run / "config.json")["data"]
        if began.get("fingerprint") != mark:
            raise UserError(
                f"--resume: the images in {began['source']}, or their labels, are not those the run began with "
                f"({began['pictures']} then, {len(images)} now); put them back, or name a new --out"
            )
        known = log.run / BAD_IMAGES
        if known.is_file():
            bad.load(json.loads(known.read_text(encoding="utf-8")))
    cache = _cache(images, settings, channels, min_side, context, log) if settings.cache else None
    if cache is not None:
        bad.add(cache.bad)
    return bad, cache


def _cache(
    images: ImageList,
    settings: RunSettings,
    channels: int,
    min_side: int,
    context: DistributedContext,
    log: RunLog,
) -> PixelCache | None:
    cache = decode_all(
        images,
        channels=channels,
        max_pixels=settings.max_pixels,
        min_side=min_side,
        budget_bytes=context.local_share(machine.free_bytes(torch.device("cpu")) // 4),
        threads=context.local_share(machine.processors()),
    )
    if cache is not None:
        log.say(f"decoded once into memory ({cache.nbytes / 2**20:.0f} MiB)")
    return cache
