"""The draw of the labelled images that are kept for validation."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from convnextv2.data.labels.labels import WrittenLabels
from convnextv2.data.loading.order import mix
from convnextv2.errors import UserError
from convnextv2.text import listed, shown

_PASSES = 10
"""Passes over all units at most; nearly always fewer are needed."""


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
    groups: list[str] = []
    lost: list[str] = []
    for name in written.images.names:
        found = find(_relative(name, written.images.root))
        group = found and found[1 if found.re.groups else 0]
        if not group:
            lost.append(name)
        else:
            groups.append(group)
    if lost:
        raise UserError(
            f"--group-pattern '{shown(pattern)}' finds no group in {len(lost)} of {len(written)} names"
            f" ({listed(lost, 3)}): give one that matches every name"
        )
    return replace(written, groups=tuple(groups))


def split_off(train: WrittenLabels, fraction: float, seed: int) -> tuple[dict[str, WrittenLabels], str]:
    """Split into "train" and "val"; return the parts and a note. No parts if no `val` can be drawn.

    Raises:
        UserError: all images are of one group.
    """
    if not fraction:
        return {}, "nothing is kept for val (--val-fraction 0)"
    keys = train.groups or train.images.names
    units: dict[str, Counter[str]] = defaultdict(Counter)
    for key, words in zip(keys, train.words, strict=True):
        units[key].update(words or [""])  # without a label: a class of their own
    if train.groups and len(units) == 1:
        raise UserError(
            f"all {len(train)} images are of the group '{shown(keys[0])}': give a column or pattern with more groups"
        )
    val = draw_units(units, fraction, seed)
    if not val:
        return {}, f"no {'group' if train.groups else 'image'} can be kept for val without taking a class from train"
    taken = [index for index, key in enumerate(keys) if key in val]
    rest = [index for index, key in enumerate(keys) if key not in val]
    of_groups = f", {len(val)} of {len(units)} groups," if train.groups else ""
    note = (
        f"{len(taken)} of {len(train)} images{of_groups} were drawn for val ({fraction:g} of each class, seed {seed};"
        " --val-fraction changes it)"
    )
    return {"train": train.subset(rest), "val": train.subset(taken)}, note


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
    generator = torch.Generator().manual_seed(mix(seed, *b"val"))
    order = [names[index] for index in torch.randperm(len(names), generator=generator).tolist()]
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
            if free(unit) and growth(unit) < -1e-9:
                move(unit)
        if drawn == before:
            break
    return drawn


def _relative(name: str, root: Path) -> str:
    path = Path(name)
    return str(path.relative_to(root)) if path.is_absolute() and path.is_relative_to(root) else name
