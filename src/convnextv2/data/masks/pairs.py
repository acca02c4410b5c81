"""Which mask belongs to which image, in every usual layout of folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from convnextv2.data.files.folder import ImageList, is_folder, list_images, visible_entries
from convnextv2.data.files.path_list import PathList
from convnextv2.data.labels.labels import split_of
from convnextv2.errors import UserError
from convnextv2.text import listed, shown

IMAGES = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit")
"""What a folder of images beside one of masks may be called, in any case."""

MASKS = ("masks", "mask", "annotations", "labels", "label", "segmentationclass", "gt", "ground_truth", "gtfine")
"""What a folder of masks may be called, in any case."""

SUFFIXES = ("_mask", "-mask", "_label", "_labels", "_gt", "_seg", "_segmentation", "_L", "_gtFine_labelTrainIds")
"""What the name of a mask may have more than that of its image."""

_IMAGE_SUFFIXES = ("", "_leftImg8bit", "_image", "_img")

SCENES = "a folder of images and masks"
"""What a source of scenes is, in words."""

LAYOUT = (
    "train/images and train/masks (val, test likewise), or images and masks, or images/train and masks/train;"
    " or images beside a COCO instances.json"
)


@dataclass(frozen=True)
class Pairs:
    """Images and their mask files.

    images: those with a mask.  masks: of each, relative to `root`.  lonely: images without a mask.
    unused: masks without an image, relative to `root`.
    """

    images: ImageList
    masks: PathList
    root: Path
    lonely: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def subset(self, indices: Sequence[int]) -> Pairs:
        """Return the pairs at `indices`."""
        masks = PathList(self.masks[index] for index in indices)
        return Pairs(self.images.subset(indices), masks, self.root, self.lonely, self.unused)


@dataclass(frozen=True)
class Folders:
    """A folder of images and the folder of their masks; `masks` is None where a COCO json has them."""

    images: Path
    masks: Path | None
    annotations: Path | None = None


@dataclass(frozen=True)
class _Inside:
    """The folders in a folder, by lower-case name, and its json files."""

    path: Path
    folders: Mapping[str, str] = field(default_factory=dict)
    jsons: tuple[str, ...] = ()

    @staticmethod
    def of(path: Path) -> _Inside:
        entries = visible_entries(path)
        folders = {entry.name.lower(): entry.name for entry in entries if is_folder(entry)}
        return _Inside(path, folders, tuple(e.name for e in entries if e.name.lower().endswith(".json")))

    def one_of(self, names: Sequence[str]) -> Path | None:
        return next((self.path / self.folders[name] for name in names if name in self.folders), None)

    def splits(self) -> Iterator[tuple[str, Path]]:
        for lower, name in self.folders.items():
            if (split := split_of(lower.removesuffix("2017").removesuffix("2014"))) is not None:
                yield split, self.path / name


def find_folders(root: Path) -> dict[str, Folders]:
    """Return the folders of images and masks below `root`, by split; `""` for what is not split.

    Raises UserError if there are none, with the layouts that are known.
    """
    if not root.is_dir():
        raise UserError(f"{shown(root)} is no folder; give one that holds {LAYOUT}")
    top = _Inside.of(root)
    found: dict[str, Folders] = {}
    for split, path in top.splits():
        inside = _Inside.of(path)
        if (pair := _pair(inside)) or (pair := _with_json(inside)):
            found.setdefault(split, pair)
    images, masks = top.one_of(IMAGES), top.one_of(MASKS)
    if not found and images is not None and masks is not None:
        of_masks = dict(_Inside.of(masks).splits())
        found = {s: Folders(path, of_masks[s]) for s, path in _Inside.of(images).splits() if s in of_masks}
        if not found and not (_Inside.of(masks).jsons and not _Inside.of(masks).folders):
            found = {"": Folders(images, masks)}
    found = found or _coco(top)
    if not found and (alone := _with_json(top)):
        found = {"": alone}
    if not found:
        there = listed([*top.folders.values(), *top.jsons]) or "nothing"
        raise UserError(f"{shown(root)} holds {there}; segmentation reads {LAYOUT}")
    return found


def _pair(inside: _Inside) -> Folders | None:
    images, masks = inside.one_of(IMAGES), inside.one_of(MASKS)
    return None if images is None or masks is None else Folders(images, masks)


def _with_json(inside: _Inside) -> Folders | None:
    """A folder with one COCO json, and images beside it or in a folder beside it."""
    names = [name for name in inside.jsons if name.lower() not in ("classes.json", "info.json")]
    if len(names) != 1:
        return None
    return Folders(inside.one_of(IMAGES) or inside.path, None, inside.path / names[0])


def _coco(top: _Inside) -> dict[str, Folders]:
    """COCO's own layout: a json for each split, beside the images or in `annotations`."""
    places = [top, *([_Inside.of(top.path / top.folders["annotations"])] if "annotations" in top.folders else [])]
    found: dict[str, Folders] = {}
    for place in places:
        for name in place.jsons:
            words = PurePosixPath(name).stem.lower().replace("2017", "").replace("2014", "").split("_")
            split = next((s for word in words if (s := split_of(word)) is not None), None)
            if split is not None and not {"captions", "keypoints", "person"} & {*words}:
                images = dict(top.splits()).get(split) or top.one_of(IMAGES) or top.path
                within = dict(_Inside.of(images).splits()) if images.is_dir() else {}
                found.setdefault(split, Folders(within.get(split, images), None, place.path / name))
    return found


def match_pairs(folders: Folders) -> Pairs:
    """Match the images of a folder with the masks of another by their names without extension, below both folders.

    A mask's name may have one of `SUFFIXES` more.

    Raises UserError if nothing matches or two files have the same name.
    """
    assert folders.masks is not None
    images, masks = list_images(folders.images), list_images(folders.masks)
    stems = _by_stem(masks.names, folders.masks)
    own = _by_stem(images.names, folders.images)
    pairs = _matched(own, stems)
    if not pairs:
        raise UserError(
            f"no mask in {shown(folders.masks)} is called as an image in {shown(folders.images)}: the first image is"
            f" {shown(images.names[0])}, the first mask {shown(masks.names[0])}; give both the same name, as"
            " a.jpg and a.png"
        )
    kept = [index for index, name in enumerate(images.names) if name in pairs]
    used = {*pairs.values()}
    return Pairs(
        images.subset(kept),
        PathList(pairs[images.names[index]] for index in kept),
        folders.masks,
        tuple(name for name in images.names if name not in pairs),
        tuple(name for name in masks.names if name not in used),
    )


def _matched(images: Mapping[str, str], masks: Mapping[str, str]) -> dict[str, str]:
    """The mask of each image by name, under the way of naming that matches most of them."""
    best: dict[str, str] = {}
    for more in ("", *SUFFIXES):
        for less in _IMAGE_SUFFIXES:
            found = {
                name: masks[key]
                for stem, name in images.items()
                if stem.endswith(less) and (key := stem.removesuffix(less) + more) in masks
            }
            if len(found) > len(best):
                best = found
            if len(best) == len(images):
                return best
    return best


def _by_stem(names: Sequence[str], root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in found:
            twice = Counter(str(PurePosixPath(each).with_suffix("")) for each in names)
            count = sum(number > 1 for number in twice.values())
            raise UserError(
                f"{shown(root)} holds {shown(found[stem])} and {shown(name)}, which differ in their ending only"
                f"{f' (and {count - 1} more such names)' if count > 1 else ''}: which is meant? Keep one of them"
            )
        found[stem] = name
    return found
