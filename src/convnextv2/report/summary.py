"""The run in words: its state, its key numbers, warnings, and next steps."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import dataclass

import numpy as np

from convnextv2.report.description import Description
from convnextv2.report.run_folder import RunFolder, is_count, is_number
from convnextv2.report.verdict import Result, comparison, learned_something, recent_loss, result, validation
from convnextv2.report.words import count, date, duration, number, percent

# A step of the largest model on a slow machine, with its checkpoint, still takes less than this.
QUIET_SECONDS = 15 * 60


@dataclass(frozen=True)
class Command:
    """A line to type and what it does."""

    line: str
    purpose: str


def state(run: RunFolder) -> str:
    """Return `finished`, `running`, `stopped` or `failed`, as far as the files tell."""
    if run.metrics.end is not None:
        said = run.metrics.end.get("state")
        return said if said in {"finished", "running", "stopped"} else "finished"
    # A resumed run logs on below the line with which it was stopped.
    if any("stopped by SIG" in line for line in run.log[-3:]):
        return "stopped"
    if any(" failed: " in line for line in run.log[-3:]):
        return "failed"
    return "running" if time.time() - run.touched < QUIET_SECONDS else "stopped"


def headline(run: RunFolder, said: Description) -> tuple[str, str]:
    """Return the page's title and the line under it."""
    model = str(run.section("model").get("name") or "unnamed model")
    title = said.headline or f"{run.verb or 'run'} {model}"
    parts = [f"Data: {source}" for source in [run.section("data").get("source")] if source]
    started = run.config.get("started")
    if started:
        parts.append(f"started {date(started)}")
    return title, ", ".join(parts)


def sentence(run: RunFolder, said: Description) -> str:
    """Describe the run in a line of words and numbers; with a primary metric in two or three sentences."""
    state_now = state(run)
    opening, begun = state_now.capitalize(), bool(run.metrics.step or run.metrics.series)
    if said.primary:
        learns = f" {said.learns}" if said.learns else ""
        what = f"{opening}: {'trained' if state_now == 'finished' else 'training'}{learns}."
        if not begun:
            return f"{what} No training step has been recorded yet."
        passed = ", ".join([*_progress(run), *_pace(run)])
        amount = "In all" if state_now == "finished" else "So far"
        return " ".join([what, *_results(run, said), f"{amount}: {passed}{_remaining(run, state_now)}."])
    images = run.section("data").get("pictures")
    on = f" {said.learns}" if said.learns else f" on {count(images, 'image')}" if is_count(images) else ""
    if not begun:
        return f"{opening}{on}: no training step has been recorded yet."
    return f"{opening}{on}: {', '.join([*_progress(run), *_loss(run), *_pace(run)])}{_remaining(run, state_now)}."


def _results(run: RunFolder, said: Description) -> list[str]:
    """The best validation value of the primary metric so far and when it was reached, and that of the test images."""
    name = said.primary
    known = said.metrics.get(name)
    title, parts = known.title if known else name, []
    series, best, test = validation(run, said), result(run, said, "val"), result(run, said, "test")
    if series is not None and best is not None:
        at = int(series.values.argmax())  # of equals the first, as the run itself chooses
        epoch, weights = float(series.epoch[at]), "" if series.name == name else " with averaged weights"
        when = f"epoch {number(round(epoch, 1))}" if math.isfinite(epoch) else f"step {series.step[at]:,.0f}"
        parts.append(f"Best validation {title} {_value(best, said)}{weights}, at {when}")
    if test is not None:
        parts.append(f"{'' if parts else f'{said.title(name)} '}{_value(test, said)} on the test images")
    return [f"{'; '.join(parts)}.", *filter(None, [comparison(run, said)])] if parts else []


def _value(found: Result, said: Description) -> str:
    if not said.percent(said.primary):
        return number(found.value)
    if found.low is None or found.high is None:
        return percent(found.value)
    return f"{percent(found.value)} ({100 * found.low:.1f} to {100 * found.high:.1f} %)"


def _progress(run: RunFolder) -> list[str]:
    parts = []
    epochs = run.section("settings").get("epochs")
    if math.isfinite(run.metrics.epoch):
        done = f"{run.metrics.epoch:,.2f}".rstrip("0").rstrip(".")
        finished = is_count(epochs) and run.metrics.epoch >= epochs
        of = f" of {epochs:,}" if is_count(epochs) and not finished else ""
        parts.append(f"{done}{of} epoch{'' if done == '1' and not of else 's'}")
    return [*parts, count(run.metrics.step, "step")]


def _loss(run: RunFolder) -> list[str]:
    end, recent = run.metrics.end or {}, recent_loss(run)
    if is_number(end.get("loss")):
        return [f"final loss {number(end['loss'])}"]
    return [] if recent is None else [f"loss {number(recent)}"]


def _pace(run: RunFolder) -> list[str]:
    end = run.metrics.end or {}
    parts = []
    speed = run.metrics.find("images_per_second")
    if is_number(end.get("images_per_second")):
        parts.append(f"{number(end['images_per_second'])} images per second")
    elif speed is not None:
        parts.append(f"{number(float(np.median(speed.values)))} images per second")
    seconds = end["hours"] * 3600 if is_number(end.get("hours")) else run.metrics.seconds
    if math.isfinite(seconds):
        parts.append(duration(seconds))
    return parts


def _remaining(run: RunFolder, state_now: str) -> str:
    epochs, done, seconds = run.section("settings").get("epochs"), run.metrics.epoch, run.metrics.seconds
    if state_now != "running" or not is_count(epochs) or not 0 < done < epochs or not seconds > 0:
        return ""
    return f"; about {duration(seconds / done * (epochs - done))} to go"


def notices(run: RunFolder, said: Description, unreadable: list[str]) -> list[str]:
    """Return what a reader should know before trusting the rest."""
    found = list(run.notices)
    if state(run) == "finished" and learned_something(run, said) is False:
        reasons = (
            "too few steps, labels that do not belong to their images, a learning rate that is too high."
            if said.primary
            else "too few steps or too few images. Train longer, add images, or start from published weights (--init)."
        )
        found.append(f"This run has learned nothing that its numbers can show. Usual reasons: {reasons}")
    found += run.advice
    bad = run.section("data").get("bad")
    if is_count(bad) and bad:
        found.append(f"{count(bad, 'file')} of the data could not be read as an image: left out.")
    for series in run.metrics.series:
        if series.lost:
            lost = count(series.lost, "value")
            found.append(f"{lost} of {series.name} ({series.phase}) not finite (NaN or infinite), not drawn.")
    if unreadable:
        found.append(f"Not readable as an image, left out: {', '.join(unreadable)}.")
    return found


def commands(run: RunFolder, said: Description) -> list[Command]:
    """Return the commands of the next steps, with this run's own path."""
    path = shlex.quote(str(run.path))
    use = [Command(line.replace("{run}", path), purpose) for line, purpose in said.commands]
    resume = Command(
        f"convnextv2 {shlex.quote(run.verb or 'VERB')} --out {path} --resume",
        "Resume from the newest checkpoint, with the settings that the run began with.",
    )
    return [*use, resume] if state(run) == "finished" else [resume, *use]
