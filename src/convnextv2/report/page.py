"""Put the page together and write it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from convnextv2 import seal
from convnextv2.atomic import write_text_atomically
from convnextv2.errors import RunFailedError, UserError
from convnextv2.report import summary, words
from convnextv2.report.data import TOLD, labelled
from convnextv2.report.description import describe
from convnextv2.report.images import galleries
from convnextv2.report.metrics import Metrics
from convnextv2.report.plots import plots
from convnextv2.report.run_folder import RunFolder, read_run
from convnextv2.report.verdict import learned_something
from convnextv2.text import one_line, printable_lines

REPORT = "report.html"


@dataclass(frozen=True)
class Recorded:
    """A row of the table of all recorded numbers."""

    name: str
    phase: str
    latest: str
    lowest: str = ""
    highest: str = ""


def write_report(run: Path) -> Path:
    """Write `report.html` into the run folder `run`, and return its path.

    The page is one file that opens offline. The run may be unfinished or have no metrics yet; the page is
    replaced whole, so a reader never sees half of one.

    Raises UserError if `run` is not a folder, has no readable `config.json`, or cannot be written to.
    """
    run = Path(run)
    html = _render(read_run(run))
    path = run / REPORT
    try:
        write_text_atomically(path, html)
    except RunFailedError as error:
        cause = error.__cause__
        said = cause.strerror if isinstance(cause, OSError) else one_line(error)
        raise UserError(f"{path} cannot be written: {said}") from error
    return path


def _render(run: RunFolder) -> str:
    environment = Environment(
        loader=PackageLoader("convnextv2.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable_lines(value) if type(value) is str else value,  # not what is HTML already
    )
    environment.filters.update(plain=words.plain, cell=words.cell, count=words.count, fold=words.fold)
    # Undecodable bytes in file names must not keep the page from being written.
    html = environment.get_template("page.html.j2").render(**_content(run))
    return html.encode("utf-8", errors="replace").decode("utf-8")


def _content(run: RunFolder) -> dict[str, Any]:
    said = describe(run)
    title, subtitle = summary.headline(run, said)
    shown, unreadable = galleries(run.images, list(said.samples))
    return {
        "title": title,
        "subtitle": subtitle,
        "state": summary.state(run),
        # Without a score, a run that was told that it is too short is not called a success.
        "doubtful": learned_something(run, said) is False or bool(run.advice and not said.primary),
        "sentence": summary.sentence(run, said),
        "notices": summary.notices(run, said, unreadable),
        "tables": run.tables,
        "galleries": shown,
        "samples": said.samples,
        "plots": plots(run.metrics, said),
        "about_loss": said.loss,
        "recorded": list(_recorded(run.metrics)),
        "labelled": labelled(run.section("data")),
        "chosen": _chosen(run.config.get("chosen")),
        "sections": _sections(run),
        "commands": summary.commands(run, said),
        "log": run.log,
        "warnings": run.warnings,
    }


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
    parts = {title: run.section(name) for name, title in known.items()}
    if labelled(parts["Data"]):
        parts["Data"] = {name: value for name, value in parts["Data"].items() if name not in TOLD}
    tables = [(title, list(_flat(part))) for title, part in parts.items()]
    rest = {name: value for name, value in run.config.items() if name not in {*known, "chosen", "report", seal.KEY}}
    tables.append(("Run", list(_flat(rest))))
    return [(title, rows) for title, rows in tables if rows]


def _flat(part: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
