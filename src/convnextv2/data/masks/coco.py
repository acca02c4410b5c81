"""COCO's objects drawn as a class for each pixel."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.data.masks.codes import SceneClasses, default_palette
from convnextv2.errors import UserError
from convnextv2.text import listed, one_line, shown

BACKGROUND = "background"
"""The class of pixels that no object covers."""

_LONGEST = 1 << 16  # pixels on a side of an image


class AnnotationError(ValueError):
    """An object that cannot be drawn: which, and why."""


@dataclass(frozen=True)
class CocoImage:
    """An image of a COCO file: its size, and what is on it.  fault: why it cannot be drawn; empty if it can."""

    width: int
    height: int
    objects: tuple[Mapping[str, Any], ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class CocoMasks:
    """The objects of a COCO file as masks.

    images: those that the file names and that are there.  about: of each.  classes: "background", then the categories
    in the order of their ids.  places: the class of a category's id.  lonely: images in the folder that the file does
    not name.  unused: names in the file without an image.
    """

    images: ImageList
    about: tuple[CocoImage, ...]
    classes: SceneClasses
    places: Mapping[int, int]
    lonely: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def draw(self, index: int) -> NDArray[np.int32]:
        """Draw the classes of an image, (H, W): large objects first, so that small ones lie on them.

        Raises AnnotationError for an object that cannot be drawn.
        """
        about = self.about[index]
        if about.fault:
            raise AnnotationError(about.fault)
        from faster_coco_eval.core import mask as coco  # takes a while, and most data sets are none of COCO's

        canvas = np.zeros((about.height, about.width), np.int32)
        drawn = []
        for each in about.objects:
            shape = coco.decode(_run_lengths(coco, each, about.height, about.width)).astype(bool)
            drawn.append((int(shape.sum()), self.places[each["category_id"]], shape))
        for _, place, shape in sorted(drawn, key=lambda each: -each[0]):
            canvas[shape] = place
        return canvas


def read_coco(path: Path, folder: Path) -> CocoMasks:
    """Read a COCO json and list the images that it names, in `folder`.

    An image without objects is all background. Raises UserError for a file that is no COCO json, names no image that
    is there, or has no categories.
    """
    said = _parsed(path)
    listed_images = list_images(folder)
    there = _by_name(listed_images.names)
    categories, places = _categories(path, said)
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for each in said["annotations"]:
        if isinstance(each, dict) and isinstance(each.get("image_id"), int):
            by_image.setdefault(each["image_id"], []).append(each)
    kept: list[int] = []
    about: list[CocoImage] = []
    unused: list[str] = []
    for each in said["images"]:
        name = str(each.get("file_name", "")) if isinstance(each, dict) else ""
        index = there.get(name, there.get(name.rpartition("/")[2]))
        if index is None:
            unused.append(name or "an image without file_name")
        elif index not in kept:
            kept.append(index)
            about.append(_image(each, by_image.get(each.get("id", -1), []), places))
    if not kept:
        raise UserError(
            f"{shown(path)} names {len(unused)} images and none is in {shown(folder)}, the first being"
            f" {shown(unused[0]) if unused else 'missing'}"
        )
    order = sorted(range(len(kept)), key=lambda place: kept[place])
    chosen = {*kept}
    names = (BACKGROUND, *categories)
    classes = SceneClasses(names, tuple(range(len(names))), ((0, 0, 0), *default_palette(len(names) - 1)))
    return CocoMasks(
        listed_images.subset([kept[place] for place in order]),
        tuple(about[place] for place in order),
        classes,
        places,
        tuple(name for index, name in enumerate(listed_images.names) if index not in chosen),
        tuple(unused),
    )


def _parsed(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {shown(path)} as JSON: {one_line(error)}") from None
    parts = ("images", "annotations", "categories")
    if not isinstance(said, dict) or not all(isinstance(said.get(part), list) for part in parts):
        raise UserError(f"{shown(path)} is no COCO json: it must have the lists {', '.join(parts)}")
    return said


def _by_name(names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        found.setdefault(name.rpartition("/")[2], index)
    return found | {name: index for index, name in enumerate(names)}


def _categories(path: Path, said: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Names in the order of the ids, and the class of each id."""
    try:
        found = sorted((int(each["id"]), str(each["name"])) for each in said["categories"])
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{shown(path)}: a category without id or name ({one_line(error)})") from None
    names = tuple(name for _, name in found)
    if not names or len({number for number, _ in found}) != len(found):
        raise UserError(f"{shown(path)}: {'no categories' if not names else 'two categories have the same id'}")
    if len({*names, BACKGROUND}) != len(names) + 1:
        raise UserError(f"{shown(path)}: categories of the same name ({listed(names)}), or one called {BACKGROUND}")
    return names, {number: place + 1 for place, (number, _) in enumerate(found)}


