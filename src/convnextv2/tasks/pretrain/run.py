"""A whole pre-training run, from settings to report."""

from __future__ import annotations

import dataclasses
import hashlib
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
from convnextv2.errors import ConvNeXtV2Error, Stopped, UserError
from convnextv2.models import create_model
from convnextv2.report import write_report
from convnextv2.tasks.pretrain import recipes
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.model_file import describe
from convnextv2.tasks.pretrain.recipes import Recipe
from convnextv2.tasks.pretrain.settings import NAMES, PretrainSettings
from convnextv2.tasks.pretrain.task import PretrainTask, min_side

_BAD_IMAGES = "bad_images.json"

# How a run is watched and fed, not what it computes: these may differ when it is resumed.
_FREE_ON_RESUME = {
    "resume", "config", "out", "device", "workers", "cache", "pictures", "max_bad_fraction",
    "checkpoint_minutes", "checkpoint_every",
}  # fmt: skip

# What was worked out from another setting is worked out again when that one is given anew.
_FOLLOWS = {
    "minutes": {"epochs", "warmup_epochs", "log_every"},
    "epochs": {"warmup_epochs", "log_every"},
    "batch_size": {"lr", "micro_batch", "log_every"},
    "recipe": {"epochs", "warmup_epochs", "batch_size", "micro_batch", "lr", "weight_decay", "log_every"},
}

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
    given = dict(settings) | {name: value for name, value in (("data", data), ("out", out)) if value is not None}
    for name in given:
        if name not in NAMES:
            raise UserError(f"pretrain has no setting {name!r}; it has {', '.join(NAMES)}")
    return run(PretrainSettings(**given), given=set(given))  # pyright: ignore[reportArgumentType]


def run(asked: PretrainSettings, given: set[str]) -> PretrainResult:
    """Run or resume what the settings ask for.

    given: the names of the settings that the user named, even if with their default values.
    """
    if asked.out is None:
        raise UserError("say where the run goes: --out RUN, a new folder")
    place = distributed.join(asked.device)
    try:
        settings, resuming = place.agree(lambda: _take_up(asked, given))
        assert settings.out is not None
        with runfolder.locked(settings.out, place), RunLog(settings.out, quiet=not place.is_main) as log:
            try:
                checkpoint = _train(settings, given, resuming, place, log)
            except Stopped as stopped:  # known to every process: none leaves before the main one is done
                log.note(str(stopped))
                _report(settings.out, place, log)
                raise
            except ConvNeXtV2Error as error:
                log.note(f"failed: {error}")
                _report(settings.out, place, log, alone=True)
                raise
            except BaseException:
                _report(settings.out, place, log, alone=True)
                raise
            report = _report(settings.out, place, log)
        return PretrainResult(settings.out, checkpoint, report)
    finally:
        place.leave()


def _train(settings: PretrainSettings, given: set[str], resuming: bool, place: Place, log: RunLog) -> Path:
    task, loop = _prepare(settings, given, resuming, place, log)
    try:
        return fit(task, loop, log, place, resume=resuming)
    finally:
        _note_bad_images(task, place, log)


def _note_bad_images(task: PretrainTask, place: Place, log: RunLog) -> None:
    """Count the files that could not be read, and keep their names so that a resumed run does not name them again."""
    if place.is_main and len(task.bad):
        write_text_atomically(log.run / _BAD_IMAGES, json.dumps(task.bad.state()))
        config = runfolder.read_config(log.run / "config.json")
        config["data"]["bad"] = len(task.bad)
        runfolder.write_config(log.run, config)
        log.say(f"{len(task.bad)} files could not be read and were skipped; {log.run / _BAD_IMAGES} has their reasons")


