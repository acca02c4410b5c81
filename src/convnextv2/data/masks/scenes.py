"""Images with a class for each pixel: found, checked one by one, and split."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnextv2.data.files.decode import MAX_PIXELS
from convnextv2.data.files.folder import ImageList
from convnextv2.data.files.reading import ANY
from convnextv2.data.loading.order import mix
from convnextv2.data.masks.coco import AnnotationError, CocoMasks, read_coco
from convnextv2.data.masks.codes import (
    NO_CLASS,
    SceneClasses,
    default_palette,
    is_colour,
    read_class_file,
    read_codes,
    said_of,
)
from convnextv2.data.masks.pairs import Folders, Pairs, find_folders, match_pairs
from convnextv2.errors import BadImageError, RunFailedError, UserError
from convnextv2.text import listed, shown

CLASS_FILES = ("classes.json", "labelmap.txt")
"""Files beside images and masks that name the classes, see `read_class_file`."""

_THREADS = 8
_NAMED = 20  # faults that are said one by one


@dataclass(frozen=True)
class Scenes:
    """Images with a class for each pixel.

    counts: int64 (N, K + 1), pixels of each class in each mask, and of no class.
    """

    images: ImageList
    masks: Pairs | CocoMasks
    classes: SceneClasses
    counts: Tensor
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.images)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Read the classes of image `index`, (H, W), `NO_CLASS` where there is none. Raises BadImageError."""
        codes = _codes(self.masks, index, self.max_pixels)
        classes, unknown = self.classes.of_codes(codes)
        if unknown:
            raise BadImageError(_mask_path(self.masks, index), _no_class_has(unknown))
        return classes

    def mask_path(self, index: int) -> Path:
        """Return the file of image `index`'s mask; of COCO objects that of the image."""
        return _mask_path(self.masks, index)

    def subset(self, indices: Sequence[int]) -> Scenes:
        """Return the images at `indices`, in that order."""
        masks, rows = self.masks, list(indices)
        if isinstance(masks, CocoMasks):
            chosen: Pairs | CocoMasks = replace(
                masks, images=masks.images.subset(rows), about=tuple(masks.about[row] for row in rows)
            )
        else:
            chosen = masks.subset(rows)
        return replace(self, images=self.images.subset(rows), masks=chosen, counts=self.counts[rows])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.classes.names

    def pixels(self) -> Tensor:
        """Return the number of pixels of each class, int64 (K,)."""
        return self.counts[:, :-1].sum(0)


@dataclass(frozen=True)
class SceneSplits:
    """Scenes by their use.  notes: what was found and left out, a line each, for the user."""

    train: Scenes
    val: Scenes | None
    test: Scenes | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SceneRequest:
    """How a folder of scenes is read.

    classes: a file that names the classes, see `read_class_file`; by default one of `CLASS_FILES` in the folder.
    ignore: the value of masks that is no class.  reduce_zero_label: 0 is no class, and 1 is the first.
    max_bad_fraction: the largest share of images that may be left out because their mask is at fault.
    known: the classes of a model, whose numbers and order are taken where the folder does not name its own.
    say: called with a line for each of the first faults.
    """

    classes: Path | None = None
    ignore: int | None = None
    reduce_zero_label: bool = False
    max_bad_fraction: float = 0.01
    max_pixels: int = MAX_PIXELS
    known: SceneClasses | None = None
    say: Callable[[str], None] = lambda line: None


def read_scene_splits(
    source: Path,
    request: SceneRequest,
    *,
    val_fraction: float | None = None,
    group_pattern: str | None = None,
    seed: int = 0,
) -> SceneSplits:
    """Read images with masks, check every one, and draw `val` if there is none.

    val_fraction: share of the images that is drawn for `val`, 0 for none; by default a fifth of what is not split and a
    tenth of `train`.  group_pattern: what it matches in an image's name is its group, and no group is on both sides.

    Raises UserError for a folder of another layout, RunFailedError if too many masks are at fault.
    """
    read = _read(source, request)
    if "train" not in read.parts and "" not in read.parts:
        raise UserError(f"{shown(source)} holds {listed(read.parts)} but no train images: add them as 'train'")
    train = read.parts.get("train") or read.parts[""]
    val, notes = read.parts.get("val"), list(read.notes)
    if val is None:
        share = val_fraction if val_fraction is not None else 0.1 if "train" in read.parts else 0.2
        train, val, note = _drawn(train, share, group_pattern, seed)
        notes.append(f"{shown(source)} {'has no val' if 'train' in read.parts else 'is not split'}: {note}")
    elif val_fraction is not None:
        notes.append(f"--val-fraction has no effect: {shown(source)} has val images of its own")
    for index in train.pixels().eq(0).nonzero().flatten().tolist():
        notes.append(f"no training mask has a pixel of {shown(train.names[index])}: it cannot be learned")
    return SceneSplits(train, val, read.parts.get("test"), tuple(notes))


