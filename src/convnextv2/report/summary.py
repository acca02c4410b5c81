"""The run in words: what state it is in, its key numbers, what to worry about, how to go on."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from convnextv2.report.run_folder import RunFolder
from convnextv2.report.words import count, date, duration, number

# A step of the largest model on a slow machine, with its checkpoint, still takes less than this.
QUIET_SECONDS = 15 * 60


@dataclass(frozen=True)
class Command:
    """A line to type and what it does."""

    line: str
    purpose: str


def state(run: RunFolder) -> str:
    """`finished`, `running`, `stopped` or `failed`, as far as the files tell."""
    if run.metrics.end is not None:
        said = run.metrics.end.get("state")
        return said if said in {"finished", "running", "stopped"} else "finished"
    # A resumed run logs on below the line with which it was stopped.
    if any("stopped by SIG" in line for line in run.log[-3:]):
        return "stopped"
    if any(" failed: " in line for line in run.log[-3:]):
        return "failed"
    return "running" if time.time() - run.touched < QUIET_SECONDS else "stopped"


def headline(run: RunFolder) -> tuple[str, str]:
    """The page's title and the line under it."""
    verb = str(run.config.get("verb") or "run")
    model = str(run.section("model").get("name") or "unnamed model")
    parts = [f"Data: {source}" for source in [run.section("data").get("source")] if source]
    started = run.config.get("started")
    if started:
        parts.append(f"started {date(started)}")
    return f"{verb} {model}", ", ".join(parts)


def sentence(run: RunFolder) -> str:
    """The run in one line of words and numbers."""
    state_now = state(run)
    opening = {"finished": "Finished", "running": "Running", "stopped": "Stopped", "failed": "Failed"}[state_now]
    pictures = run.section("data").get("pictures")
    on = f" on {count(pictures, 'picture')}" if _is_count(pictures) else ""
    if not run.metrics.step and not run.metrics.series:
        return f"{opening}{on}: no training step has been recorded yet."
    return f"{opening}{on}: {', '.join(_progress(run) + _measured(run))}{_remaining(run, state_now)}."


def _progress(run: RunFolder) -> list[str]:
    parts = []
    epochs = run.section("settings").get("epochs")
    if math.isfinite(run.metrics.epoch):
        done = f"{run.metrics.epoch:,.2f}".rstrip("0").rstrip(".")
        finished = _is_count(epochs) and run.metrics.epoch >= epochs
        of = f" of {epochs:,}" if _is_count(epochs) and not finished else ""
        parts.append(f"{done}{of} epoch{'' if done == '1' and not of else 's'}")
    return [*parts, count(run.metrics.step, "step")]


def _measured(run: RunFolder) -> list[str]:
    end = run.metrics.end or {}
    parts = []
    loss = run.metrics.find("loss")
    if _is_number(end.get("loss")):
        parts.append(f"final loss {number(end['loss'])}")
    elif loss is not None:
        # One batch's loss is noisy; the average of the last fiftieth is what the curve ends at.
        recent = loss.values[-max(1, len(loss.values) // 50) :]
        parts.append(f"loss {number(float(recent.mean()))}")
    speed = run.metrics.find("images_per_second")
    if _is_number(end.get("images_per_second")):
        parts.append(f"{number(end['images_per_second'])} images per second")
    elif speed is not None:
        parts.append(f"{number(float(np.median(speed.values)))} images per second")
    seconds = end["hours"] * 3600 if _is_number(end.get("hours")) else run.metrics.seconds
    if math.isfinite(seconds):
        parts.append(duration(seconds))
    return parts


def _remaining(run: RunFolder, state_now: str) -> str:
    epochs, done, seconds = run.section("settings").get("epochs"), run.metrics.epoch, run.metrics.seconds
    if state_now != "running" or not _is_count(epochs) or not 0 < done < epochs or not seconds > 0:
        return ""
    return f"; about {duration(seconds / done * (epochs - done))} to go"


def notices(run: RunFolder, unreadable_pictures: list[str]) -> list[str]:
    """What a reader should know before believing the rest."""
    found = list(run.notices)
    bad = run.section("data").get("bad")
    if _is_count(bad) and bad:
        found.append(f"{count(bad, 'file')} of the data could not be read as a picture and took no part.")
    for series in run.metrics.series:
        if series.lost:
            lost = count(series.lost, "value")
            found.append(f"{lost} of {series.name} ({series.phase}) not finite (NaN or infinite), not drawn.")
    if unreadable_pictures:
        found.append(f"Not readable as a picture, left out: {', '.join(unreadable_pictures)}.")
    return found


def commands(run: RunFolder) -> list[Command]:
    """How to go on, with this run's own path."""
    verb = str(run.config.get("verb") or "pretrain")
    path = shlex.quote(str(run.path))
    resume = Command(
        f"convnextv2 {shlex.quote(verb)} ... --out {path} --resume",
        "Go on from the newest checkpoint: the command that started the run (... stands for the rest of it) "
        "with --resume added.",
    )
    use = []
    if verb == "pretrain":
        use = [
            Command(
                f"convnextv2 embed --run {path} DIR --out features.npy",
                "One feature vector for each picture in the folder DIR.",
            ),
            Command(
                f"convnextv2 reconstruct --run {path} IMAGE",
                "Hide most of a picture of your own and see what the model makes of the rest.",
            ),
        ]
    return [*use, resume] if state(run) == "finished" else [resume, *use]


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
