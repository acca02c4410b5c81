"""The draw of the labelled images that are kept for validation."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convnextv2.data.labels.categorical import Categorical
from convnextv2.data.labels.labels import WrittenLabels
from convnextv2.data.loading.order import mix
from convnextv2.errors import UserError
from convnextv2.text import listed, shown

_PASSES = 10
"""Passes over all units at most; nearly always fewer are needed."""
_LEAST = 1e-9
"""What a move must lower the sum by."""


def grouped(written: WrittenLabels, pattern: str) -> WrittenLabels:
    """Return the same images with their groups: what the first group of `pattern`, or all of it, matches.

    The regular expression is searched in each image's name relative to its root.

    Raises:
        UserError: it is not a valid regular expression, or a name does not match.
    """
    try:
        find = re.compile(pattern).search
    except re.error as error:
        raise UserError(
            f"--group-pattern '{shown(pattern)}' is not a valid regular expression ({error}):"
            " give one such as '([^/_]+)_'"
        ) from error
    lost: list[str] = []

    def found() -> Iterator[str]:
        for name in written.images.names:
            match = find(_relative(name, written.images.root))
            group = match and match[1 if match.re.groups else 0]
            if group:
                yield group
            else:
                lost.append(name)

    groups = Categorical(found())
    if lost:
        raise UserError(
            f"--group-pattern '{shown(pattern)}' finds no group in {len(lost)} of {len(written)} names"
            f" ({listed(lost, 3)}): give one that matches every name"
        )
    return WrittenLabels(written.images, written.words, groups)


def split_off(train: WrittenLabels, fraction: float, seed: int) -> tuple[dict[str, WrittenLabels], str]:
    """Split into "train" and "val"; return the parts and a note. No parts if no `val` can be drawn.

    Raises:
        UserError: all images are of one group.
    """
    if not fraction:
        return {}, "nothing is kept for val (--val-fraction 0)"
    groups = train.groups
    if groups and len(groups.categories) == 1:
        raise UserError(
            f"all {len(train)} images are of the group '{shown(groups[0])}': give a column or pattern with more groups"
        )
    single = groups is None and all(len(words) <= 1 for words in train.words.categories)
    order = in_order_of_names(train.images.names) if single else None
    drawn = _drawn(train, fraction, seed) if order is None else draw_images(train.words.codes, order, fraction, seed)
    if not drawn.any():
        return {}, f"no {'group' if groups else 'image'} can be kept for val without taking a class from train"
    of_groups = f", {len(np.unique(groups.codes[drawn]))} of {len(groups.categories)} groups," if groups else ""
    note = (
        f"{drawn.sum()} of {len(train)} images{of_groups} were drawn for val ({fraction:g} of each class, seed {seed};"
        " --val-fraction changes it)"
    )
    return {"train": train.subset(np.flatnonzero(~drawn)), "val": train.subset(np.flatnonzero(drawn))}, note


def _drawn(train: WrittenLabels, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Whether each image is drawn, bool (N,), by `draw_units` of its groups or else of its names."""
    keys = train.groups or train.images.names
    units: dict[str, Counter[str]] = defaultdict(Counter)
    for key, words in zip(keys, train.words, strict=True):
        units[key].update(words or [""])  # without a label: a class of their own
    val = draw_units(units, fraction, seed)
    return np.fromiter((key in val for key in keys), np.bool_, len(train))


def in_order_of_names(names: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the indices of the names in their sorted order, int64 (N,); None if a name occurs twice."""
    if all(one < other for one, other in pairwise(names)):
        return np.arange(len(names))
    known = list(names)
    if len(set(known)) < len(known):
        return None
    return np.array(sorted(range(len(known)), key=known.__getitem__), np.int64)


def draw_images(codes: NDArray[np.integer], order: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return whether each image is drawn, bool (N,): what `draw_units` draws of N images of one class each.

    There the classes do not meet, and each gives its first images in the drawn order. So no image needs an object of
    its own.  codes: the class of each image.  order: see `in_order_of_names`.
    """
    shuffled = order[_shuffled(len(order), seed)]
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    drawn = np.zeros(len(codes), np.bool_)
    for members in np.split(by_class, np.cumsum(np.bincount(codes))[:-1]):
        count, total = min(1, max(0, len(members) - 1)), len(members)
        while count < total - 1 and (2 * (count - fraction * total) + 1) / total < -_LEAST:
            count += 1
        drawn[members[:count]] = True
    return drawn


def draw_units(units: Mapping[str, Mapping[str, int]], fraction: float, seed: int) -> set[str]:
    """Draw units that together hold about `fraction` of the images of every class.

    A unit is what must stay together, an image or a group, given as how many images of each
    class it has. A class of two units or more keeps at least one undrawn, and has one drawn unless
    that would leave another class without. Then, in an order drawn from the seed and the names,
    units are moved while that lowers the sum over classes of (images drawn - target)^2 / images.
    If units are single images of one class, every class comes within one image of its share.
    """
    # Sorted inside as well: sums of floats depend on their order, and ties on sums.
    units = {unit: dict(sorted(units[unit].items())) for unit in sorted(units)}
    names = list(units)
    order = [names[index] for index in _shuffled(len(names), seed).tolist()]
    images: Counter[str] = Counter()
    holders: dict[str, list[str]] = defaultdict(list)
    for unit in order:
        images.update(units[unit])
        for label in units[unit]:
            holders[label].append(unit)
    drawn: set[str] = set()
    have: Counter[str] = Counter()  # images drawn
    there: Counter[str] = Counter()  # units drawn
    left = {label: len(having) for label, having in holders.items()}  # units not drawn

    def free(unit: str) -> bool:
        """Whether every class of the unit has another one on the same side."""
        return all((there if unit in drawn else left)[label] > 1 for label in units[unit])

    def growth(unit: str) -> float:
        """Return what moving the unit to the other side adds to the sum."""
        way = -1 if unit in drawn else 1
        return sum(
            count * (2 * way * (have[label] - fraction * images[label]) + count) / images[label]
            for label, count in units[unit].items()
        )

    def move(unit: str) -> None:
        way = -1 if unit in drawn else 1
        drawn.symmetric_difference_update((unit,))
        for label, count in units[unit].items():
            have[label] += way * count
            there[label] += way
            left[label] -= way

    for label in sorted(holders, key=lambda label: (len(holders[label]), label)):
        candidates = [] if there[label] else [unit for unit in holders[label] if free(unit)]
        if candidates:
            move(min(candidates, key=growth))
    for _ in range(_PASSES):
        before = drawn.copy()
        for unit in order:
            if free(unit) and growth(unit) < -_LEAST:
                move(unit)
        if drawn == before:
            break
    return drawn


def _shuffled(count: int, seed: int) -> NDArray[np.int64]:
    generator = torch.Generator().manual_seed(mix(seed, *b"val"))
    return torch.randperm(count, generator=generator).numpy()


def _relative(name: str, root: Path) -> str:
    path = Path(name)
    return str(path.relative_to(root)) if path.is_absolute() and path.is_relative_to(root) else name
