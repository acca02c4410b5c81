"""Puts the page together and writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from convnextv2.errors import UserError
from convnextv2.report import summary, words
from convnextv2.report.curves import Curve, Style, draw
from convnextv2.report.metrics import Metrics, Series
from convnextv2.report.pictures import galleries
from convnextv2.report.run_folder import RunFolder, read_run

REPORT = "report.html"
_LOSS_WIDE = Style(width=780, height=320, log=True)
_LOSS_NARROW = Style(width=350, height=260, log=True)
# Curves of names that this room does not know; a task that logs more has them in the table of numbers.
_MOST_OTHERS = 24


@dataclass(frozen=True)
class Plot:
    """One curve on the page; `narrow` is the drawing for a phone where the other would be too small."""

    title: str
    curve: Curve
    narrow: Curve | None = None


@dataclass(frozen=True)
class Recorded:
    """A row of the table of all recorded numbers."""

    name: str
    phase: str
    latest: str
    lowest: str = ""
    highest: str = ""


def write_report(run: Path) -> Path:
    """Writes `report.html` into the run folder `run` and gives back its path.

    The page is one file that opens offline. The run may be unfinished or have no metrics yet; the page is
    replaced whole, so a reader never meets half of one.

    Raises:
        UserError: `run` is no folder, has no readable `config.json`, or cannot be written to.
    """
    run = Path(run)
    html = _render(read_run(run))
    path = run / REPORT
    beside = run / f".{REPORT}.{os.getpid()}.tmp"
    try:
        beside.write_text(html, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return path


def _render(run: RunFolder) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(plain=words.plain, cell=words.cell, count=words.count)
    source = resources.files("convnextv2.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    # Undecodable bytes in file names must not keep the page from being written.
    html = environment.from_string(source).render(**_content(run))
    return html.encode("utf-8", errors="replace").decode("utf-8")


def _content(run: RunFolder) -> dict[str, Any]:
    title, subtitle = summary.headline(run)
    shown, unreadable = galleries(run.pictures)
    loss, main, others = _plots(run.metrics)
    return {
        "title": title,
        "subtitle": subtitle,
        "state": summary.state(run),
        "sentence": summary.sentence(run),
        "notices": summary.notices(run, unreadable),
        "table": run.table,
        "galleries": shown,
        "loss": loss,
        "pretraining": run.config.get("verb") == "pretrain",
        "plots": main,
        "others": others,
        "recorded": list(_recorded(run.metrics)),
        "chosen": _chosen(run.config.get("chosen")),
        "sections": _sections(run),
        "commands": summary.commands(run),
        "log": run.log,
        "warnings": run.warnings,
    }


def _plots(metrics: Metrics) -> tuple[Plot | None, list[Plot], list[Plot]]:
    """The loss; learning rate and throughput; every other name whose value changes over the run."""
    known = (
        ("lr", "Learning rate", Style(smooth=False)),
        ("images_per_second", "Images per second", Style(from_zero=True)),
    )
    loss, main, others = None, [], []
    train, evaluated = metrics.find("loss"), metrics.find("loss", "eval")
    if train is not None or evaluated is not None:
        wide, narrow = (draw(f"loss{s.width}", train, evaluated, s) for s in (_LOSS_WIDE, _LOSS_NARROW))
        loss = Plot("Loss", wide, narrow)
    for name, title, style in known:
        train = metrics.find(name)
        if train is not None:
            main.append(Plot(title, draw(name, train, metrics.find(name, "eval"), style)))
    done = {"loss", "lr", "images_per_second"}
    names = dict.fromkeys(s.name for s in metrics.series if s.phase != "end" and s.name not in done)
    for index, name in enumerate(names):
        train, evaluated = _changing(metrics.find(name)), _changing(metrics.find(name, "eval"))
        if (train is not None or evaluated is not None) and len(others) < _MOST_OTHERS:
            others.append(Plot(words.title(name), draw(f"other{index}", train, evaluated)))
    return loss, main, others


def _changing(series: Series | None) -> Series | None:
    """A value that never changes says more as a number than as a straight line."""
    return series if series is not None and series.values.min() < series.values.max() else None


def _recorded(metrics: Metrics) -> Iterator[Recorded]:
    for series in metrics.series:
        name, phase, values = series.name, series.phase, series.values
        if not len(values):
            yield Recorded(name, phase, "not a number")
        elif len(values) == 1:
            yield Recorded(name, phase, words.number(float(values[0])))
        else:
            numbers = (float(values[-1]), float(values.min()), float(values.max()))
            yield Recorded(name, phase, *map(words.number, numbers))
    for (phase, name), value in metrics.words.items():
        yield Recorded(name, phase, words.plain(value))


def _chosen(chosen: Any) -> list[tuple[str, Any, str]]:
    """What the automatic recipe chose and why; entries of another shape are left out."""
    if not isinstance(chosen, list):
        return []
    return [(str(c[0]), c[1], str(c[2])) for c in chosen if isinstance(c, list) and len(c) == 3]


def _sections(run: RunFolder) -> list[tuple[str, list[tuple[str, Any]]]]:
    """The tables of names and values from `config.json`, unknown parts of it included."""
    known = {"settings": "All settings", "data": "Data", "model": "Model"}
    known |= {"versions": "Versions", "machine": "Machine"}
    tables = [(title, list(_flat(run.section(name)))) for name, title in known.items()]
    rest = {name: value for name, value in run.config.items() if name not in {*known, "chosen"}}
    tables.append(("Run", list(_flat(rest))))
    return [(title, rows) for title, rows in tables if rows]


def _flat(part: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
