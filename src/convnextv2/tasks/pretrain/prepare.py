"""All that comes before a run's first step: pictures, model, recipe, the estimate of its time, config.json."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any

import torch

from convnextv2.data.cache import PixelCache, decode_all
from convnextv2.data.folder import ImageList, list_images
from convnextv2.data.loader import BadImages
from convnextv2.engine import machine, precision, runfolder
from convnextv2.engine.distributed import Place
from convnextv2.engine.loop import LoopSettings, seconds_per_step
from convnextv2.engine.runlog import RunLog, duration
from convnextv2.errors import UserError
from convnextv2.models import create_model
from convnextv2.tasks.pretrain import recipes
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.model_file import describe
from convnextv2.tasks.pretrain.recipes import Recipe
from convnextv2.tasks.pretrain.settings import PretrainSettings
from convnextv2.tasks.pretrain.task import PretrainTask, min_side

BAD_IMAGES = "bad_images.json"
"""In the run's folder: index and reason of every file that could not be read."""

Chosen = list[tuple[str, object, str]]
"""What was chosen for the user: name, value, why."""


def prepare(
    settings: PretrainSettings, given: set[str], resuming: bool, place: Place, log: RunLog
) -> tuple[PretrainTask, LoopSettings]:
    """Everything up to the first step: pictures, model, recipe, the estimate, config.json."""
    assert settings.out is not None
    images, bad, cache = _pictures(settings, resuming, place, log)
    torch.manual_seed(settings.seed)
    model = build(settings)
    recipe, chosen = recipes.resolve(settings, len(images), place.world_size)
    if settings.recipe == "paper" and settings.batch_size is None and len(images) < recipe.batch_size:
        raise UserError(
            f"{len(images)} pictures make zero steps with the paper's batch of {recipe.batch_size}: "
            "use --recipe auto, or a smaller --batch-size"
        )
    kind, why = precision.resolve(settings.precision, place.device)
    chosen += [("precision", kind, why)] if settings.precision == "auto" else []
    micro = settings.micro_batch or _micro_batch(settings, model, recipe, place)
    if settings.micro_batch is None:
        chosen.append(("micro_batch", micro, "what fits into half of the free memory"))
    workers = min(max(1, place.share_of(machine.processors()) - 1), 8)
    workers = workers if settings.workers is None else settings.workers
    metadata = describe(settings)
    task = PretrainTask(
        model, images, settings, batch_size=recipe.batch_size, workers=workers, bad=bad, cache=cache, metadata=metadata
    )
    loop = _loop_settings(settings, recipe, len(images), kind, _accumulate(recipe, micro, place))
    if resuming:
        return task, loop
    seconds = seconds_per_step(task, loop, place)
    if settings.minutes is not None:
        steps = max(1, int(settings.minutes * 60 / seconds))
        recipe, chosen = _for_time(settings, recipe, steps / loop.steps_per_epoch, chosen)
        loop = _loop_settings(settings, recipe, len(images), kind, loop.accumulate)
    for name, value, reason in chosen:
        log.say(f"  {name.replace('_', ' ')} {_short(value)} ({reason})")
    rate, parameters = recipe.batch_size / seconds, sum(p.numel() for p in model.encoder.parameters())
    log.say(
        f"{settings.model}, {parameters:,} parameters, on {place.device}: {loop.total_steps} steps, "
        f"about {duration(seconds * loop.total_steps)} at {rate:.0f} images/s"
    )
    if place.is_main:
        resolved = _resolved(settings, recipe, micro_batch=micro, precision=kind, log_every=loop.log_every)
        config = _config(resolved, model, images, chosen, place)
        config["given"] = {name: getattr(settings, name) for name in sorted(given)}
        runfolder.write_config(settings.out, config)
    return task, loop


def _pictures(
    settings: PretrainSettings, resuming: bool, place: Place, log: RunLog
) -> tuple[ImageList, BadImages, PixelCache | None]:
    """What the run learns from; for a resumed run exactly what it began with."""
    assert settings.data is not None
    assert settings.out is not None
    images = list_images(settings.data)
    ignored = ", ".join(f"{count} {kind or 'without extension'}" for kind, count in images.ignored.items())
    log.say(f"{len(images)} pictures in {settings.data}" + (f" (passed over: {ignored})" if ignored else ""))
    bad = BadImages(images, settings.max_bad_fraction, log.warn)
    if resuming:
        _check_same_pictures(images, runfolder.read_config(settings.out / "config.json"))
        known = settings.out / BAD_IMAGES
        if known.is_file():
            bad.load(json.loads(known.read_text(encoding="utf-8")))
    cache = _cache(settings, images, place, log)
    if cache is not None:
        bad.add(cache.bad)
    return images, bad, cache


