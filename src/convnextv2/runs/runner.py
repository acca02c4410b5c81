"""One run, from its settings to its report; the same for every task."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

from convnextv2 import notebook
from convnextv2.atomic import write_text_atomically
from convnextv2.data.files.folder import ImageList
from convnextv2.engine import distributed, machine, precision, runfolder
from convnextv2.engine.loop import fit
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.engine.runlog import RunLog, duration, speed
from convnextv2.engine.signals import Interrupted, stoppable
from convnextv2.engine.task import Task
from convnextv2.errors import ConvNeXtV2Error, StoppedError, UserError, command_line
from convnextv2.report import write_report
from convnextv2.runs import pace, portions
from convnextv2.runs.images import BAD_IMAGES, sample
from convnextv2.runs.input import STATISTICS
from convnextv2.runs.resume import settings_in_force
from convnextv2.runs.settings import ModelSettings
from convnextv2.runs.spec import TaskSpec
from convnextv2.runs.task_run import Chosen, TaskRun
from convnextv2.settings import StrPath, make
from convnextv2.weights.files import checkpoint_of
from convnextv2.weights.init import absolute

S = TypeVar("S", bound=ModelSettings)


@dataclass(frozen=True)
class RunResult:
    """run: the run's folder.  checkpoint: the folder of its last weights.  report: the page about it."""

    run: Path
    checkpoint: Path
    report: Path

    def _repr_html_(self) -> str:
        """What a notebook shows: where things are, and the newest picture."""
        places = [("checkpoint", str(self.checkpoint)), ("report", str(self.report))]
        drawn = sorted((self.run / "pictures").glob("*.png"), key=lambda file: file.stat().st_mtime)
        return notebook.table(["", str(self.run)], places) + notebook.pictures(drawn[-1:])


def call(
    spec: TaskSpec[S],
    data: StrPath | None,
    out: StrPath | None,
    settings: Mapping[str, Any],
    images: ImageList | None = None,
) -> RunResult:
    """Run a task from the arguments of a Python call.  images: to train on, in place of `data`.

    Raises UserError for a setting that the task does not have.
    """
    given = dict(settings) | {name: value for name, value in (("data", data), ("out", out)) if value is not None}
    return run_task(spec, make(spec.settings, spec.verb, given), given=set(given), images=images)


def run_task(spec: TaskSpec[S], requested: S, given: set[str], images: ImageList | None = None) -> RunResult:
    """Start or resume the run that the settings request.

    given: the names of the settings that the user gave, even if with their default values.  images: as for `call`.

    Raises UserError for a mistake in these, RunFailedError if the run cannot go on, StoppedError after a signal, when
    everything is saved.
    """
    if requested.out is None:
        raise UserError("give a folder for the run: --out RUN, a new folder")
    with stoppable(at_once=True):
        try:
            return _run(spec, requested, given, images)
        except Interrupted as stop:
            raise _stopped(stop.signal, requested.out) from None


def _run(spec: TaskSpec[S], requested: S, given: set[str], images: ImageList | None) -> RunResult:
    context = distributed.init(requested.device, minutes=requested.timeout)
    if context.device.type == "cpu":
        machine.keep_freed_memory()
    try:
        settings, resuming = context.broadcast(
            lambda: settings_in_force(spec, requested, given, has_images=images is not None)
        )
        assert settings.out is not None
        with runfolder.locked(settings.out, context), RunLog(settings.out, quiet=not context.is_main) as log:
            if resuming and not (requested.resume or requested.auto_resume):
                log.say("torchrun has started this run again: it goes on from its newest checkpoint")
            run = spec.run(spec.kind, settings, context, log, resuming=resuming, images=images)
            try:
                checkpoint = _train(spec, run, given)
            except StoppedError as stopped:  # known to every process: none leaves before the main one is done
                log.note(str(stopped))
                _report(run)
                raise
            except Interrupted as stop:
                log.note(str(_stopped(stop.signal, settings.out)))
                _report(run, alone=True)
                raise
            except ConvNeXtV2Error as error:
                log.note(f"failed: {error}")
                _report(run, alone=True)
                raise
            except BaseException:
                _report(run, alone=True)
                raise
            return RunResult(settings.out, checkpoint, _report(run))
    finally:
        context.close()


def _stopped(signal: int, run: Path) -> StoppedError:
    """What to say of a run that was stopped outside of its training, where nothing new is to be saved."""
    saved = checkpoint_of(run)
    if saved is None and not (run / "config.json").is_file():
        return StoppedError(signal, None, "nothing is kept: the same command without --resume begins anew")
    return StoppedError(signal, saved, "continue with --resume" + ("" if saved else ", which begins there"))


def _train(spec: TaskSpec[S], run: TaskRun[S], given: set[str]) -> Path:
    run.prepare()
    task, loop = _plan(spec, run, given)
    try:
        checkpoint = fit(task, loop, run.log, run.context, resume=run.resuming)
        run.finish(loop)
        return checkpoint
    finally:
        _note_bad_images(run)


