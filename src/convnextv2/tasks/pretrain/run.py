"""A whole pre-training run, from settings to report."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convnextv2.checkpoints.files import write_text_atomically
from convnextv2.engine import distributed, runfolder
from convnextv2.engine.distributed import Place
from convnextv2.engine.loop import fit
from convnextv2.engine.runlog import RunLog
from convnextv2.errors import ConvNeXtV2Error, Stopped, UserError
from convnextv2.report import write_report
from convnextv2.tasks.pretrain.prepare import BAD_IMAGES, prepare
from convnextv2.tasks.pretrain.settings import NAMES, PretrainSettings
from convnextv2.tasks.pretrain.task import PretrainTask

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
    task, loop = prepare(settings, given, resuming, place, log)
    try:
        return fit(task, loop, log, place, resume=resuming)
    finally:
        _note_bad_images(task, place, log)


def _note_bad_images(task: PretrainTask, place: Place, log: RunLog) -> None:
    """Count the files that could not be read, and keep their names so that a resumed run does not name them again."""
    if place.is_main and len(task.bad):
        write_text_atomically(log.run / BAD_IMAGES, json.dumps(task.bad.state()))
        config = runfolder.read_config(log.run / "config.json")
        config["data"]["bad"] = len(task.bad)
        runfolder.write_config(log.run, config)
        log.say(f"{len(task.bad)} files could not be read and were skipped; {log.run / BAD_IMAGES} has their reasons")


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