def _take_up(asked: PretrainSettings, given: set[str]) -> tuple[PretrainSettings, bool]:
    """The settings in force, and whether an earlier run goes on. Only the main process asks."""
    out = asked.out
    assert out is not None
    if asked.data is not None:
        asked = replace(asked, data=asked.data.resolve())
    values = {name: getattr(asked, name) for name in given}
    config = out / "config.json"
    if asked.resume and config.is_file():
        recorded, first_given = _recorded(config)
        changed = [
            f"--{name.replace('_', '-')} was {before}, now {value}"
            for name, value in sorted(values.items())
            if name not in _FREE_ON_RESUME and (before := first_given.get(name, getattr(recorded, name))) != value
        ]
        if changed:
            raise UserError(f"--resume goes on with the run as it was: {'; '.join(changed)}. Name a new --out instead")
        return replace(recorded, **{name: values[name] for name in given & _FREE_ON_RESUME}), True
    if asked.config is not None:
        recorded, _ = _recorded(asked.config)
        follows = set().union(*(_FOLLOWS.get(name, set()) for name in given))
        inherited = {name: getattr(recorded, name) for name in NAMES if name not in follows}
        asked = PretrainSettings(**inherited | values)  # pyright: ignore[reportArgumentType]
    if asked.data is None:
        raise UserError("say which pictures to learn from: --data DIR, a folder of pictures or a text file of paths")
    runfolder.open_new(out, resume=asked.resume)
    return asked, False


def _recorded(path: Path) -> tuple[PretrainSettings, dict[str, object]]:
    """The resolved settings in a run's config.json, and those that its user had named."""
    config = runfolder.read_config(path)
    try:
        settings, first = config["settings"], PretrainSettings(**config["given"])
        return PretrainSettings(**settings), {name: getattr(first, name) for name in config["given"]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not the config.json of a pre-training run of this version ({error})") from error


def _prepare(
    settings: PretrainSettings, given: set[str], resuming: bool, place: Place, log: RunLog
) -> tuple[PretrainTask, LoopSettings]:
    """Everything up to the first step: pictures, model, recipe, the estimate, config.json."""
    assert settings.data is not None
    assert settings.out is not None
    images = list_images(settings.data)
    ignored = ", ".join(f"{count} {kind or 'without extension'}" for kind, count in images.ignored.items())
    log.say(f"{len(images)} pictures in {settings.data}" + (f" (passed over: {ignored})" if ignored else ""))
    torch.manual_seed(settings.seed)
    model = build(settings)
    if resuming:
        _check_same_pictures(images, runfolder.read_config(settings.out / "config.json"))
    bad = BadImages(images, settings.max_bad_fraction, log.warn)
    known = settings.out / _BAD_IMAGES
    if resuming and known.is_file():
        bad.load(json.loads(known.read_text(encoding="utf-8")))
    cache = _cache(settings, images, place, log)
    if cache is not None:
        bad.add(cache.bad)

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
    rate = recipe.batch_size / seconds
    log.say(
        f"{settings.model}, {sum(p.numel() for p in model.encoder.parameters()):,} parameters, on {place.device}: "
        f"{loop.total_steps} steps, about {duration(seconds * loop.total_steps)} at {rate:.0f} images/s"
    )
    if place.is_main:
        fixed = {
            "epochs": int(recipe.epochs) if recipe.epochs == int(recipe.epochs) else recipe.epochs,
            "minutes": None,
            "batch_size": recipe.batch_size,
            "lr": recipe.lr,
        }
        fixed |= {"warmup_epochs": recipe.warmup_epochs, "weight_decay": recipe.weight_decay, "micro_batch": micro}
        resolved = replace(settings, **fixed, precision=kind, log_every=loop.log_every, resume=False, config=None)
        config = _config(resolved, model, images, chosen, place)
        config["given"] = {name: getattr(settings, name) for name in sorted(given)}
        runfolder.write_config(settings.out, config)
    return task, loop


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


def _report(run: Path, place: Place, log: RunLog, *, alone: bool = False) -> Path:
    """The page about a run; nothing that goes wrong with it may hide how the run itself ended.

    alone: this process may be the only one to come here, so it waits for none.
    """
    page = run / "report.html"
    if place.is_main and (run / "config.json").is_file():
        try:
            log.say(f"report: {write_report(run)}")
        except Exception as error:
            log.say(f"no report could be written: {error}")
    elif place.is_main:
        runfolder.abandon(run)
    if not alone:
        place.wait()
    return page


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
