"""A whole pre-training run, from settings to report."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from convnextv2.checkpoints.files import write_text_atomically
from convnextv2.data.cache import PixelCache, decode_all
from convnextv2.data.folder import ImageList, list_images
from convnextv2.data.loader import BadImages
from convnextv2.engine import distributed, machine, precision, runfolder
from convnextv2.engine.distributed import Place
from convnextv2.engine.loop import LoopSettings, fit, seconds_per_step
from convnextv2.engine.runlog import RunLog, duration
from convnextv2.errors import ConvNeXtV2Error, UserError
from convnextv2.models import create_model
from convnextv2.report import write_report
from convnextv2.tasks.pretrain import recipes
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.model_file import describe
from convnextv2.tasks.pretrain.recipes import Recipe
from convnextv2.tasks.pretrain.settings import PretrainSettings
from convnextv2.tasks.pretrain.task import PretrainTask, min_side

_BAD_IMAGES = "bad_images.json"

# How a run is watched, not what it computes: these may differ when it is resumed.
_FREE_ON_RESUME = {"resume", "config", "out", "workers", "cache", "checkpoint_minutes", "checkpoint_every"}


Chosen = list[tuple[str, object, str]]
"""What was chosen for the user: name, value, why."""


@dataclass(frozen=True)
class PretrainResult:
    """run: the run's folder.  checkpoint: the folder of its last weights.  report: the page about it."""

    run: Path
    checkpoint: Path
    report: Path


def pretrain(data: str | Path | None = None, out: str | Path | None = None, **settings: Any) -> PretrainResult:
    """Pre-train a ConvNeXt with FCMAE on a folder of pictures, as `convnextv2 pretrain` does.

    data: a folder of pictures or a text file of paths.  out: a new folder for the run.
    settings: see `PretrainSettings`, by name.

    Raises UserError for a mistake in these, RunFailed where the run cannot go on (a loss that is not finite, too many
    broken files), Stopped after a signal, when all is saved.
    """
    paths = {"data": None if data is None else Path(data), "out": None if out is None else Path(out)}
    known = {field.name for field in dataclasses.fields(PretrainSettings)}
    for name in settings:
        if name not in known:
            raise UserError(f"pretrain has no setting {name!r}; it has {', '.join(sorted(known))}")
    return run(PretrainSettings(**paths, **settings))


def run(asked: PretrainSettings) -> PretrainResult:
    """Run or resume what the settings ask for."""
    if asked.out is None:
        raise UserError("say where the run goes: --out RUN, a new folder")
    place = distributed.join(asked.device)
    try:
        settings, resuming = _take_up(asked, place)
        assert settings.out is not None
        with RunLog(settings.out, quiet=not place.is_main) as log:
            try:
                task, loop = _prepare(settings, resuming, place, log)
                try:
                    checkpoint = fit(task, loop, settings.out, place, resume=resuming)
                finally:
                    _note_bad_images(task, settings.out, place, log)
            except ConvNeXtV2Error as error:
                log.note(str(error))
                raise
            finally:
                report = _report(settings.out, log) if place.is_main else settings.out / "report.html"
        return PretrainResult(settings.out, checkpoint, report)
    finally:
        place.leave()


def _note_bad_images(task: PretrainTask, run: Path, place: Place, log: RunLog) -> None:
    """Count the files that could not be read, and keep their names so that a resumed run does not name them again."""
    if place.is_main and len(task.bad):
        write_text_atomically(run / _BAD_IMAGES, json.dumps(task.bad.state()))
        log.say(f"{len(task.bad)} files could not be read and were skipped; {run / _BAD_IMAGES} has their reasons")


def _take_up(asked: PretrainSettings, place: Place) -> tuple[PretrainSettings, bool]:
    """The settings in force, and whether an earlier run goes on."""
    assert asked.out is not None
    config = asked.out / "config.json"
    if asked.resume and config.is_file():
        recorded = _recorded(config)
        changed = [
            f"--{name.replace('_', '-')} was {getattr(recorded, name)}, now {value}"
            for name, value in asked.given().items()
            if name not in _FREE_ON_RESUME and getattr(recorded, name) != value
        ]
        if changed:
            raise UserError(f"--resume goes on with the run as it was: {'; '.join(changed)}. Name a new --out instead")
        free = {name: value for name, value in asked.given().items() if name in _FREE_ON_RESUME}
        return replace(recorded, **free), True
    if asked.config is not None:
        inherited = _recorded(asked.config).given() | asked.given()
        if "epochs" in asked.given():
            inherited.pop("minutes", None)
        asked = PretrainSettings(**inherited)  # pyright: ignore[reportArgumentType]
    if asked.data is None:
        raise UserError("say which pictures to learn from: --data DIR, a folder of pictures or a text file of paths")
    if asked.resume and asked.out is not None and asked.out.is_dir() and any(asked.out.iterdir()):
        raise UserError(f"--resume: {asked.out} holds files but no config.json, so it is no run; name a new --out")
    if place.is_main:
        assert asked.out is not None
        runfolder.open_new(asked.out)
    return asked, False