def _plan(spec: TaskSpec[S], run: TaskRun[S], given: set[str]) -> tuple[Task, LoopSettings]:
    """Cut the batch into portions, estimate the time, log what was chosen, and write config.json."""
    settings, context, log, recipe = run.settings, run.context, run.log, run.recipe
    arithmetic, why = precision.resolve(settings.precision, context.device)
    chosen: Chosen = [*run.chosen, *([("precision", arithmetic, why)] if settings.precision == "auto" else [])]
    micro = settings.micro_batch
    if (micro or recipe.batch_size // context.world_size) < run.least_micro_batch:
        raise UserError(run.least_micro_batch_why)
    if micro is None:
        micro = portions.micro_batch(run, arithmetic)
        chosen.append(("micro_batch", micro, "what fits into half of the free memory"))
    if isinstance(settings.threads, int):
        torch.set_num_threads(settings.threads)
    workers = settings.workers
    if workers is None:
        workers = min(max(1, context.local_share(machine.processors()) - 1), 8)
    task = run.make_task(workers)
    accumulate = portions.accumulation(recipe.batch_size, micro, context)
    loop = portions.loop_settings(run, recipe, arithmetic, accumulate)
    if run.resuming:
        _refresh_report(run)
        return task, loop
    task, seconds, fastest = pace.measure(run, task, loop, workers)
    chosen += fastest
    if settings.minutes is not None:
        steps = max(1, int(settings.minutes * 60 / seconds))
        recipe, chosen = portions.for_time(settings, recipe, steps / loop.steps_per_epoch, chosen)
        loop = portions.loop_settings(run, recipe, arithmetic, accumulate)
    loop = replace(loop, planned_seconds=seconds * loop.total_steps)
    advice = run.advise(loop, seconds)
    for name, value, reason in chosen:
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        log.say(f"  {name.replace('_', ' ')} {shown} ({reason})")
    log.say(
        f"{run.architecture.title}, {run.parameters():,} parameters, on {context.device}: {loop.total_steps} steps, "
        f"about {duration(loop.planned_seconds)} at {speed(recipe.batch_size / seconds)}"
    )
    for line in advice:
        log.say(f"note: {line}")
    if context.is_main:
        decided = {"micro_batch": micro, "precision": arithmetic, "log_every": loop.log_every}
        decided |= {name: value for name, value, _ in fastest}
        config = _config(spec, run, _resolved(run, recipe, decided), chosen)
        config["advice"] = advice
        config["given"] = {name: getattr(settings, name) for name in sorted(given)}
        runfolder.write_config(log.run, config)
    return task, loop


def _resolved(run: TaskRun[S], recipe: Any, decided: dict[str, Any]) -> S:
    """The settings with everything that was chosen written in, so that they alone start the run again."""
    settings = run.settings
    known = settings.names()
    chosen: dict[str, Any] = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe) if f.name in known}
    chosen["epochs"] = int(recipe.epochs) if recipe.epochs == int(recipe.epochs) else recipe.epochs
    chosen |= {"minutes": None, "resume": False, "auto_resume": False, "config": None}
    chosen |= run.architecture.to_dict() | {"image_size": run.image_size}
    chosen |= {"value_range": run.preprocessing.value_range}
    if (bands := run.preprocessing.bands) is not None:
        chosen |= {"bands": bands.files or None, "channels": tuple(str(band + 1) for band in bands.channels)}
        chosen |= {"show": tuple(str(bands.channels[each] + 1) for each in bands.show) or None}
        made = run.log.run / STATISTICS
        chosen |= {"nodata": bands.nodata, "stats": str(made.resolve()) if made.is_file() else settings.stats}
    chosen |= {"init": absolute(settings.init_source) or settings.init}
    return replace(settings, **chosen | run.resolved() | decided)


def _config(spec: TaskSpec[S], run: TaskRun[S], settings: S, chosen: Chosen) -> dict[str, Any]:
    data, context = run.data, run.context
    return {
        "run": secrets.token_hex(8),
        "verb": spec.verb,
        "settings": dataclasses.asdict(settings),
        "chosen": chosen,
        "data": {
            "source": str(run.source),
            "pictures": len(data.images),
            "fingerprint": data.fingerprint,
            "samples": [sample(images) for images in data.lists],
            **data.about,
        },
        "model": {
            "name": run.architecture.name,
            "parameters": run.parameters(),
            **run.about_model(),
            **run.origin(),
        },
        "report": dataclasses.asdict(run.description()),
        "versions": machine.versions(),
        "machine": {**machine.describe(context.device), "processes": context.world_size},
        "command": command_line(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _refresh_report(run: TaskRun[S]) -> None:
    """Replace the texts of a resumed run's page by those of this version of the task."""
    if run.context.is_main:
        config = runfolder.read_config(run.log.run / "config.json")
        config["report"] = dataclasses.asdict(run.description())
        runfolder.write_config(run.log.run, config)


def _note_bad_images(run: TaskRun[S]) -> None:
    """Count the files that could not be read, and keep their names so that a resumed run does not log them again."""
    bad, log = run.bad, run.log
    if run.context.is_main and len(bad):
        write_text_atomically(log.run / BAD_IMAGES, json.dumps(bad.state()))
        with suppress(UserError):  # edited meanwhile: that is said when the run is resumed
            config = runfolder.read_config(log.run / "config.json")
            config["data"]["bad"] = len(bad)
            runfolder.write_config(log.run, config)
        log.say(f"{len(bad)} files could not be read and were skipped; {log.run / BAD_IMAGES} has their reasons")


def _report(run: TaskRun[S], *, alone: bool = False) -> Path:
    """Write the page about a run; nothing that goes wrong with it may hide how the run itself ended.

    alone: this process may be the only one that gets here, so it does not wait for others.
    """
    folder, context, log = run.log.run, run.context, run.log
    page = folder / "report.html"
    if context.is_main and (folder / "config.json").is_file():
        try:
            log.say(f"report: {write_report(folder)}")
        except Exception as error:
            log.say(f"no report could be written: {error}")
    elif context.is_main:
        runfolder.abandon(folder)
    if not alone:
        context.barrier()
    return page
