"""One run from what was asked for to its report; the same for every task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from convnextv2.atomic import write_text_atomically
from convnextv2.engine import distributed, machine, runfolder
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.loop import fit
from convnextv2.engine.runlog import RunLog
from convnextv2.errors import ConvNeXtV2Error, StoppedError, UserError
from convnextv2.report import write_report
from convnextv2.runs.prepare import BAD_IMAGES, Prepared
from convnextv2.runs.settings import RunSettings, names

S = TypeVar("S", bound=RunSettings)

# How a run is watched and fed, not what it computes: these may differ when it is resumed.
_FREE_ON_RESUME = frozenset(
    {
        "resume", "config", "out", "device", "workers", "cache", "pictures", "max_bad_fraction",
        "checkpoint_minutes", "checkpoint_every",
    }
)  # fmt: skip

# What was worked out from another setting is worked out again when that one is given anew.
_FOLLOWS = {
    "minutes": frozenset({"epochs", "warmup_epochs", "log_every"}),
    "epochs": frozenset({"warmup_epochs", "log_every"}),
    "batch_size": frozenset({"lr", "micro_batch", "log_every"}),
}


@dataclass(frozen=True)
class Verb(Generic[S]):
    """What a task adds to a run.

    prepare: everything up to the first step.  follows: names of settings that are worked out again when another
    one is given besides a --config.  replaced: those of them that are, even if they had been named.  needs_data: what
    to say where no data was named.
    """

    name: str
    settings: type[S]
    prepare: Callable[[S, set[str], bool, DistributedContext, RunLog], Prepared]
    needs_data: str
    follows: Mapping[str, frozenset[str]] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RunResult:
    """run: the run's folder.  checkpoint: the folder of its last weights.  report: the page about it."""

    run: Path
    checkpoint: Path
    report: Path


def call(verb: Verb[S], data: str | Path | None, out: str | Path | None, settings: Mapping[str, Any]) -> RunResult:
    """A run from the arguments of a Python call. Raises UserError for one that the task does not have."""
    given: dict[str, Any] = dict(settings) | {
        name: value for name, value in (("data", data), ("out", out)) if value is not None
    }
    known = names(verb.settings)
    for name in given:
        if name not in known:
            raise UserError(f"{verb.name} has no setting {name!r}; it has {', '.join(known)}")
    return conduct(verb, verb.settings(**given), given=set(given))


def conduct(verb: Verb[S], asked: S, given: set[str]) -> RunResult:
    """Run or resume what the settings ask for.

    given: the names of the settings that the user named, even if with their default values.
    """
    if asked.out is None:
        raise UserError("say where the run goes: --out RUN, a new folder")
    context = distributed.init(asked.device)
    if context.device.type == "cpu":
        machine.keep_freed_memory()
    try:
        settings, resuming = context.broadcast(lambda: _take_up(verb, asked, given))
        assert settings.out is not None
        with runfolder.locked(settings.out, context), RunLog(settings.out, quiet=not context.is_main) as log:
            try:
                checkpoint = _train(verb, settings, given, resuming, context, log)
            except StoppedError as stopped:  # known to every process: none leaves before the main one is done
                log.note(str(stopped))
                _report(settings.out, context, log)
                raise
            except ConvNeXtV2Error as error:
                log.note(f"failed: {error}")
                _report(settings.out, context, log, alone=True)
                raise
            except BaseException:
                _report(settings.out, context, log, alone=True)
                raise
            report = _report(settings.out, context, log)
        return RunResult(settings.out, checkpoint, report)
    finally:
        context.close()


def _train(
    verb: Verb[S], settings: S, given: set[str], resuming: bool, context: DistributedContext, log: RunLog
) -> Path:
    prepared = verb.prepare(settings, given, resuming, context, log)
    try:
        checkpoint = fit(prepared.task, prepared.loop, log, context, resume=resuming)
        prepared.finish()
        return checkpoint
    finally:
        _note_bad_images(prepared, context, log)


def _note_bad_images(prepared: Prepared, context: DistributedContext, log: RunLog) -> None:
    """Count the files that could not be read, and keep their names so that a resumed run does not name them again."""
    bad = prepared.bad
    if context.is_main and len(bad):
        write_text_atomically(log.run / BAD_IMAGES, json.dumps(bad.state()))
        config = runfolder.read_config(log.run / "config.json")
        config["data"]["bad"] = len(bad)
        runfolder.write_config(log.run, config)
        log.say(f"{len(bad)} files could not be read and were skipped; {log.run / BAD_IMAGES} has their reasons")


def _take_up(verb: Verb[S], asked: S, given: set[str]) -> tuple[S, bool]:
    """The settings in force, and whether an earlier run goes on. Only the main process asks."""
    out = asked.out
    assert out is not None
    if asked.data is not None:
        asked = replace(asked, data=asked.data.resolve())
    values = {name: getattr(asked, name) for name in given}
    config = out / "config.json"
    if asked.resume and config.is_file():
        recorded, first_given = _recorded(verb, config)
        changed = [
            f"--{name.replace('_', '-')} was {before}, now {value}"
            for name, value in sorted(values.items())
            if name not in _FREE_ON_RESUME and (before := first_given.get(name, getattr(recorded, name))) != value
        ]
        if changed:
            raise UserError(f"--resume goes on with the run as it was: {'; '.join(changed)}. Name a new --out instead")
        return replace(recorded, **{name: values[name] for name in given & _FREE_ON_RESUME}), True
    if asked.config is not None:
        recorded, named = _recorded(verb, asked.config)
        rules = (_FOLLOWS.get(name, frozenset()) | verb.follows.get(name, frozenset()) for name in given)
        follows = frozenset().union(*rules)
        inherited: dict[str, Any] = {n: getattr(recorded, n) for n in names(verb.settings) if n not in follows}
        # What its user had named is not worked out again.
        dropped = verb.replaced | ({"epochs"} if "minutes" in given else set())
        kept: dict[str, Any] = {name: value for name, value in named.items() if name in follows - dropped}
        asked = verb.settings(**inherited | kept | values)
    if asked.data is None:
        raise UserError(verb.needs_data)
    runfolder.open_new(out, resume=asked.resume)
    return asked, False


def _recorded(verb: Verb[S], path: Path) -> tuple[S, dict[str, object]]:
    """The resolved settings in a run's config.json, and those that its user had named."""
    config = runfolder.read_config(path)
    if config.get("verb") != verb.name:
        raise UserError(f"{path} is of a run of `convnextv2 {config.get('verb')}`, not of {verb.name}")
    try:
        settings, first = config["settings"], verb.settings(**config["given"])
        return verb.settings(**settings), {name: getattr(first, name) for name in config["given"]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not the config.json of a {verb.name} run of this version ({error}); start a new run"
        ) from error


def _report(run: Path, context: DistributedContext, log: RunLog, *, alone: bool = False) -> Path:
    """The page about a run; nothing that goes wrong with it may hide how the run itself ended.

    alone: this process may be the only one to come here, so it waits for none.
    """
    page = run / "report.html"
    if context.is_main and (run / "config.json").is_file():
        try:
            log.say(f"report: {write_report(run)}")
        except Exception as error:
            log.say(f"no report could be written: {error}")
    elif context.is_main:
        runfolder.abandon(run)
    if not alone:
        context.barrier()
    return page