def read_scene_split(source: Path, split: str | None, request: SceneRequest) -> tuple[Scenes, str, tuple[str, ...]]:
    """Read the scenes of one split to evaluate on; returns them, the split's name, and notes.

    split: by default val, else test, else train; "all" is the name of what is not split.

    Raises as `read_scene_splits`, and UserError if there is no such split.
    """
    found = find_folders(source)
    if "" in found:
        if split is not None:
            raise UserError(
                f"--split {split}: {shown(source)} is not split: leave out --split to evaluate on all of it"
            )
        name = ""
    else:
        name = split or next(known for known in ("val", "test", "train") if known in found)
        if name not in found:
            raise UserError(f"{shown(source)} has no {name} images: give one of the splits it has ({listed(found)})")
    read = _read(source, request, only=name)
    return read.parts[name], name or "all", read.notes


@dataclass(frozen=True)
class _Read:
    parts: Mapping[str, Scenes]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    """What a mask holds: pixels by code, or why it cannot be used."""

    codes: Mapping[int, int]
    fault: str = ""


def _read(source: Path, request: SceneRequest, only: str | None = None) -> _Read:
    folders = {split: each for split, each in find_folders(source).items() if only in (None, split)}
    masks = {split: _masks(each) for split, each in folders.items()}
    seen = {split: _look(each, request.max_pixels) for split, each in masks.items()}
    classes, notes = _classes(source, folders, masks, seen, request)
    parts: dict[str, Scenes] = {}
    for split, each in masks.items():
        faults = _faults(each, seen[split], classes)
        notes += _left_out(source, split, each, faults, request)
        kept = [index for index in range(len(each.images)) if index not in faults]
        counts = torch.zeros(len(each.images), len(classes.names) + 1, dtype=torch.int64)
        for index in kept:
            for code, count in seen[split][index].codes.items():
                place = classes.codes[code]
                counts[index, -1 if place == NO_CLASS else place] += count
        parts[split] = Scenes(each.images, each, classes, counts, request.max_pixels).subset(kept)
    return _Read(parts, tuple(notes))


def _masks(folders: Folders) -> Pairs | CocoMasks:
    if folders.masks is not None:
        return match_pairs(folders)
    assert folders.annotations is not None
    return read_coco(folders.annotations, folders.images)


def _codes(masks: Pairs | CocoMasks, index: int, max_pixels: int) -> NDArray[np.int32]:
    if isinstance(masks, Pairs):
        return read_codes(_mask_path(masks, index), max_pixels)
    try:
        return masks.draw(index)
    except AnnotationError as error:
        raise BadImageError(masks.images.path(index), str(error)) from None


def _mask_path(masks: Pairs | CocoMasks, index: int) -> Path:
    return masks.root / masks.masks[index] if isinstance(masks, Pairs) else masks.images.path(index)


def _look(masks: Pairs | CocoMasks, max_pixels: int) -> list[_Seen]:
    """Read every mask once, and the header of its image."""

    def seen(index: int) -> _Seen:
        try:
            with masks.images.open(index, ANY) as image:
                size = image.upright_size()
        except BadImageError as error:
            return _Seen({}, f"its image cannot be read: {error.reason}")
        try:
            codes = _codes(masks, index, max_pixels)
        except BadImageError as error:
            name = f"mask {shown(_mask_path(masks, index).name)}: " if isinstance(masks, Pairs) else ""
            return _Seen({}, f"{name}{error.reason}")
        height, width = codes.shape
        if (width, height) != size:
            turned = ": turned by a quarter, as the image's EXIF says" if (height, width) == size else ""
            return _Seen({}, f"the mask has {width} x {height} pixels and the image {size[0]} x {size[1]}{turned}")
        values, counts = np.unique(codes, return_counts=True)
        return _Seen(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(seen, range(len(masks.images))))


