"""Images with labels: as written in the source, and as numbers in a fixed order of classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnextv2.data.files.folder import ImageList
from convnextv2.data.labels.categorical import Categorical
from convnextv2.data.loading.order import mix
from convnextv2.errors import UserError

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """N images in a fixed order, and which of K classes they show.

    `labels` is int64 (N,), the number of each image's class; or float32 (N, K) of 0 and 1 if an
    image may show several classes, or none. The number of a class is its place in `classes`.
    """

    images: ImageList
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        wide = (len(self.images), len(self.classes))
        assert self.labels.shape == wide[: self.labels.ndim], (self.labels.shape, wide)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def multi_label(self) -> bool:
        """Whether an image may show several classes."""
        return self.labels.ndim == 2

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> LabelledImages:
        """Return the images at `indices`, in that order, with the same root and classes."""
        rows = torch.from_numpy(np.array(indices, np.int64))
        return replace(self, images=self.images.subset(indices), labels=self.labels[rows])

    def counts(self) -> Tensor:
        """Return the number of images that show each class, int64 (K,)."""
        if self.multi_label:
            return self.labels.sum(0, dtype=torch.float64).long()
        return torch.bincount(self.labels, minlength=len(self.classes))


def few_labels(data: LabelledImages, fraction: float, seed: int) -> LabelledImages:
    """Return a share of the images of every class, as if only few of them had been labelled: those of `draw_few`."""
    return data.subset(draw_few(data, fraction, seed))


def draw_few(data: LabelledImages, fraction: float, seed: int) -> NDArray[np.int64]:
    """Draw a share of the images of every class; return their indices, in ascending order.

    `fraction` of each class is kept, rounded, and at least one image; of all images together
    if they may show several classes. The draw depends only on the seed, a smaller share is part of
    a larger one, and the kept images stay in the order of the list.

    Raises:
        UserError: the fraction is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"{fraction:g} of the labels: give a fraction above 0 and at most 1, such as 0.1")
    generator = torch.Generator().manual_seed(mix(seed, *b"few labels"))
    order = torch.randperm(len(data), generator=generator)
    if data.multi_label:
        members = [order]
    else:
        by_class = torch.argsort(data.labels[order], stable=True)
        members = order[by_class].split(data.counts().tolist())
    kept = [drawn[: max(1, round(fraction * len(drawn)))] for drawn in members]
    return torch.cat(kept).sort().values.numpy()


@dataclass(frozen=True, init=False)
class WrittenLabels:
    """Images and the labels found for them, as text.

    `words` holds the labels of each image; `groups`, if there are any, the name of the group that it
    belongs to (the same patient, the same video).
    """

    images: ImageList
    words: Categorical[tuple[str, ...]]
    groups: Categorical[str] | None

    def __init__(
        self, images: ImageList, words: Iterable[tuple[str, ...]], groups: Iterable[str] | None = None
    ) -> None:
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "words", words if isinstance(words, Categorical) else Categorical(words))
        if groups is not None and not isinstance(groups, Categorical):
            groups = Categorical(groups)
        object.__setattr__(self, "groups", groups)

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> WrittenLabels:
        """Return the images at `indices`, in that order."""
        rows = np.asarray(indices, np.int64)
        groups = None if self.groups is None else self.groups[rows]
        return WrittenLabels(self.images.subset(rows), self.words[rows], groups)

    def respelled(self, words: Mapping[str, str], groups: Mapping[str, str] | None = None) -> WrittenLabels:
        """Return the same with other names for some labels and groups, given by name; an image has each label once."""
        if not words and not groups:
            return self
        spelled = tuple(tuple(dict.fromkeys(words.get(word, word) for word in each)) for each in self.words)
        named = self.groups and tuple((groups or {}).get(group, group) for group in self.groups)
        return WrittenLabels(self.images, spelled, named)

    def encode(self, classes: Sequence[str], *, several: bool) -> LabelledImages:
        """Return the labels as numbers; `several` allows any number of labels per image. `classes` holds every word."""
        number = {name: index for index, name in enumerate(classes)}
        written = self.words.categories
        if several:
            labels = torch.zeros(len(written), len(classes))
            for row, words in enumerate(written):
                labels[row, [number[word] for word in words]] = 1
        else:
            labels = torch.tensor([number[word] for (word,) in written], dtype=torch.int64)
        return LabelledImages(self.images, labels[torch.from_numpy(self.words.codes).long()], tuple(classes))


@dataclass(frozen=True)
class LabelSource:
    """What a folder or a table holds: images by "train", "val" and "test", or all of them by "" if it is not split.

    `several` is True if an image may have several labels, or none; `notes` are for the user, a line each.
    """

    parts: Mapping[str, WrittenLabels]
    several: bool = False
    notes: tuple[str, ...] = ()


def split_of(name: str) -> str | None:
    """Return `train`, `val` or `test` for one of their names, in any case; None for any other name."""
    return _SPLIT_NAMES.get(name.casefold())


def class_order(words: Iterable[str]) -> tuple[str, ...]:
    """Sort class names by code point, as torchvision's ImageFolder does; by value if all are whole numbers."""
    names = set(words)
    if all(re.fullmatch(r"[+-]?[0-9]{1,18}", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
