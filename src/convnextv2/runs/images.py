"""The images of a run: the same ones when it is resumed, kept in memory once decoded if they fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from convnextv2 import seal
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.values import ValueRange
from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.cache import PixelCache, expected_bytes
from convnextv2.engine import machine, runfolder
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.runlog import RunLog
from convnextv2.errors import UserError
from convnextv2.runs.settings import RunSettings
from convnextv2.text import one_line

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
    value_range: ValueRange | None,
    resuming: bool,
    context: DistributedContext,
    log: RunLog,
) -> tuple[BadImages, PixelCache | None]:
    """Return the record of unreadable images, and memory for the decoded ones if they fit.

    mark: their fingerprint; a resumed run must find exactly the images that it began with, as their order decides
    what every step sees.  min_side, value_range: see `data.files.decode.decode`.
    """
    bad = BadImages(images, settings.max_bad_fraction, log.warn)
    if resuming:
        began = runfolder.read_config(log.run / "config.json")["data"]
        if began.get("fingerprint") != mark:
            raise UserError(
                f"--resume: the images in {began.get('source')}, or their labels, are not those the run began with "
                f"({began.get('pictures')} then, {len(images)} now); put them back, or name a new --out"
            )
        known = log.run / BAD_IMAGES
        if known.is_file():
            _load_bad(bad, known, len(images), log)
    if not settings.cache:
        return bad, None
    limits = {"channels": channels, "max_pixels": settings.max_pixels, "min_side": min_side}
    return bad, _cache(images, context, log, value_range, **limits)


def _cache(
    images: ImageList, context: DistributedContext, log: RunLog, value_range: ValueRange | None, **limits: int
) -> PixelCache | None:
    """Return memory for the decoded images, one for all processes of a machine; None if they need more than a quarter.

    value_range, limits: how they are decoded, see `PixelCache`.
    """
    machines = context.gather(machine.identity())
    here = machines[context.rank]
    first = machines.index(here)

    def room(share: int) -> PixelCache | None:
        expected = expected_bytes(images, **limits)
        limit = machine.free_bytes(torch.device("cpu")) // 4 // share
        if expected > limit:
            return None
        try:
            cache = PixelCache(images, min(limit, expected + expected // 4), value_range=value_range, **limits)
        except OSError:
            return None
        log.say(
            f"images are kept in memory once they are decoded: about {expected / 2**20:.0f} MiB on this machine, of"
            f" {limit / 2**20:.0f} MiB allowed"
        )
        return cache

    own = room(1) if context.rank == first else None
    shared = context.gather(None if own is None else own.address)[first]
    if context.rank == first or shared is None:
        return own
    try:
        return PixelCache(images, shared, value_range=value_range, **limits)
    except OSError:  # the processes of this machine do not see each other
        return room(machines.count(here))


def _load_bad(bad: BadImages, path: Path, images: int, log: RunLog) -> None:
    """Take over which files were found unreadable; if that list is damaged, they are found and named again."""
    try:
        found = seal.parse(path.read_bytes())
        if not all(type(index) is int and 0 <= index < images and type(reason) is str for index, reason in found):
            raise ValueError("it is no list of images and reasons")
    except (OSError, ValueError, TypeError) as error:
        log.warn(f"warning: {path} is damaged ({one_line(error)}): files that cannot be read are named again")
        return
    bad.load(found)
