"""The settings in force: as given, of a run that is resumed, or of another run's config.json."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from convnextv2.engine import runfolder
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
        "resume", "config", "out", "device", "threads", "workers", "cache", "pictures", "max_bad_fraction",
        "checkpoint_minutes", "checkpoint_every",
    }
)  # fmt: skip

# What was computed from another setting is computed again if that one is given anew.
_FOLLOWS = {
    "minutes": frozenset({"epochs", "warmup_epochs", "log_every"}),
    "epochs": frozenset({"warmup_epochs", "log_every"}),
    "batch_size": frozenset({"lr", "micro_batch", "log_every"}),
    "init": SHAPE | {"value_range"},
}


def settings_in_force(spec: TaskSpec[S], requested: S, given: set[str]) -> tuple[S, bool]:
    """Return the settings in force, and whether an earlier run is resumed; creates the folder of a new one.

    Raises UserError if a resumed run is given other settings, or the folder of a new one is not empty.
    """
    out = requested.out
    assert out is not None
    if requested.data is not None:
        requested = replace(requested, data=requested.data.resolve())
    if requested.init is not None:
        requested = replace(requested, init=absolute(requested.init))
    values = {name: getattr(requested, name) for name in given}
    config = out / "config.json"
    if requested.resume:
        _make_resumable(out)
    if requested.resume and config.is_file():
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
        return replace(recorded, **{name: values[name] for name in given & _FREE_ON_RESUME}), True
    if requested.config is not None:
        requested = _like(spec, requested.config, values)
    if requested.data is None:
        raise UserError(f"--resume: there is no run at {out}" if requested.resume else spec.needs_data)
    runfolder.open_new(out, resume=requested.resume)
    return requested, False


def _make_resumable(out: Path) -> None:
    """Check that what a run wrote is its own and belongs together; a config.json that was lost is restored.

    Raises UserError, and LoadError for a checkpoint that is damaged or holds parts of another, with what to type.
    """
    if out.is_dir():
        runfolder.refuse_links(out)
        if restored := runfolder.restore_config(out):
            warnings.warn(f"{out / 'config.json'} was lost: it is restored from {restored}", Notice, 2)
    config, checkpoint = out / "config.json", checkpoint_of(out)
    if config.is_file() and checkpoint is not None:
        run = runfolder.read_config(config).get("run")
        with advising(checkpoint, run):
            check(checkpoint, run)


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
