"""Labelled images for training, validation and test: as they were split, or drawn by class and by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from convnextv2.data.files.band_files import first_bands
from convnextv2.data.files.folder import LABELLED, ImageList, check_source
from convnextv2.data.labels.class_folders import one_class, read_class_folders, split_folders, splits_beside
from convnextv2.data.labels.doubtful import alike_note, forms_note, one_spelling
from convnextv2.data.labels.draw import grouped, split_off
from convnextv2.data.labels.label_table import SEPARATOR, read_label_table
from convnextv2.data.labels.labels import LabelledImages, LabelSource, WrittenLabels, class_order, split_of
from convnextv2.data.labels.same_images import same_images_notes
from convnextv2.errors import UserError
from convnextv2.text import listed, shown


@dataclass(frozen=True)
class Splits:
    """Labelled images by their use; all have the classes of `train`.

    `notes`: what was decided and what is unusual, a line each.
    """

    train: LabelledImages
    val: LabelledImages | None
    test: LabelledImages | None
    notes: tuple[str, ...]


def read_splits(
    source: str | Path,
    *,
    val_fraction: float | None = None,
    group_column: str | None = None,
    group_pattern: str | None = None,
    label_separator: str | None = None,
    label_column: str | None = None,
    multi_label: bool = False,
    bands: Sequence[str] = (),
    seed: int = 0,
) -> Splits:
    """Read labelled images from a folder or a CSV file, and split off `val` if there is none.

    Args:
        source: a folder of class folders; a folder of `train`, `val` and `test` (or their usual variants) of class
            folders; or a CSV file, see `read_label_table`.
        val_fraction: share of each class that is drawn for `val`, 0 for none. By default 0.1 of a source that is split
            but has no `val`, 0.2 of one that is not split.
        group_column: column of the CSV file with the name of each image's group.
        group_pattern: regular expression; what its first group (or all of it) matches in an image's name is its group.
        label_separator, label_column: of the cells of the CSV file, and its column with labels, see `read_label_table`.
        multi_label: whether an image may have several labels, or none.
        bands: patterns of files, where the bands of an image lie in files of their own; the first names the image.
        seed: of the draw, 0 or more. The draw depends on it and on the names and labels, not on their order.

    A group is never on both sides of the draw. Every class with at least two images (or groups) keeps one in `train`,
    and gives one to `val` if groups allow. Names of classes and of groups that differ only in Unicode form are one.
    Images that are on both sides, byte for byte, are counted in the notes.

    Raises:
        UserError: there are no images or only one class, `val` or `test` have a class that `train` does not have, or
            an option does not fit the source.
    """
    if val_fraction is not None and not 0 <= val_fraction < 1:
        raise UserError(f"--val-fraction {val_fraction:g}: give a share of at least 0 and below 1, such as 0.2")
    source = Path(source)
    read = _read(source, group_column, group_pattern, label_separator, label_column, multi_label)
    read = _in_one_form(source, _of_bands(read, bands))
    train = read.parts.get("train", read.parts.get(""))
    if train is None:
        raise UserError(f"{shown(source)} holds {listed(read.parts)} but no train images: add them as 'train'")
    classes = class_order(word for words in train.words.categories for word in words)
    if len(classes) < (1 if read.several else 2):
        raise _too_few(source, train, classes)
    parts = {"train": train, **{split: part for split, part in read.parts.items() if split in ("val", "test")}}
    for split, part in parts.items():
        _check_classes(part, classes, f"{split} of {shown(source)}", "train")
    words = Counter(word for words in train.words for word in words)
    notes = [*read.notes, *alike_note(words, shown(source)), *_beside(source, read), *_leaks(parts)]
    if "val" not in parts:
        drawn, note = _drawn(source, read, train, val_fraction, seed)
        parts |= drawn
        notes.append(note)
    elif val_fraction is not None:
        notes.append(f"--val-fraction has no effect: {shown(source)} has val images of its own")
    notes += same_images_notes({split: part.images for split, part in parts.items()})
    done = {split: part.encode(classes, several=read.several) for split, part in parts.items()}
    notes += [note for split in ("val", "test") if split in done for note in _absent(split, done[split])]
    return Splits(done["train"], done.get("val"), done.get("test"), tuple(notes))


def read_labelled(
    source: str | Path,
    split: str | None,
    classes: Sequence[str],
    *,
    label_separator: str | None = None,
    label_column: str | None = None,
    multi_label: bool,
    bands: Sequence[str] = (),
) -> LabelledImages:
    """Read the images of one split, labelled in a given order of classes; not all classes need occur.

    A class that differs only in Unicode form from one of `classes` is that one.

    All images are taken if `split` is None or the source is not split. Sources are as for
    `read_splits`, and so are `bands`; labels are (N, K) if `multi_label`, else (N,).

    Raises:
        UserError: the source has no such split, has classes that are not in `classes`, or several
            labels per image without `multi_label`.
    """
    source = Path(source)
    wanted = split_of(split) if split is not None else None
    if split is not None and wanted is None:
        raise UserError(f"no split is called '{shown(split)}': give train, val or test")
    read = _of_bands(_read(source, None, None, label_separator, label_column, multi_label, only=wanted), bands)
    if read.several and not multi_label:
        raise UserError(
            f"{shown(source)} has several labels per image, separated by '{shown(label_separator or SEPARATOR)}', and"
            " the model predicts one: give images with one label, or another --label-separator"
        )
    if wanted is None or "" in read.parts:
        part = _together(source, read.parts)
    elif wanted in read.parts:
        part = read.parts[wanted]
    else:
        there = listed(split_folders(source) if source.is_dir() else read.parts)
        raise UserError(f"{shown(source)} has no {wanted} images: give one of the splits it has ({there})")
    part = part.respelled(one_spelling({word for words in part.words for word in words}, classes))
    _check_classes(part, classes, shown(source), "the model")
    return part.encode(classes, several=multi_label)


def _of_bands(read: LabelSource, bands: Sequence[str]) -> LabelSource:
    """The same with one name for each image whose bands lie in files of their own."""
    if not bands:
        return read
    return replace(
        read, parts={name: part.subset(first_bands(part.images, bands)) for name, part in read.parts.items()}
    )


def _read(
    source: Path,
    group_column: str | None,
    group_pattern: str | None,
    label_separator: str | None,
    label_column: str | None,
    multi_label: bool,
    only: str | None = None,
) -> LabelSource:
    if group_column is not None and group_pattern is not None:
        raise UserError("both --group-column and --group-pattern: give one of them")
    if source.is_dir():
        if group_column is not None:
            raise UserError(f"--group-column is for a CSV file and {shown(source)} is a folder: give --group-pattern")
        if label_column is not None:
            raise UserError(
                f"--label-column is for a CSV file, and the classes of {shown(source)} are folders: leave it out"
            )
        read = replace(read_class_folders(source, only), several=multi_label)
    else:
        check_source(source, LABELLED)
        read = read_label_table(
            source,
            label_separator=label_separator,
            multi_label=multi_label,
            group_column=group_column,
            label_column=label_column,
        )
    if group_pattern is None:
        return read
    return replace(read, parts={split: grouped(part, group_pattern) for split, part in read.parts.items()})


def _in_one_form(source: Path, read: LabelSource) -> LabelSource:
    """The same with one spelling of every class and group, that of the training images if they have it."""
    notes = list(read.notes)
    what = "class folders" if source.is_dir() else "labels"
    known: tuple[str, ...] = ()
    parts: dict[str, WrittenLabels] = {}
    groups = one_spelling(group for part in read.parts.values() for group in part.groups or ())
    for split, part in sorted(read.parts.items(), key=lambda item: item[0] not in ("", "train")):
        words = {word for words in part.words for word in words}
        notes += forms_note(words, f"{split} of {shown(source)}" if split else shown(source), what)
        parts[split] = part.respelled(one_spelling(words, known), groups)
        if split in ("", "train"):
            known = tuple({word for words in parts[split].words for word in words})
    return replace(read, parts={split: parts[split] for split in read.parts}, notes=tuple(notes))


def _together(source: Path, parts: Mapping[str, WrittenLabels]) -> WrittenLabels:
    """All parts as one, their names relative to the folder that holds them."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    root = source if source.is_dir() else source.parent
    ignored: Counter[str] = Counter()
    for part in parts.values():
        ignored.update(part.images.ignored)
    prefixes = ["" if part.images.root == root else f"{part.images.root.name}/" for part in parts.values()]
    names = (
        f"{prefix}{name}" for prefix, part in zip(prefixes, parts.values(), strict=True) for name in part.images.names
    )
    words = (words for part in parts.values() for words in part.words)
    return WrittenLabels(ImageList(source, names, root, dict(sorted(ignored.items()))), words)


