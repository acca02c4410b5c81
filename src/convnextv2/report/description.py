"""A task's description of its run, from config.json; a run without one gets a plain page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from convnextv2.report.run_folder import RunFolder, is_count, is_number
from convnextv2.report.words import title


@dataclass(frozen=True)
class Metric:
    """title: its name on the page.  percent: a share, 0 to 1.  description: a sentence or two."""

    title: str
    percent: bool = False
    description: str = ""


@dataclass(frozen=True)
class Sample:
    """What a kind of sample image shows.  caption: paragraphs.  columns: names above its columns."""

    caption: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """What a model that learned nothing would score.  images: measured on so many; 0 if not known."""

    value: float
    images: int = 0
    description: str = ""


@dataclass(frozen=True)
class Description:
    """The entries of `records.RunDescription` as far as they can be read; see there."""

    headline: str = ""
    learns: str = ""
    primary: str = ""
    metrics: dict[str, Metric] = field(default_factory=dict)
    loss: str = ""
    samples: dict[str, Sample] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()
    baselines: dict[str, Baseline] = field(default_factory=dict)

    def title(self, name: str) -> str:
        """Return a metric's name as the page writes it: with a capital, unless it has one inside, as mAP."""
        known = self.metrics.get(name)
        if known is None:
            return title(name)
        return known.title[:1].upper() + known.title[1:] if known.title.islower() else known.title

    def percent(self, name: str) -> bool:
        """Return whether a metric is a share that reads best in percent."""
        return name in self.metrics and self.metrics[name].percent


def describe(run: RunFolder) -> Description:
    """Read the entry "report" of a run's config.json; what is missing or of another shape is left out."""
    said = run.section("report")
    return Description(
        headline=_text(said.get("headline")),
        learns=_text(said.get("learns")),
        primary=_text(said.get("primary")),
        metrics={
            _text(each.get("name")): Metric(
                _text(each.get("title")) or _text(each.get("name")),
                each.get("percent") is True,
                _text(each.get("description")),
            )
            for each in _objects(said.get("metrics"))
        },
        loss=_text(said.get("loss")),
        samples={
            _text(each.get("kind")): Sample(
                tuple(part for part in _text(each.get("caption")).split("\n\n") if part), _texts(each.get("columns"))
            )
            for each in _objects(said.get("samples"))
        },
        commands=tuple((pair[0], pair[1]) for pair in map(_texts, _list(said.get("commands"))) if len(pair) == 2),
        baselines={
            name: Baseline(
                float(each["value"]),
                each["images"] if is_count(each.get("images")) else 0,
                _text(each.get("description")),
            )
            for name, each in _named_objects(said.get("baselines"))
            if is_number(each.get("value"))
        },
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in _list(value))


def _named_objects(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield from ((name, part) for name, part in value.items() if isinstance(part, dict))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [part for part in _list(value) if isinstance(part, dict)]
