"""The images of a run: the same ones when it is resumed, kept in memory once decoded if they fit."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from convnextv2 import seal
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.reading import Reading
from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.cache import PixelCache, expected_bytes
from convnextv2.engine import machine, runfolder
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.runlog import RunLog
from convnextv2.errors import BadImageError, UserError
from convnextv2.runs.settings import RunSettings
from convnextv2.text import listed, one_line, shown

BAD_IMAGES = "bad_images.json"
"""In the run's folder: index and reason of every file that could not be read."""


def fingerprint(*parts: tuple[ImageList, Tensor | None]) -> str:
    """Return the SHA-256 of the names of images, and of their labels (N,) or (N, K) if they have any.

    Images in memory have numbers for names; `sample` of them is in it.
    """
    digest = hashlib.sha256()
    for images, labels in parts:
        digest.update(images.names.joined())
        if images.held is not None:
            digest.update(json.dumps(sample(images)).encode())
        if labels is not None:
            digest.update(labels.contiguous().numpy().tobytes())
    return digest.hexdigest()


_SAMPLED = 64  # files of a list whose size and beginning are recorded
_BEGINNING = 2**16  # bytes


def sample(images: ImageList) -> dict[str, str]:
    """Return the size and a hash of the beginning of up to 64 files, spread evenly over a list, by name.

    Of images in memory all pixels are hashed.

    Beside the names of all it proves that files elsewhere are the same images, without reading every one.
    """
    return {images.names[index]: _look_at(images, index) for index in _chosen(images)}


def _chosen(images: ImageList) -> list[int]:
    return sorted({step * len(images) // _SAMPLED for step in range(_SAMPLED)}) if len(images) else []


def check_images(
    lists: Sequence[ImageList],
    mark: str,
    source: Path | None,
    *,
    resuming: bool,
    context: DistributedContext,
    log: RunLog,
) -> None:
    """Check that all processes have the same images, and a resumed run exactly those that it began with.

    Their order decides what every step sees. They may lie elsewhere now: then config.json is told.

    lists: of the images to train on, and of those to evaluate with.  mark: their fingerprint.  source: where they lie,
    or what they are.
    """
    context.meet("listed the images")
    marks = context.gather(mark)
    if others := [rank for rank, other in enumerate(marks) if other != marks[0]]:
        raise UserError(
            f"--data {source}: process {listed(map(str, others))} of {context.world_size} finds other images or "
            "labels there than the first; give a folder that is the same on every machine"
        )
    if resuming:
        context.broadcast(lambda: _check_resumed(lists, mark, source, log))


def _check_resumed(lists: Sequence[ImageList], mark: str, source: Path | None, log: RunLog) -> None:
    path = log.run / "config.json"
    config = runfolder.read_config(path)
    began, count = config["data"], len(lists[0])
    differs = _difference(began.get("samples", []), lists)
    if began.get("fingerprint") != mark or differs:
        if count != began["pictures"]:
            differs = f"{began['pictures']} then, {count} now" + (f"; {differs}" if differs else "")
        differs = differs or "other names or labels"
        raise UserError(
            f"--resume: the images in {source}, or their labels, are not those the run began with ({differs}); "
            "put them back, say with --data where they are, or name a new --out"
        )
    if began["source"] != str(source):
        log.say(f"the images of {began['source']} are now in {source}: names, labels, sizes and samples agree")
        began["source"] = config["settings"]["data"] = str(source)
        if "data" in config["given"]:
            config["given"]["data"] = str(source)
        runfolder.write_config(log.run, config)


def _difference(began: Sequence[Mapping[str, str]], lists: Sequence[ImageList]) -> str:
    """The first sampled file that is not what it was, in words; empty if none differs."""
    for before, images in zip(began, lists, strict=False):
        places = {images.names[index]: index for index in _chosen(images)}
        for name, then in before.items():
            now = _look_at(images, places[name]) if name in places else _look_at_file(images.root / name)
            if now != then:
                return f"{shown(name)}: {then} then, {now} now"
    return ""


def _look_at(images: ImageList, index: int) -> str:
    if images.held is None:
        return _look_at_file(images.path(index))
    try:
        return images.held.digest(index)
    except BadImageError as error:
        return error.reason


def _look_at_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            beginning = hashlib.sha256(file.read(_BEGINNING)).hexdigest()[:16]
            return f"{os.fstat(file.fileno()).st_size} bytes, {beginning}"
    except OSError as error:
        return error.strerror or "unreadable"


def take_images(
    images: ImageList,
    settings: RunSettings,
    *,
    reading: Reading,
    resuming: bool,
    context: DistributedContext,
    log: RunLog,
) -> tuple[BadImages, PixelCache | None]:
    """Return the record of unreadable images, and memory for the decoded ones if they fit."""
    bad = BadImages(images, settings.max_bad_fraction, log.warn)
    if resuming and (known := log.run / BAD_IMAGES).is_file():
        _load_bad(bad, known, len(images), log)
    if not settings.cache:
        return bad, None
    return bad, _cache(images, reading, context, log)


def _cache(images: ImageList, reading: Reading, context: DistributedContext, log: RunLog) -> PixelCache | None:
    """Return memory for the decoded images, one for all processes of a machine; None if they need over a quarter."""
    machines = context.gather(machine.identity())
    here = machines[context.rank]
    first = machines.index(here)

    def room(share: int) -> PixelCache | None:
        expected = expected_bytes(images, reading)
        limit = machine.free_bytes(torch.device("cpu")) // 4 // share
        if expected > limit:
            return None
        try:
            cache = PixelCache(images, min(limit, expected + expected // 4), reading)
        except OSError:
            return None
        log.say(
            f"images are kept in memory once they are decoded: about {-(-expected // 2**20)} MiB on this machine, of"
            f" {limit / 2**20:.0f} MiB allowed"
        )
        return cache

    own = room(1) if context.rank == first else None
    shared = context.gather(None if own is None else own.address)[first]
    if context.rank == first or shared is None:
        return own
    try:
        return PixelCache(images, shared, reading)
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