def _drawn(
    source: Path, read: LabelSource, train: WrittenLabels, val_fraction: float | None, seed: int
) -> tuple[dict[str, WrittenLabels], str]:
    """The training images without those drawn for `val`, these, and a note."""
    is_split = "" not in read.parts
    share = val_fraction if val_fraction is not None else 0.1 if is_split else 0.2
    drawn, note = split_off(train, share, seed)
    return drawn, f"{shown(source)} {'has no val' if is_split else 'is not split'}: {note}"


def _too_few(source: Path, train: WrittenLabels, classes: Sequence[str]) -> UserError:
    if not classes:
        return UserError(f"no image of {shown(source)} has a label: fill in its column of labels")
    if source.is_dir():
        return one_class(source, train.images, classes[0])
    return UserError(
        f"found only one class '{shown(classes[0])}' in {shown(source)}: add images of at least one other class"
    )


def _check_classes(part: WrittenLabels, classes: Sequence[str], where: str, whose: str) -> None:
    unknown = class_order({word for words in part.words.categories for word in words} - set(classes))
    if not unknown:
        return
    folded = {name.casefold(): name for name in classes}
    named: list[str] = []
    for name in unknown:
        close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.8) if len(named) < 10 else []
        named.append(f"'{name}' (for '{folded[close[0]]}'?)" if close else f"'{name}'")
    s, them = ("es", "them") if len(unknown) > 1 else ("", "it")
    raise UserError(
        f"{where}: {len(unknown)} class{s} that {whose} does not have, perhaps spelled differently: {listed(named)};"
        f" rename {them}, or take {them} out"
    )


def _beside(source: Path, read: LabelSource) -> list[str]:
    """Return a note if the given folder is one of several splits side by side."""
    others = splits_beside(source) if "" in read.parts and source.is_dir() else []
    return [f"not read: {listed(others)} beside {shown(source)}; give the folder above to use them"] if others else []


def _leaks(parts: Mapping[str, WrittenLabels]) -> list[str]:
    """Return a note for every two splits that share groups."""
    notes: list[str] = []
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if one in parts and other in parts:
            both = sorted(_groups(parts[one]) & _groups(parts[other]))
            if both:
                notes.append(
                    f"groups in both {one} and {other}: {len(both)} ({listed(both, 3)}); results on {other}"
                    " will be too optimistic"
                )
    return notes


def _groups(part: WrittenLabels) -> set[str]:
    return set(part.groups.categories if part.groups else ())


def _absent(split: str, data: LabelledImages) -> list[str]:
    absent = [name for name, count in zip(data.classes, data.counts().tolist(), strict=True) if not count]
    if not absent:
        return []
    return [f"{split} has no image of {len(absent)} of {len(data.classes)} classes: {listed(absent)}"]
