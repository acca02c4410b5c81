"""How good frozen features are: a linear probe and nearest neighbours, beside those of random weights."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from convnextv2.atomic import make_room, write_text_atomically
from convnextv2.data.labels.labels import LabelledImages, few_labels
from convnextv2.data.labels.splits import read_splits
from convnextv2.data.loading.order import mix
from convnextv2.engine import distributed, machine
from convnextv2.errors import UserError
from convnextv2.tasks.classify.evaluator import readers
from convnextv2.text import shown
from convnextv2.verbs.embed import check_loading
from convnextv2.verbs.features import Encoder, Pooled, load_encoder, pooled
from convnextv2.verbs.probe.heads import ITERATIONS, Features, Labels, linear_probe, nearest_neighbours
from convnextv2.verbs.probe.result import ProbeResult, ProbeRow, Score

RUN, RANDOM = "this run", "random weights"

_EVERY = 10.0  # seconds between two words on how far it is


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """What a user can set; all of it is checked when it is made."""

    label_fraction: float = 1.0
    """Share of each class's training pictures whose labels are used."""
    labels_per_class: int | None = None
    """Or so many of each class."""
    draws: int = 3
    """How often these are drawn, where they are not all."""
    against: str | Path = "random"
    """Another run or file to stand beside it; random weights stand there always."""
    split: Literal["val", "test"] | None = None
    """The pictures it is judged on; by default val, or test where there is no val."""
    val_fraction: float | None = None
    """See `read_splits`, as of the four below."""
    group_column: str | None = None
    group_pattern: str | None = None
    multi_label: bool = False
    label_separator: str = ";"
    image_size: int | None = None
    """Pixels on a side; by default that of the file."""
    neighbours: int = 20
    batch_size: int = 64
    workers: int | None = None
    """Processes that read pictures; by default one a core, less one, up to 8."""
    device: str = "auto"
    seed: int = 0
    """Of the draws, of the split, and of the random weights."""
    out: str | Path | None = None
    """A new JSON file for the result."""

    def __post_init__(self) -> None:
        rules = [
            (0 < self.label_fraction <= 1, f"--label-fraction {self.label_fraction:g}: give above 0 and at most 1"),
            (
                self.labels_per_class is None or self.labels_per_class >= 1,
                f"--labels-per-class {self.labels_per_class}: give at least 1",
            ),
            (
                self.labels_per_class is None or self.label_fraction == 1,
                "both --label-fraction and --labels-per-class: give one of them",
            ),
            (self.draws >= 1, f"--draws {self.draws}: give at least 1"),
            (self.image_size is None or self.image_size >= 8, f"--image-size {self.image_size}: give at least 8"),
            (self.neighbours >= 1, f"--neighbours {self.neighbours}: give at least 1"),
            (self.split in (None, "val", "test"), f"--split {self.split}: give val or test"),
            (self.seed >= 0, f"--seed {self.seed}: give 0 or more"),
            (
                self.out is None or Path(self.out).suffix == ".json",
                f"--out {self.out}: name a file that ends in .json",
            ),
        ]
        for holds, message in rules:
            if not holds:
                raise UserError(message)
        check_loading(self.batch_size, self.workers or 0)