def _image(said: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], places: Mapping[int, int]) -> CocoImage:
    width, height = said.get("width"), said.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and 0 < width < _LONGEST and 0 < height < _LONGEST):
        return CocoImage(0, 0, fault=f"its width and height are {width!r} and {height!r} in the json"[:120])
    for each in objects:
        if fault := _fault(each, places, width, height):
            return CocoImage(width, height, fault=f"annotation {shown(str(each.get('id')))[:20]}: {fault}")
    return CocoImage(width, height, tuple(each for each in objects if each.get("segmentation")))


def _fault(said: Mapping[str, Any], places: Mapping[int, int], width: int, height: int) -> str:
    """Why an object cannot be drawn; empty if it can."""
    category, shape = said.get("category_id"), said.get("segmentation")
    if not isinstance(category, int) or category not in places:
        return f"category {shown(str(category))[:40]} is not in the json"
    if not shape:
        return "it has no segmentation, which a class for each pixel needs"
    if isinstance(shape, dict):
        size, counts = shape.get("size"), shape.get("counts")
        if size != [height, width]:
            return f"its mask is of {shown(str(size))[:40]} pixels, and the image of [{height}, {width}]"
        if isinstance(counts, list):
            whole = all(isinstance(count, int) and count >= 0 for count in counts)
            return "" if whole and sum(counts) == height * width else "its run lengths do not cover the image"
        return "" if isinstance(counts, str | bytes) else "its run lengths are missing"
    if not isinstance(shape, list) or not all(isinstance(part, list) for part in shape):
        return "its segmentation is neither polygons nor run lengths"
    for part in shape:
        if len(part) < 6 or len(part) % 2:
            return f"a polygon of {len(part)} numbers, which must be x and y of three points or more"
        if not all(isinstance(x, int | float) and math.isfinite(x) and abs(x) < _LONGEST for x in part):
            return "a polygon with what is no finite number"
    return ""


def _run_lengths(coco: Any, said: Mapping[str, Any], height: int, width: int) -> Any:
    """One object as the run lengths that the library draws."""
    shape = said["segmentation"]
    try:
        if isinstance(shape, list):
            return coco.merge(coco.frPyObjects([[float(x) for x in part] for part in shape], height, width))
        if isinstance(shape["counts"], list):
            return coco.frPyObjects(shape, height, width)
        counts = shape["counts"]
        _check_text(counts.encode("ascii", "replace") if isinstance(counts, str) else counts, height * width)
        return shape
    except AnnotationError:
        raise
    except Exception as error:  # of the library, of any type
        raise AnnotationError(f"annotation {said.get('id')}: {one_line(error)}") from None


def _check_text(counts: bytes, pixels: int) -> None:
    """Check compressed run lengths before a library without checks of its own unpacks them: 5 bits a character."""
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        part = character - 48
        if not 0 <= part < 64 or shift > 60:
            raise AnnotationError("its compressed run lengths are damaged")
        value |= (part & 31) << shift
        shift += 5
        if not part & 32:
            value -= (1 << shift) if part & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift or any(run < 0 for run in runs) or sum(runs) != pixels:
        raise AnnotationError("its compressed run lengths do not cover the image")
