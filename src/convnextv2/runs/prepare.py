"""What lies between a task's decisions and its first step: portions, the estimate of the time, config.json."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from convnextv2.data.files.folder import ImageList
from convnextv2.data.loading.cache import PixelCache, decode_all
from convnextv2.data.loading.loader import BadImages
from convnextv2.engine import machine, precision, runfolder
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.loop import LoopSettings, seconds_per_step
from convnextv2.engine.runlog import RunLog, duration
from convnextv2.engine.task import Task
from convnextv2.errors import UserError
from convnextv2.runs.settings import RunSettings, names

BAD_IMAGES = "bad_images.json"
"""In the run's folder: index and reason of every file that could not be read."""

Chosen = list[tuple[str, object, str]]
"""What was chosen for the user: name, value, why."""


class Recipe(Protocol):
    """What every task's recipe holds; it may hold more. A frozen dataclass."""

    @property
    def batch_size(self) -> int: ...
    @property
    def epochs(self) -> float: ...
    @property
    def warmup_epochs(self) -> float: ...
    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a task has decided.

    module: the model in training.  parameters: how many to tell of.  images: what an epoch goes through once.
    fingerprint: of them and their labels.  compute: what one step computes for so many pictures, up to the loss, for
    measuring its memory.  task: made with so many worker processes.  loop: more settings of the loop, given the
    optimiser steps of the run and of an epoch.  model, data: about them, for config.json.  resolved: settings that
    were decided besides the recipe's.  finish: what is left to do after the last step.  least_micro_batch: pictures
    that a process must have at a time.
    """

    verb: str
    name: str
    module: nn.Module
    parameters: int
    images: ImageList
    fingerprint: str
    recipe: Any  # a Recipe
    chosen: Chosen
    compute: Callable[[int], Tensor]
    task: Callable[[int], Task]
    loop: Callable[[int, int], dict[str, Any]]
    model: dict[str, Any]
    data: dict[str, Any]
    resolved: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[LoopSettings], None] = lambda loop: None
    least_micro_batch: int = 1


@dataclass(frozen=True)
class Prepared:
    """All that `fit` needs, the pictures that could not be read, and what is left to do after the last step."""

    task: Task
    loop: LoopSettings
    bad: BadImages
    finish: Callable[[], None]


def prepare(
    plan: Plan,
    bad: BadImages,
    settings: RunSettings,
    given: set[str],
    resuming: bool,
    context: DistributedContext,
    log: RunLog,
) -> Prepared:
    """Cut the batch into portions, estimate the time, tell what was chosen, and write config.json."""
    recipe: Recipe = plan.recipe
    chosen = list(plan.chosen)
    kind, why = precision.resolve(settings.precision, context.device)
    chosen += [("precision", kind, why)] if settings.precision == "auto" else []
    micro = settings.micro_batch
    if (micro or recipe.batch_size // context.world_size) < plan.least_micro_batch:
        raise UserError(
            f"each process must work on {plan.least_micro_batch} pictures at a time, as they are mixed: give a larger "
            "--micro-batch and --batch-size, or --mixup 0 --cutmix 0"
        )
    if micro is None:
        micro = _micro_batch(plan, recipe, kind, context)
        chosen.append(("micro_batch", micro, "what fits into half of the free memory"))
    workers = min(max(1, context.local_share(machine.processors()) - 1), 8)
    task = plan.task(workers if settings.workers is None else settings.workers)
    accumulate = _accumulate(recipe.batch_size, micro, context)
    loop = _loop_settings(plan, settings, recipe, kind, accumulate)
    if resuming:
        return Prepared(task, loop, bad, lambda: plan.finish(loop))
    seconds = seconds_per_step(task, loop, context)
    if settings.minutes is not None:
        steps = max(1, int(settings.minutes * 60 / seconds))
        recipe, chosen = _for_time(settings, recipe, steps / loop.steps_per_epoch, chosen)
        loop = _loop_settings(plan, settings, recipe, kind, accumulate)
    for name, value, reason in chosen:
        log.say(f"  {name.replace('_', ' ')} {_short(value)} ({reason})")
    log.say(
        f"{plan.name}, {plan.parameters:,} parameters, on {context.device}: {loop.total_steps} steps, "
        f"about {duration(seconds * loop.total_steps)} at {recipe.batch_size / seconds:.0f} images/s"
    )
    if context.is_main:
        decided = plan.resolved | {"micro_batch": micro, "precision": kind, "log_every": loop.log_every}
        resolved = _resolved(settings, recipe, decided)
        config = _config(plan, resolved, chosen, context)
        config["given"] = {name: getattr(settings, name) for name in sorted(given)}
        runfolder.write_config(log.run, config)
    return Prepared(task, loop, bad, lambda: plan.finish(loop))


def fingerprint(*parts: tuple[ImageList, Tensor | None]) -> str:
    """SHA-256 of the names of pictures, and of their labels where they have any."""
    digest = hashlib.sha256()
    for images, labels in parts:
        digest.update("\n".join(images.names).encode(errors="surrogateescape"))
        if labels is not None:
            digest.update(labels.contiguous().numpy().tobytes())
    return digest.hexdigest()


def take_pictures(
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
    """The record of unreadable pictures, and all the others decoded where they fit into memory.

    mark: their fingerprint; a resumed run must find exactly the pictures that it began with, as their order decides
    what every step sees.  min_side: see `data.decode.decode`.
    """
    bad = BadImages(images, settings.max_bad_fraction, log.warn)
    if resuming:
        began = runfolder.read_config(log.run / "config.json")["data"]
        if began.get("fingerprint") != mark:
            raise UserError(
                f"--resume: the pictures in {began['source']}, or their labels, are not those the run began with "
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
    images: ImageList, settings: RunSettings, channels: int, min_side: int, context: DistributedContext, log: RunLog
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


def _micro_batch(plan: Plan, recipe: Recipe, kind: Any, context: DistributedContext) -> int:
    share = max(1, recipe.batch_size // context.world_size)
    # Two pictures at least: batch norm takes no single one.
    with machine.buffers_kept(plan.module), precision.autocast(kind, context.device):
        two, four = (machine.bytes_kept(lambda count=count: plan.compute(count)) for count in (2, 4))
    free = machine.free_bytes(context.device)
    free = free if context.device.type == "cuda" else context.local_share(free)
    return fitting_divisor(share, max(1, (four - two) // 2), int(context.mean([free])[0]), least=plan.least_micro_batch)


def fitting_divisor(share: int, bytes_per_picture: int, free_bytes: int, least: int = 1) -> int:
    """The largest divisor of `share` pictures whose activations fit into half of the free memory.

    least: the smallest that will do, whether it fits or not.
    """
    fits = max(1, int(0.5 * free_bytes / bytes_per_picture))
    divisors = [n for n in range(1, share + 1) if share % n == 0]
    return max((n for n in divisors if least <= n <= fits), default=min((n for n in divisors if n >= least), default=1))


def _accumulate(batch_size: int, micro: int, context: DistributedContext) -> int:
    portion = micro * context.world_size
    if batch_size % portion:
        raise UserError(
            f"--batch-size {batch_size} is not a multiple of {context.world_size} process(es) times a "
            f"micro-batch of {micro}; use --batch-size {max(1, round(batch_size / portion)) * portion}"
        )
    return batch_size // portion


def _for_time(settings: RunSettings, recipe: Any, epochs: float, chosen: Chosen) -> tuple[Any, Chosen]:
    """The recipe with as many epochs as fit into --minutes, and its warm-up in proportion."""
    chosen = [choice for choice in chosen if choice[0] != "warmup_epochs"]
    chosen.append(("epochs", epochs, f"what fits into {settings.minutes:g} minutes"))
    warmup = recipe.warmup_epochs
    if settings.warmup_epochs is None:
        warmup = epochs * recipe.warmup_epochs / recipe.epochs
        chosen.append(("warmup_epochs", warmup, "the recipe's share of the run"))
    return replace(recipe, epochs=epochs, warmup_epochs=warmup), chosen


def _loop_settings(plan: Plan, settings: RunSettings, recipe: Recipe, kind: Any, accumulate: int) -> LoopSettings:
    per_epoch = max(1, len(plan.images) // recipe.batch_size)
    total = max(1, round(recipe.epochs * per_epoch))
    if recipe.warmup_epochs > recipe.epochs:
        raise UserError(
            f"a warm-up of {recipe.warmup_epochs:g} epochs is longer than the run of {recipe.epochs:g}: "
            "give a smaller --warmup-epochs"
        )
    return LoopSettings(
        total_steps=total,
        steps_per_epoch=per_epoch,
        batch_size=recipe.batch_size,
        accumulate=accumulate,
        lr=recipe.lr,
        warmup_steps=round(recipe.warmup_epochs * per_epoch),
        weight_decay=recipe.weight_decay,
        betas=recipe.betas,
        clip_grad=settings.clip_grad,
        precision=kind,
        compile=settings.compile,
        seed=settings.seed,
        log_every=settings.log_every or max(1, total // 1000),
        checkpoint_every=settings.checkpoint_every,
        checkpoint_minutes=settings.checkpoint_minutes,
        **plan.loop(total, per_epoch),
    )


def _resolved(settings: RunSettings, recipe: Any, decided: dict[str, Any]) -> RunSettings:
    """The settings with everything that was chosen written in, so that they alone start the run again."""
    known = names(type(settings))
    chosen = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe) if f.name in known}
    chosen["epochs"] = int(recipe.epochs) if recipe.epochs == int(recipe.epochs) else recipe.epochs
    return replace(settings, **chosen | {"minutes": None, "resume": False, "config": None} | decided)


def _config(plan: Plan, settings: RunSettings, chosen: Chosen, context: DistributedContext) -> dict[str, Any]:
    return {
        "verb": plan.verb,
        "settings": dataclasses.asdict(settings),
        "chosen": chosen,
        "data": {
            "source": str(settings.data),
            "pictures": len(plan.images),
            "fingerprint": plan.fingerprint,
            **plan.data,
        },
        "model": {"name": plan.name, "parameters": plan.parameters, **plan.model},
        "versions": machine.versions(),
        "machine": {**machine.describe(context.device), "processes": context.world_size},
        "command": " ".join(sys.argv),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