def _classes(
    source: Path,
    folders: Mapping[str, Folders],
    masks: Mapping[str, Pairs | CocoMasks],
    seen: Mapping[str, Sequence[_Seen]],
    request: SceneRequest,
) -> tuple[SceneClasses, list[str]]:
    """The classes of all masks, and notes: as a file names them, as a model has them, or the values that occur."""
    known = request.known
    of_coco = [each.classes for each in masks.values() if isinstance(each, CocoMasks)]
    if of_coco:
        given = {"classes": request.classes, "ignore": request.ignore, "reduce-zero-label": request.reduce_zero_label}
        if odd := [name for name, value in given.items() if value is not None and value is not False]:
            raise UserError(f"--{odd[0]} is for mask files, and {shown(source)} holds a COCO json: leave it out")
        names = {each.names for each in of_coco}
        if len(names) > 1:
            raise UserError(f"the json files of {shown(source)} have different categories: make them the same")
        return (of_coco[0] if known is None else of_coco[0].renamed(known.names, shown(source))), []
    places = [
        source,
        *(each.images.parent for each in folders.values()),
        *(m for f in folders.values() if (m := f.masks)),
    ]
    file = request.classes or next((p / n for p in places for n in CLASS_FILES if (p / n).is_file()), None)
    if file is not None:
        found = read_class_file(file, ignore=request.ignore, reduce_zero_label=request.reduce_zero_label)
        return (found if known is None else found.renamed(known.names, shown(file))), []
    if known is not None:
        return known, []
    codes = Counter[int]()
    for part in seen.values():
        for each in part:
            codes.update(each.codes)
    if not codes:  # every mask is at fault, and that is what will be said
        return SceneClasses(("0", "1"), (0, 1), default_palette(2)), []
    return _found_classes(source, codes, request)


def _found_classes(source: Path, codes: Counter[int], request: SceneRequest) -> tuple[SceneClasses, list[str]]:
    """The classes that masks without a file of names have: a class for each value."""
    if colours := sorted(code for code in codes if is_colour(code)):
        some = [list(map(int, said_of(code)[1:-1].split(", "))) for code in colours[:3]]
        names = [f"name {number + 1}" for number in range(len(some))]
        raise UserError(
            f"the masks in {shown(source)} are in {len(colours)} colours, and nothing says what they mean: write"
            f' {shown(source / CLASS_FILES[0])} as {{"classes": {json.dumps(names)},'
            f' "palette": {json.dumps(some)}}}, with all of them'
        )
    ignored = {NO_CLASS} if request.ignore is None else {NO_CLASS, request.ignore}
    if request.reduce_zero_label:
        ignored |= {0}
    elif request.ignore is None and {*codes} <= {0, NO_CLASS}:
        classes = SceneClasses(("background", "foreground"), (0, 255), ((0, 0, 0), (220, 60, 40)))
        return classes, ["the masks hold 0 and 255 only, which are taken for background and foreground"]
    values = sorted(code for code in codes if code not in ignored)
    if len(values) < 2:
        raise UserError(
            f"the masks in {shown(source)} hold {listed(map(str, sorted(codes)))}, of which"
            f" {listed(map(str, values)) or 'none'} is a class: there must be two or more, or say which value is no"
            " class with --ignore"
        )
    gone = sorted(ignored & {*codes})
    said = f"{len(values)} values in the masks, each taken for a class: {listed(map(str, values))}"
    said += f"; {listed(map(str, gone))} is no class" if gone else ""
    classes = SceneClasses(
        tuple(map(str, values)), tuple(values), default_palette(len(values)), tuple(sorted(ignored - {NO_CLASS}))
    )
    return classes, [f"{said} (a {CLASS_FILES[0]} gives them names and colours)"]