def probe(
    run: str | Path, data: str | Path, *, say: Callable[[str], None] = lambda line: None, **settings: Any
) -> ProbeResult:
    """Evaluator a run's frozen features: a linear probe and k-NN on labelled pictures, beside random weights.

    Args:
        run: a run of `pretrain` or `classify`, or its model.safetensors; a head takes no part.
        data: labelled pictures, see `read_splits`.
        say: is told what goes on, a line at a time.
        settings: see `ProbeSettings`, by name.

    The linear probe is a logistic regression on features standardised by the training ones; its regularisation is
    chosen on a fifth of the training labels, never on what it is judged on. k-NN is that of Wu et al. 2018: cosine
    similarity s, votes of weight exp(s / 0.07). Where pictures have several labels there is one regression a class,
    judged by mean average precision, and no k-NN.

    Raises UserError for a mistake in these or a file that is not there, LoadError for one that is damaged, RunFailedError
    where pictures cannot be read or features are not finite.
    """
    chosen = ProbeSettings(**settings)
    if chosen.out is not None:
        make_room(Path(chosen.out))
    device = distributed.init(chosen.device).device
    encoders = _encoders(run, chosen)
    splits = read_splits(
        data,
        val_fraction=chosen.val_fraction,
        group_column=chosen.group_column,
        group_pattern=chosen.group_pattern,
        label_separator=chosen.label_separator,
        multi_label=chosen.multi_label,
        seed=chosen.seed,
    )
    split = chosen.split or ("test" if splits.val is None else "val")
    others = splits.val if split == "val" else splits.test
    if others is None:
        hint = "leave out --split" if chosen.split else "add some, or give another --val-fraction"
        raise UserError(f"{shown(data)} has no {split} pictures to judge on ({'; '.join(splits.notes)}): {hint}")
    draws = _draws(splits.train, chosen)
    wanted = sorted({index for draw in draws for index in draw})
    notes = [*splits.notes, *_lacking(splits.train, chosen)]
    rows: list[ProbeRow] = []
    drawn, truth = [], np.zeros(0)
    for models in encoders:
        known = _pooled(models, splits.train, wanted, chosen, device, say)
        seen = _pooled(models, others, range(len(others)), chosen, device, say)
        notes += [*_unreadable("train", splits.train, known), *_unreadable(split, others, seen)]
        drawn = [np.isin(known.indices, draw) for draw in draws]
        labels, truth = splits.train.labels.numpy()[known.indices], others.labels.numpy()[seen.indices]
        _check_labels([labels[part] for part in drawn], truth)
        for name, features, other in zip(models, known.features, seen.features, strict=True):
            say(f"linear probe{'' if truth.ndim == 2 else ' and k-NN'} of {name}")
            rows.append(_row(name, [(features[part], labels[part]) for part in drawn], other, truth, chosen, notes))
    this, labelled = encoders[0][RUN], min(int(part.sum()) for part in drawn)
    result = ProbeResult(
        rows=tuple(rows),
        metric="map" if truth.ndim == 2 else "top1",
        split=split,
        classes=len(splits.train.classes),
        labelled=labelled,
        judged=len(truth),
        neighbours=min(chosen.neighbours, labelled),
        image_size=this.image_size,
        file=this.file,
        notes=tuple(dict.fromkeys(notes)),
    )
    if chosen.out is not None:
        _write(Path(chosen.out), result, data, chosen, device)
    return result


def _encoders(run: str | Path, settings: ProbeSettings) -> list[dict[str, Encoder]]:
    """All models by name, those together that take the same input."""
    encoder = _load(run, settings)
    encoders = [{RUN: encoder, RANDOM: encoder.with_random_weights(settings.seed)}]
    if settings.against != "random":
        encoders.append({shown(settings.against): _load(settings.against, settings)})
    return encoders


def _load(source: str | Path, settings: ProbeSettings) -> Encoder:
    encoder = load_encoder(source)
    return encoder if settings.image_size is None else encoder.at_size(settings.image_size)


def _draws(train: LabelledImages, settings: ProbeSettings) -> list[list[int]]:
    """Indices of the pictures whose labels are used, in order, for each draw; one draw where all of them are."""
    seeds = range(settings.seed, settings.seed + settings.draws)
    if settings.labels_per_class is not None:
        if train.multi_label:
            raise UserError(
                "--labels-per-class is for pictures with one label, and these may have several: give --label-fraction"
            )
        return [_few_of_each(train, settings.labels_per_class, seed) for seed in seeds]
    if settings.label_fraction == 1:
        return [list(range(len(train)))]
    numbered = replace(train, images=replace(train.images, names=tuple(map(str, range(len(train))))))
    drawn = [few_labels(numbered, settings.label_fraction, seed) for seed in seeds]
    return [[int(name) for name in few.images.names] for few in drawn]


