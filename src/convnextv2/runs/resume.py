"""The settings in force: as given, of a run that is resumed, or of another run's config.json."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from convnextv2.engine import new_folder, runfolder
from convnextv2.engine.launcher import launcher_started, restarts
from convnextv2.engine.parts import advising, check
from convnextv2.errors import Notice, UserError
from convnextv2.runs.settings import SHAPE, ModelSettings
from convnextv2.runs.spec import TaskSpec
from convnextv2.text import one_line, shown
from convnextv2.weights.files import checkpoint_of
from convnextv2.weights.init import absolute

S = TypeVar("S", bound=ModelSettings)

# How a run is watched and fed, not what it computes: these may differ when it is resumed.
_FREE_ON_RESUME = frozenset(
    {
        "resume", "auto_resume", "config", "out", "device", "timeout", "threads", "workers", "cache",
        "pictures", "max_bad_fraction", "checkpoint_minutes", "checkpoint_every",
        "data",  # the same images elsewhere: `images.take_images` proves it
    }
)  # fmt: skip

# What was computed from another setting is computed again if that one is given anew.
_FOLLOWS = {
    "minutes": frozenset({"epochs", "warmup_epochs", "log_every"}),
    "epochs": frozenset({"warmup_epochs", "log_every"}),
    "batch_size": frozenset({"lr", "micro_batch", "log_every"}),
    "init": SHAPE | {"value_range", "bands", "channels", "nodata", "stats", "show"},
    "stats": frozenset({"channels", "nodata"}),
    "bands": frozenset({"channels", "stats", "in_chans", "show"}),
    "channels": frozenset({"stats", "in_chans", "show"}),
}


def settings_in_force(spec: TaskSpec[S], requested: S, given: set[str], *, has_images: bool = False) -> tuple[S, bool]:
    """Return the settings in force, and whether an earlier run is resumed; creates the folder of a new one.

    has_images: whether the call gave the images themselves, so that there is no `data`.

    A run is resumed if that is requested, or if torchrun starts again what it started and the run is its own.

    Raises UserError if there is no run to resume, a resumed one is given other settings, or the folder of a new one is
    not empty.
    """
    out = requested.out
    assert out is not None
    if requested.data is not None:
        requested = replace(requested, data=requested.data.resolve())
    if requested.init is not None:
        requested = replace(requested, init=absolute(requested.init))
    values = {name: getattr(requested, name) for name in given}
    config = out / "config.json"
    resume = requested.resume or requested.auto_resume or _started_again(out)
    if resume:
        _make_resumable(out)
    if resume and config.is_file():
        recorded, first_given = _recorded(spec, config)
        if "init" in first_given:
            first_given["init"] = absolute(first_given["init"])
        changed = [
            f"--{name.replace('_', '-')} was {before}, now {value}"
            for name, value in sorted(values.items())
            if name not in _FREE_ON_RESUME and (before := first_given.get(name, getattr(recorded, name))) != value
        ]
        if changed:
            raise UserError(
                f"--resume continues the run as it was: {'; '.join(changed)}; name a new --out for another run"
            )
        recorded = replace(recorded, **{name: values[name] for name in given & _FREE_ON_RESUME})
        if has_images:
            return replace(recorded, data=None), True
        if recorded.data is None:
            raise UserError(
                "--resume: the images of this run were given from Python; resume it there, and give them again: "
                "`convnextv2.pretrain(images, out, resume=True)`"
            )
        if not recorded.data.exists():
            raise UserError(
                f"--resume: {shown(recorded.data)}, the data of the run, is not there; where it is now, say with --data"
            )
        return recorded, True
    if requested.resume and not new_folder.was_begun(out):
        raise UserError(
            f"--resume: there is no run at {out}; leave out --resume to start one, or name the --out of another "
            "(--auto-resume resumes a run if there is one, and starts it otherwise)"
        )
    if requested.config is not None:
        requested = _like(spec, requested.config, values)
    if requested.data is None and not has_images:
        ended = f"--resume: the run at {out} ended before its first step; " if requested.resume else ""
        raise UserError(ended + spec.needs_data)
    new_folder.open_new(out, resume=requested.resume)
    return requested, False


def _make_resumable(out: Path) -> None:
    """Check that what a run wrote is its own and belongs together; a config.json that was lost is restored.

    Raises UserError, and LoadError for a checkpoint that is damaged or holds parts of another, with what to type.
    """
    if out.is_dir():
        new_folder.refuse_links(out)
        if restored := runfolder.restore_config(out):
            warnings.warn(f"{out / 'config.json'} was lost: it is restored from {restored}", Notice, 2)
    config, checkpoint = out / "config.json", checkpoint_of(out)
    if config.is_file() and checkpoint is not None:
        run = runfolder.read_config(config).get("run")
        with advising(checkpoint, run):
            check(checkpoint, run)


def _started_again(out: Path) -> bool:
    """Whether torchrun starts the run at `out` again that it has started itself, as with `--max-restarts`.

    Its own count of restarts does not tell: it is 0 on the machines whose processes had not failed.

    Raises UserError if torchrun does start again, but a run is there that was begun before torchrun was.
    """
    config = out / "config.json"
    launched = launcher_started()
    if launched is None or not config.is_file():
        return False
    begun = str(runfolder.read_config(config).get("started"))
    with contextlib.suppress(ValueError):
        if datetime.fromisoformat(begun).timestamp() + 2 >= launched:
            return True
    if restarts():
        raise UserError(
            f"torchrun starts this command again, but the run at {out} was there before it ({begun}): add --resume or "
            "--auto-resume to continue that run, or name a new --out"
        )
    return False


def _like(spec: TaskSpec[S], config: Path, values: dict[str, Any]) -> S:
    """The settings of another run, with `values` in place of its own and without what was computed from them."""
    recorded, named = _recorded(spec, config, edited=True)
    rules = (_FOLLOWS.get(name, frozenset()) | spec.follows.get(name, frozenset()) for name in values)
    follows = frozenset().union(*rules)
    inherited = {name: getattr(recorded, name) for name in spec.settings.names() if name not in follows}
    # What its user had given is not computed again.
    dropped = spec.replaced | SHAPE | ({"epochs"} if "minutes" in values else set())
    kept = {name: value for name, value in named.items() if name in follows - dropped}
    return spec.settings(**inherited | kept | values)


def _recorded(spec: TaskSpec[S], path: Path, *, edited: bool = False) -> tuple[S, dict[str, Any]]:
    """The resolved settings in a run's config.json, and those that its user had given."""
    config = runfolder.read_config(path, edited=edited)
    if config.get("verb") != spec.verb:
        raise UserError(f"{path} is of a run of `convnextv2 {shown(str(config.get('verb')))[:40]}`, not of {spec.verb}")
    try:
        settings, first = config["settings"], spec.settings(**config["given"])
        return spec.settings(**settings), {name: getattr(first, name) for name in config["given"]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not the config.json of a {spec.verb} run of this version ({shown(one_line(error))}): "
            "start a new run"
        ) from error