def _resolved(settings: PretrainSettings, recipe: Recipe, **decided: Any) -> PretrainSettings:
    """The settings with everything that was chosen written in, so that they alone start the run again."""
    return replace(
        settings,
        epochs=int(recipe.epochs) if recipe.epochs == int(recipe.epochs) else recipe.epochs,
        minutes=None,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        warmup_epochs=recipe.warmup_epochs,
        weight_decay=recipe.weight_decay,
        resume=False,
        config=None,
        **decided,
    )


def _for_time(settings: PretrainSettings, recipe: Recipe, epochs: float, chosen: Chosen) -> tuple[Recipe, Chosen]:
    """The recipe with as many epochs as fit into --minutes, and a warm-up to match."""
    recipe = replace(recipe, epochs=epochs)
    why = f"what fits into {settings.minutes:g} minutes"
    kept = [choice for choice in chosen if choice[0] != "warmup_epochs"]
    added: Chosen = [("epochs", epochs, why)]
    if settings.warmup_epochs is None:
        recipe = replace(recipe, warmup_epochs=epochs / 20)
        added.append(("warmup_epochs", recipe.warmup_epochs, "a twentieth of the run"))
    return recipe, kept + added


def build(settings: PretrainSettings) -> FCMAE:
    """The model of a run, randomly initialised."""
    encoder = create_model(
        settings.model,
        num_classes=0,
        in_chans=settings.in_chans,
        stem_stride=settings.stem_stride,
        depths=settings.depths,
        dims=settings.dims,
    )
    return FCMAE(
        encoder,
        mask_ratio=settings.mask_ratio,
        decoder_dim=settings.decoder_dim,
        decoder_depth=settings.decoder_depth,
        norm_pix_loss=settings.norm_pix_loss,
    )


def _cache(settings: PretrainSettings, images: ImageList, place: Place, log: RunLog) -> PixelCache | None:
    if not settings.cache:
        return None
    budget = place.share_of(machine.free_bytes(torch.device("cpu")) // 4)
    cache = decode_all(
        images,
        channels=settings.in_chans,
        max_pixels=settings.max_pixels,
        min_side=min_side(settings.image_size),
        budget_bytes=budget,
        threads=place.share_of(machine.processors()),
        progress=None,
    )
    if cache is not None:
        log.say(f"decoded once into memory ({cache.nbytes / 2**20:.0f} MiB)")
    return cache


def _micro_batch(settings: PretrainSettings, model: FCMAE, recipe: Recipe, place: Place) -> int:
    share = max(1, recipe.batch_size // place.world_size)
    per_picture = model.activation_bytes(settings.image_size)
    free = machine.free_bytes(place.device)
    free = free if place.device.type == "cuda" else place.share_of(free)
    return recipes.micro_batch(share, per_picture, int(place.mean([free])[0]))


def _accumulate(recipe: Recipe, micro: int, place: Place) -> int:
    portion = micro * place.world_size
    if recipe.batch_size % portion:
        raise UserError(
            f"--batch-size {recipe.batch_size} is not a multiple of {place.world_size} process(es) times a "
            f"micro-batch of {micro}; use --batch-size {max(1, round(recipe.batch_size / portion)) * portion}"
        )
    return recipe.batch_size // portion


def _loop_settings(
    settings: PretrainSettings, recipe: Recipe, pictures: int, kind: Any, accumulate: int
) -> LoopSettings:
    per_epoch = max(1, pictures // recipe.batch_size)
    total = max(1, round(recipe.epochs * per_epoch))
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
        pictures_every=max(1, total // (settings.pictures + 1)) if settings.pictures else 0,
        checkpoint_every=settings.checkpoint_every,
        checkpoint_minutes=settings.checkpoint_minutes,
    )


def _config(
    settings: PretrainSettings, model: FCMAE, images: ImageList, chosen: Chosen, place: Place
) -> dict[str, Any]:
    return {
        "verb": "pretrain",
        "settings": dataclasses.asdict(settings),
        "chosen": chosen,
        "data": {
            "source": str(settings.data),
            "pictures": len(images),
            "names_sha256": _names_hash(images),
            "passed_over": dict(images.ignored),
        },
        "model": {
            "name": settings.model,
            "parameters": sum(p.numel() for p in model.encoder.parameters()),
            "decoder_parameters": sum(p.numel() for p in model.parameters())
            - sum(p.numel() for p in model.encoder.parameters()),
        },
        "versions": machine.versions(),
        "machine": {**machine.describe(place.device), "processes": place.world_size},
        "command": " ".join(sys.argv),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _names_hash(images: ImageList) -> str:
    return hashlib.sha256("\n".join(images.names).encode(errors="surrogateescape")).hexdigest()


def _check_same_pictures(images: ImageList, config: dict[str, Any]) -> None:
    """A resumed run must find the pictures it began with: their order decides what every step sees."""
    if config["data"].get("names_sha256") != _names_hash(images):
        raise UserError(
            f"--resume: the pictures in {config['data']['source']} are not those the run began with "
            f"({config['data']['pictures']} then, {len(images)} now); put them back, or name a new --out"
        )


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