def _faults(masks: Pairs | CocoMasks, seen: Sequence[_Seen], classes: SceneClasses) -> dict[int, str]:
    """Index and reason of every image that cannot be used."""
    found: dict[int, str] = {}
    for index, each in enumerate(seen):
        if each.fault:
            found[index] = each.fault
        elif unknown := [code for code in each.codes if code not in classes.codes]:
            pixels = sum(each.codes[code] for code in unknown)
            name = shown(_mask_path(masks, index).name)
            found[index] = f"mask {name}: {_no_class_has(unknown)}, at {pixels} pixels"
    return found


def _no_class_has(codes: Sequence[int]) -> str:
    what = "colours" if is_colour(max(codes)) else "values"
    return f"{what} that no class has ({listed(map(said_of, sorted(codes)), 5)})"


def _left_out(
    source: Path, split: str, masks: Pairs | CocoMasks, faults: Mapping[int, str], request: SceneRequest
) -> list[str]:
    """Say what is left out, one by one; notes with the numbers. Raises RunFailedError if it is more than is allowed."""
    where = f"{split} of {shown(source)}" if split else shown(source)
    files = isinstance(masks, Pairs)
    lines = [f"{shown(masks.images.names[index])}: {reason}" for index, reason in sorted(faults.items())]
    lines += [f"{shown(name)}: no mask" for name in masks.lonely if files]
    lines += [f"{'mask ' if files else ''}{shown(name)}: no image" for name in masks.unused]
    for line in lines[:_NAMED]:
        request.say(f"skipped {line}")
    if len(lines) > _NAMED:
        request.say(f"... and {len(lines) - _NAMED} more")
    total = len(masks.images) + len(masks.unused) + (len(masks.lonely) if files else 0)
    few = min(3, total // 10) if request.max_bad_fraction else 0
    all_bad = len(faults) == len(masks.images)
    if all_bad or len(lines) > max(request.max_bad_fraction * total, few):
        examples = "; ".join(lines[:5]) + ("; ..." if len(lines) > 5 else "")
        allowed = "" if all_bad else ", or allow more with --max-bad-fraction"
        raise RunFailedError(
            f"{where}: {len(lines)} of {total} images and masks cannot be used, more than the allowed"
            f" {request.max_bad_fraction:g}: {examples}. Repair or remove them{allowed}"
        )
    notes = [f"{len(lines)} of {total} images and masks of {where} are left out; each is named above"] if lines else []
    if masks.lonely and not files:
        count = len(masks.lonely)
        notes.append(f"{count} images of {where} are not in the json and not used: {listed(masks.lonely, 3)}")
    return notes


def _drawn(train: Scenes, share: float, pattern: str | None, seed: int) -> tuple[Scenes, Scenes | None, str]:
    """The training scenes without those drawn for `val`, these, and a note. Groups stay together."""
    if share == 0:
        return train, None, "nothing is kept to validate with"
    groups = _groups(train, pattern)
    order = sorted(groups, key=lambda group: mix(seed, *group.encode(errors="surrogateescape")))
    wanted, chosen = max(1, round(share * len(train))), []
    for group in order:
        if len(chosen) >= wanted or len(chosen) + len(groups[group]) >= len(train):
            break
        chosen += groups[group]
    if not chosen:
        raise UserError(
            f"{len(train)} images in {len(groups)} group{'s' * (len(groups) != 1)} cannot be split: give a val folder,"
            " or --val-fraction 0"
        )
    drawn = {*chosen}
    rest = [index for index in range(len(train)) if index not in drawn]
    said = f"{len(chosen)} of {len(train)} images are drawn to validate with"
    return train.subset(rest), train.subset(sorted(chosen)), said + (f", by {len(groups)} groups" if pattern else "")


def _groups(scenes: Scenes, pattern: str | None) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    try:
        find = re.compile(pattern or "(.*)").search
    except re.error as error:
        raise UserError(f"--group-pattern {shown(pattern or '')}: no regular expression ({error})") from None
    for index, name in enumerate(scenes.images.names):
        match = find(name)
        if match is None:
            raise UserError(
                f"--group-pattern {shown(pattern or '')} does not match {shown(name)}: every name must match"
            )
        found.setdefault(match[1 if match.re.groups else 0], []).append(index)
    return found
