"""Which pictures are kept for validation or left labelled: a share of every class, groups kept together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import fill, read, refusal, table

from convnextv2.data.files.folder import ImageList
from convnextv2.data.labels import draw
from convnextv2.data.labels.draw import split_off
from convnextv2.data.labels.labels import LabelledImages, WrittenLabels, few_labels
from convnextv2.errors import UserError


def test_groups_by_column_and_by_pattern_stay_together(tmp_path):
    rows = [f"{name}.png,{'xy'[number % 2]},{'ABCDE'[number // 2]}" for number, name in enumerate("abcdefghij")]
    source = table(tmp_path, "path,label,Patient", *rows)
    splits = read(source, group_column="patient")
    assert len(splits.val) == 2
    assert ord(splits.val.images.names[1][0]) - ord(splits.val.images.names[0][0]) == 1
    assert "2 of 10 images, 1 of 5 groups, were drawn" in splits.notes[0]
    assert "finds no group in 5 of 10 names (f.png, g.png, h.png and 2 more)" in refusal(
        source, group_pattern="([a-e])?"
    )
    folder = fill(tmp_path / "folder", a=10, b=10)
    splits = read(folder, group_pattern=r"[0-9]+")
    assert [name[1:] for name in splits.val.images.names[:2]] == [name[1:] for name in splits.val.images.names[2:]]
    assert "4 of 20 images, 2 of 10 groups, were drawn" in splits.notes[0]


def test_a_group_on_both_sides_of_a_split_is_noted(tmp_path):
    fill(tmp_path, train__a=3, train__b=3, val__a=2, val__b=2, test__a=4, test__b=1)
    splits = read(tmp_path, group_pattern=r"(\d+)\.png$")
    assert "groups in both train and val: 2 (0, 1)" in splits.notes[0]
    assert "groups in both train and test: 3 (0, 1, 2)" in splits.notes[1]
    assert "groups in both val and test: 2 (0, 1)" in splits.notes[2]
    assert read(tmp_path, group_pattern=r"^.").notes[0].startswith("groups in both train and val: 2 (a, b)")


def test_the_pattern_sees_the_name_below_the_root(tmp_path):
    rows = [f"{tmp_path}/{name}.png,{label}" for name, label in zip("abcd", "xyxy", strict=True)]
    message = refusal(table(tmp_path, "path,label", *rows), group_pattern=tmp_path.name)
    assert "4 of 4 names" in message


@st.composite
def labelled_pictures(draw, several=False) -> WrittenLabels:
    """Up to 60 pictures of up to 5 classes, in up to 60 groups or none."""
    count = draw(st.integers(2, 60))
    word = st.sampled_from("abcde")
    label = st.lists(word, max_size=3, unique=True) if several else word.map(lambda one: [one])
    words = draw(st.lists(label, min_size=count, max_size=count))
    group = st.integers(0, draw(st.integers(1, 59))).map(str)
    groups = draw(st.none() | st.lists(group, min_size=count, max_size=count).filter(lambda all: len(set(all)) > 1))
    names = tuple(f"{number:02}.png" for number in range(count))
    return WrittenLabels(
        ImageList(Path("x"), names, Path("x")), tuple(map(tuple, words)), tuple(groups) if groups else None
    )


def units_of(data, label):
    keys = data.groups or data.images.names
    return {key for key, words in zip(keys, data.words, strict=True) if label in words}


@settings(max_examples=150, deadline=None)
@given(data=labelled_pictures(), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99), shuffled=st.randoms())
def test_images_of_one_class_are_drawn_as_units_are(data: WrittenLabels, fraction, seed, shuffled):
    """Two ways to the same draw: by arrays, and by an object for each image."""
    rows = list(range(len(data)))
    shuffled.shuffle(rows)
    data = WrittenLabels(data.images.subset(rows), data.words[np.array(rows)])
    order = draw.in_order_of_names(data.images.names)
    assert [data.images.names[index] for index in order] == sorted(data.images.names)
    by_arrays = draw.draw_images(data.words.codes, order, fraction, seed)
    units = {name: {label: 1} for name, (label,) in zip(data.images.names, data.words, strict=True)}
    by_units = draw.draw_units(units, fraction, seed)
    assert {data.images.names[index] for index in np.flatnonzero(by_arrays)} == by_units
    assert draw.in_order_of_names([*data.images.names, data.images.names[0]]) is None


@settings(max_examples=150, deadline=None)
@given(
    data=st.booleans().flatmap(labelled_pictures),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
    shuffled=st.randoms(use_true_random=False),
)
def test_every_draw(data: WrittenLabels, fraction, seed, shuffled):
    parts, _ = split_off(data, fraction, seed)
    train, val = parts.get("train", data), parts.get("val", data.subset([]))
    names = data.images.names
    assert sorted([*train.images.names, *val.images.names]) == list(names)
    assert list(train.images.names) == sorted(train.images.names)
    assert list(val.images.names) == sorted(val.images.names)
    assert not set(train.groups or ()) & set(val.groups or ())
    for label in "abcde":
        units = units_of(data, label)
        assert units_of(train, label) | units_of(val, label) == units
        assert not units or units_of(train, label)
        if len(units) > 1 and data.groups is None and all(len(words) == 1 for words in data.words):
            drawn = sum(label in words for words in val.words)
            assert abs(drawn - fraction * len(units)) < 1
            assert 1 <= drawn < len(units)
    order = list(range(len(data)))
    shuffled.shuffle(order)
    again = split_off(data.subset(order), fraction, seed)[0].get("val", data.subset([]))
    assert set(again.images.names) == set(val.images.names)


def random_groups(seed: int, count: int, classes: int, groups: int) -> WrittenLabels:
    generator = torch.Generator().manual_seed(seed)
    words = tuple(("abcde"[number],) for number in torch.randint(0, classes, (count,), generator=generator).tolist())
    of = tuple(map(str, torch.randint(0, groups, (count,), generator=generator).tolist()))
    return WrittenLabels(ImageList(Path("x"), tuple(f"{n:04}.png" for n in range(count)), Path("x")), words, of)


@pytest.mark.parametrize("seed", [36, 106, 141])
def test_rounding_does_not_let_the_order_of_the_list_through(seed):
    """Sets where adding up the classes of a group in another order draws other groups."""
    data = random_groups(seed, 60, 5, 12)
    one, other = (split_off(some, 0.2, 0)[0]["val"] for some in (data, data.subset(range(60)[::-1])))
    assert set(one.images.names) == set(other.images.names)


@pytest.mark.parametrize("fraction", [0.1, 0.15, 0.3])
def test_groups_come_near_the_share_of_every_class(fraction):
    data = random_groups(5, 2000, 4, 150)
    val = split_off(data, fraction, 0)[0]["val"]
    for label in "abcd":
        assert abs(val.words.count((label,)) / data.words.count((label,)) - fraction) < 0.005


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=80),
    shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    seed=st.integers(0, 99),
    several=st.booleans(),
)
def test_few_labels_are_a_share_of_every_class_and_nested(labels, shares, seed, several):
    names = tuple(f"{number:02}.png" for number in range(len(labels)))
    numbers = torch.nn.functional.one_hot(torch.tensor(labels), 5).float() if several else torch.tensor(labels)
    data = LabelledImages(ImageList(Path("x"), names, Path("x")), numbers, tuple("abcde"))
    fewer, more = (few_labels(data, share, seed) for share in shares)
    for kept, share in ((fewer, shares[0]), (more, shares[1])):
        assert list(kept.images.names) == sorted(kept.images.names)
        assert all(
            torch.equal(kept.labels[i], data.labels[names.index(name)]) for i, name in enumerate(kept.images.names)
        )
        if several:
            assert len(kept) == max(1, round(share * len(labels)))
        else:
            wanted = [max(1, round(share * count)) if count else 0 for count in data.counts().tolist()]
            assert kept.counts().tolist() == wanted
    assert set(fewer.images.names) <= set(more.images.names)
    assert few_labels(data, 1, seed).images.names == names


def test_few_labels_depend_on_the_seed(tmp_path):
    data = read(fill(tmp_path, a=20, b=20), val_fraction=0).train
    assert few_labels(data, 0.3, 1).images.names == few_labels(data, 0.3, 1).images.names
    assert few_labels(data, 0.3, 1).images.names != few_labels(data, 0.3, 2).images.names
    for fraction in (0, -1, 1.01, float("nan")):
        with pytest.raises(UserError, match="above 0 and at most 1"):
            few_labels(data, fraction, 0)