def _few_of_each(train: LabelledImages, count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(mix(seed, *b"labels per class"))
    order = torch.randperm(len(train), generator=generator)
    members = order[torch.argsort(train.labels[order], stable=True)].split(train.counts().tolist())
    return sorted(torch.cat([drawn[:count] for drawn in members]).tolist())


def _lacking(train: LabelledImages, settings: ProbeSettings) -> list[str]:
    """A note where some class has fewer labels than were asked for."""
    short = int((train.counts() < (settings.labels_per_class or 0)).sum())
    if not short:
        return []
    return [f"{short} of {len(train.classes)} classes have fewer than {settings.labels_per_class} labels: all are used"]


def _pooled(
    models: dict[str, Encoder],
    data: LabelledImages,
    indices: Sequence[int],
    settings: ProbeSettings,
    device: torch.device,
    say: Callable[[str], None],
) -> Pooled:
    say(f"{len(indices):,} pictures of {shown(data.images.source)} through {' and '.join(models)}")
    first = next(iter(models.values()))
    last = time.monotonic()

    def seen(count: int) -> None:
        nonlocal last
        if time.monotonic() - last > _EVERY:
            last = time.monotonic()
            say(f"  {count:,} of {len(indices):,}")

    return pooled(
        [encoder.model for encoder in models.values()],
        data.images,
        indices,
        preprocessing=first.preprocessing,
        image_size=first.image_size,
        crop_pct=first.crop_pct,
        batch_size=settings.batch_size,
        workers=readers(settings.workers, -(-len(indices) // settings.batch_size)),
        device=device,
        seen=seen,
    )


def _unreadable(split: str, data: LabelledImages, found: Pooled) -> list[str]:
    if not found.bad:
        return []
    index, reason = found.bad[0]
    return [
        f"{len(found.bad)} {split} pictures cannot be read and are left out, the first being "
        f"{shown(data.images.names[index])}: {reason}"
    ]


def _check_labels(drawn: Sequence[Labels], truth: Labels) -> None:
    """Whether there is something to learn, and something to judge by."""
    for labels in drawn:
        if np.ptp(labels, axis=0).max() == 0:
            raise UserError(
                f"the {len(labels)} labelled pictures that can be read are all of one class: give more labels"
            )
    if truth.ndim == 2 and not truth.any():
        raise UserError(f"none of the {len(truth)} pictures to judge on has a label: label some, or give --split")


def _row(
    name: str,
    drawn: Sequence[tuple[Features, Labels]],
    others: Features,
    truth: Labels,
    settings: ProbeSettings,
    notes: list[str],
) -> ProbeRow:
    """What one model's features are worth, over all draws of (features, labels)."""
    linear, knn = [], []
    k = min(settings.neighbours, *(len(labels) for _, labels in drawn))
    for draw, (features, labels) in enumerate(drawn):
        linear.append(linear_probe(features, labels, others, truth, seed=settings.seed + draw))
        if truth.ndim == 1:
            knn.append(float(np.mean(nearest_neighbours(features, labels, others, k=k) == truth)))
    if knn and k < settings.neighbours:
        notes.append(f"k-NN with k={k} in place of {settings.neighbours}: there are no more labelled pictures")
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


def _write(out: Path, result: ProbeResult, data: str | Path, settings: ProbeSettings, device: torch.device) -> None:
    written = {
        **dataclasses.asdict(result),
        "title": result.title,
        "sentence": result.sentence,
        "data": data,
        "settings": dataclasses.asdict(settings),
        "versions": machine.versions(),
        "machine": machine.describe(device),
    }
    write_text_atomically(out, json.dumps(written, indent=2, default=str) + "\n")
