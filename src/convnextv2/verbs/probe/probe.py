"""Evaluate frozen features: a linear probe and nearest neighbours, beside those of random weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convnextv2.atomic import make_room, write_text_atomically
from convnextv2.data.labels.labels import LabelledImages, draw_few
from convnextv2.data.labels.splits import Splits, read_splits
from convnextv2.data.loading.order import mix
from convnextv2.engine import distributed, machine
from convnextv2.errors import UserError
from convnextv2.inference.loaded import LoadedModel
from convnextv2.inference.predictor import Predictor
from convnextv2.inference.progress import Progress
from convnextv2.inference.reader import patterns_of
from convnextv2.loading import Backbone, load
from convnextv2.report import write_report
from convnextv2.settings import make
from convnextv2.signatures import verb
from convnextv2.text import shown
from convnextv2.verbs.features import Pooled, pooled
from convnextv2.verbs.probe.heads import ITERATIONS, Features, Labels, linear_probe, nearest_neighbours
from convnextv2.verbs.probe.result import ProbeResult, ProbeRow, Score
from convnextv2.verbs.probe.settings import ProbeSettings

RUN, RANDOM = "this run", "random weights"


@verb(ProbeSettings)
def probe(
    run: str | Path, data: str | Path, *, say: Callable[[str], None] = lambda line: None, **settings: Any
) -> ProbeResult:
    """Evaluate frozen features: a linear probe and k-NN on labelled images, beside random weights.

    run: a run of `pretrain` or `classify`, or any other source that `load` takes; a head is not used.
    data: labelled images, see `read_splits`.  say: called with lines of progress.

    The result of a run's folder is added to its report.html.

    The linear probe is a logistic regression on features standardised by the training ones; its regularisation is
    chosen on a fifth of the training labels, never on the images that it is evaluated on. k-NN is that of Wu et al.
    2018: cosine similarity s, votes of weight exp(s / 0.07). If images have several labels there is one regression per
    class, scored by mean average precision, and no k-NN.

    Raises UserError for a mistake in these or a file that is not there, LoadError for one that is damaged,
    RunFailedError if images cannot be read or features are not finite.
    """
    chosen = make(ProbeSettings, "probe", settings)
    if chosen.out is not None:
        make_room(chosen.out)
    loaded, models = _models(run, chosen)
    splits, split, others = _splits(data, chosen, patterns_of(loaded.preprocessing, chosen))
    draws = _draws(splits.train, chosen)
    used = sorted({index for draw in draws for index in draw})
    notes = [*splits.notes, *_lacking(splits.train, chosen)]
    rows: list[ProbeRow] = []
    drawn, truth = [], np.zeros(0)
    for group in models:
        known = _pooled(group, splits.train, used, chosen, say)
        seen = _pooled(group, others, range(len(others)), chosen, say)
        notes += [*_unreadable("train", splits.train, known), *_unreadable(split, others, seen)]
        drawn = [np.isin(known.indices, draw) for draw in draws]
        labels, truth = splits.train.labels.numpy()[known.indices], others.labels.numpy()[seen.indices]
        _check_labels([labels[part] for part in drawn], truth)
        for name, features, other in zip(group, known.features, seen.features, strict=True):
            say(f"linear probe{'' if truth.ndim == 2 else ' and k-NN'} of {name}")
            rows.append(_row(name, [(features[part], labels[part]) for part in drawn], other, truth, chosen, notes))
    labelled = min(int(part.sum()) for part in drawn)
    result = ProbeResult(
        rows=tuple(rows),
        metric="map" if truth.ndim == 2 else "top1",
        split=split,
        classes=len(splits.train.classes),
        labelled=labelled,
        judged=len(truth),
        neighbours=min(chosen.neighbours, labelled),
        image_size=chosen.image_size or loaded.image_size,
        file=loaded.file,
        notes=tuple(dict.fromkeys(notes)),
    )
    if chosen.out is not None:
        _write(chosen.out, result, data, chosen)
    if (page := _add_to_page(Path(run), result, data)) is not None:
        say(f"added to {page}")
    return result


def _models(run: str | Path, settings: ProbeSettings) -> tuple[LoadedModel[Backbone], list[dict[str, Predictor]]]:
    """This run, and all models by name, those together that take the same input."""
    loaded, size = load(run), settings.image_size
    random = loaded.with_random_weights(settings.seed)
    models = [{RUN: loaded.predictor(image_size=size), RANDOM: random.predictor(image_size=size)}]
    if settings.against != "random":
        models.append({shown(settings.against): load(settings.against).predictor(image_size=size)})
    return loaded, models


def _splits(data: str | Path, settings: ProbeSettings, bands: Sequence[str]) -> tuple[Splits, str, LabelledImages]:
    """The splits, and the name and the images of the one that features are evaluated on."""
    splits = read_splits(
        data,
        val_fraction=settings.val_fraction,
        group_column=settings.group_column,
        group_pattern=settings.group_pattern,
        label_separator=settings.label_separator,
        label_column=settings.label_column,
        multi_label=settings.multi_label,
        bands=bands,
        seed=settings.seed,
    )
    split = settings.split or ("test" if splits.val is None else "val")
    others = splits.val if split == "val" else splits.test
    if others is None:
        hint = "leave out --split" if settings.split else "add some, or give another --val-fraction"
        raise UserError(f"{shown(data)} has no {split} images to evaluate on ({'; '.join(splits.notes)}): {hint}")
    return splits, split, others


def _draws(train: LabelledImages, settings: ProbeSettings) -> list[list[int]]:
    """Indices of the images whose labels are used, in order, for each draw; one draw if all of them are."""
    seeds = range(settings.seed, settings.seed + settings.draws)
    if settings.labels_per_class is not None:
        if train.multi_label:
            raise UserError(
                "--labels-per-class is for images with one label, and these may have several: give --label-fraction"
            )
        return [_few_of_each(train, settings.labels_per_class, seed) for seed in seeds]
    if settings.label_fraction == 1:
        return [list(range(len(train)))]
    return [draw_few(train, settings.label_fraction, seed).tolist() for seed in seeds]


def _few_of_each(train: LabelledImages, count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(mix(seed, *b"labels per class"))
    order = torch.randperm(len(train), generator=generator)
    members = order[torch.argsort(train.labels[order], stable=True)].split(train.counts().tolist())
    return sorted(torch.cat([drawn[:count] for drawn in members]).tolist())


def _lacking(train: LabelledImages, settings: ProbeSettings) -> list[str]:
    """A note if some class has fewer labels than requested."""
    short = int((train.counts() < (settings.labels_per_class or 0)).sum())
    if not short:
        return []
    return [f"{short} of {len(train.classes)} classes have fewer than {settings.labels_per_class} labels: all are used"]


def _pooled(
    models: dict[str, Predictor],
    data: LabelledImages,
    indices: Sequence[int],
    settings: ProbeSettings,
    say: Callable[[str], None],
) -> Pooled:
    say(f"{len(indices):,} images of {shown(data.images.source)} through {' and '.join(models)}")
    return pooled(list(models.values()), data.images, indices, settings, seen=Progress(len(indices), say))


def _unreadable(split: str, data: LabelledImages, found: Pooled) -> list[str]:
    if not found.bad:
        return []
    index, reason = found.bad[0]
    return [
        f"{len(found.bad)} {split} images cannot be read and are left out, the first being "
        f"{shown(data.images.names[index])}: {reason}"
    ]


def _check_labels(drawn: Sequence[Labels], truth: Labels) -> None:
    """Raise UserError if there is nothing to learn, or nothing to evaluate on."""
    for labels in drawn:
        if np.ptp(labels, axis=0).max() == 0:
            raise UserError(
                f"the {len(labels)} labelled images that can be read are all of one class: give more labels"
            )
    if truth.ndim == 2 and not truth.any():
        raise UserError(f"none of the {len(truth)} images to evaluate on has a label: label some, or give --split")


def _row(
    name: str,
    drawn: Sequence[tuple[Features, Labels]],
    others: Features,
    truth: Labels,
    settings: ProbeSettings,
    notes: list[str],
) -> ProbeRow:
    """The scores of one model's features, over all draws of (features, labels)."""
    linear, knn = [], []
    k = min(settings.neighbours, *(len(labels) for _, labels in drawn))
    for draw, (features, labels) in enumerate(drawn):
        linear.append(linear_probe(features, labels, others, truth, seed=settings.seed + draw))
        if truth.ndim == 1:
            knn.append(float(np.mean(nearest_neighbours(features, labels, others, k=k) == truth)))
    if knn and k < settings.neighbours:
        notes.append(f"k-NN with k={k} in place of {settings.neighbours}: there are no more labelled images")
    if not all(found.converged for found in linear):
        notes.append(f"{name}: the linear probe was stopped at {ITERATIONS} iterations, before it had converged")
    if not all(found.chosen for found in linear):
        notes.append(f"too few labels to choose the linear probe's regularisation with: C is {linear[0].strength:g}")
    return ProbeRow(
        name,
        Score.of([found.value for found in linear]),
        Score.of(knn) if knn else None,
        tuple(found.strength for found in linear),
    )


def _add_to_page(run: Path, result: ProbeResult, data: str | Path) -> Path | None:
    """Add the result to the page of a run, if it is one whose folder can be written to; returns the page."""
    if not (run / "config.json").is_file():
        return None
    columns, rows = result.table()
    note = f"{result.title}. {result.sentence} Weights of {result.file.parent.name}; labels of {shown(data)}."
    step = result.file.parent.name.removeprefix("step-")
    table = {
        "title": "Was it worth it?",
        "columns": columns,
        "rows": rows,
        "note": note,
        "better": result.better,
        "step": int(step) if step.isdecimal() else None,
    }
    try:
        write_text_atomically(run / "table-probe.json", json.dumps(table))
        return write_report(run)
    except (OSError, UserError):  # a run that may only be read
        return None


def _write(out: Path, result: ProbeResult, data: str | Path, settings: ProbeSettings) -> None:
    written = {
        **dataclasses.asdict(result),
        "title": result.title,
        "sentence": result.sentence,
        "data": data,
        "settings": dataclasses.asdict(settings),
        "versions": machine.versions(),
        "machine": machine.describe(distributed.device_of(settings.device)),
    }
    write_text_atomically(out, json.dumps(written, indent=2, default=str) + "\n")