def _recorded(path: Path) -> PretrainSettings:
    """The settings in another run's config.json."""
    settings = runfolder.read_config(path).get("settings", {})
    fields = {field.name for field in dataclasses.fields(PretrainSettings)}
    if not settings or set(settings) - fields:
        raise UserError(f"{path} is not the config.json of a pre-training run of this version")
    for name in ("data", "out", "config"):
        settings[name] = None if settings[name] is None else Path(settings[name])
    for name in ("depths", "dims"):
        settings[name] = None if settings[name] is None else tuple(settings[name])
    return PretrainSettings(**settings)


def _prepare(
    settings: PretrainSettings, resuming: bool, place: Place, log: RunLog
) -> tuple[PretrainTask, LoopSettings]:
    """Everything up to the first step: pictures, model, recipe, the estimate, config.json."""
    assert settings.data is not None
    assert settings.out is not None
    images = list_images(settings.data)
    ignored = ", ".join(f"{count} {kind or 'without extension'}" for kind, count in images.ignored.items())
    log.say(f"{len(images)} pictures in {settings.data}" + (f" (passed over: {ignored})" if ignored else ""))
    torch.manual_seed(settings.seed)
    model = build(settings)
    bad = BadImages(images, settings.max_bad_fraction, log.say)
    known = settings.out / _BAD_IMAGES
    if resuming and known.is_file():
        bad.load(json.loads(known.read_text(encoding="utf-8")))
    cache = _cache(settings, images, place, log)
    if cache is not None:
        bad.add(cache.bad)

    recipe, chosen = recipes.resolve(settings, len(images))
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
    workers = min(max(1, machine.processors() - 1), 8) if settings.workers is None else settings.workers
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
        epochs = round(steps / loop.steps_per_epoch, 2)
        recipe, chosen = _for_time(settings, recipe, epochs, chosen)
        loop = _loop_settings(settings, recipe, len(images), kind, loop.accumulate)
    for name, value, reason in chosen:
        log.say(f"  {name.replace('_', ' ')} {_short(value)} ({reason})")
    rate = recipe.batch_size / seconds
    log.say(
        f"{settings.model}, {sum(p.numel() for p in model.encoder.parameters()):,} parameters, on {place.device}: "
        f"{loop.total_steps} steps, about {duration(seconds * loop.total_steps)} at {rate:.0f} images/s"
    )
    if place.is_main:
        fixed = {"epochs": recipe.epochs, "minutes": None, "batch_size": recipe.batch_size, "lr": recipe.lr}
        fixed |= {"warmup_epochs": recipe.warmup_epochs, "weight_decay": recipe.weight_decay, "micro_batch": micro}
        resolved = replace(settings, **fixed, precision=kind, log_every=loop.log_every, resume=False, config=None)
        runfolder.write_config(settings.out, _config(resolved, model, images, chosen, place))
    return task, loop


def _for_time(settings: PretrainSettings, recipe: Recipe, epochs: float, chosen: Chosen) -> tuple[Recipe, Chosen]:
    """The recipe with as many epochs as fit into --minutes, and a warm-up to match."""
    recipe = replace(recipe, epochs=epochs)
    why = f"what fits into {settings.minutes:g} minutes"
    kept = [choice for choice in chosen if choice[0] != "warmup_epochs"]
    added: Chosen = [("epochs", epochs, why)]
    if settings.warmup_epochs is None:
        recipe = replace(recipe, warmup_epochs=round(epochs / 20, 3))
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
    budget = machine.free_bytes(torch.device("cpu")) // 4 // place.world_size
    cache = decode_all(
        images,
        channels=settings.in_chans,
        max_pixels=settings.max_pixels,
        min_side=min_side(settings.image_size),
        budget_bytes=budget,
        threads=machine.processors(),
        progress=None,
    )
    if cache is not None:
        log.say(f"decoded once into memory ({cache.nbytes / 2**20:.0f} MiB)")
    return cache


def _micro_batch(settings: PretrainSettings, model: FCMAE, recipe: Recipe, place: Place) -> int:
    share = max(1, recipe.batch_size // place.world_size)
    per_picture = model.activation_bytes(settings.image_size)
    free = int(place.mean([machine.free_bytes(place.device)])[0]) // (
        1 if place.device.type == "cuda" else place.world_size
    )
    return recipes.micro_batch(share, per_picture, free)


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
        "data": {"source": str(settings.data), "pictures": len(images), "passed_over": dict(images.ignored)},
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


def _report(run: Path, log: RunLog) -> Path:
    """The page about the run; a run that failed before its config.json was written has none."""
    if not (run / "config.json").is_file():
        runfolder.abandon(run)
        return run / "report.html"
    page = write_report(run)
    log.say(f"report: {page}")
    return page


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
