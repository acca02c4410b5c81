"""The ledger of unreadable files."""

import json

import pytest

from convnextv2.data.files.folder import ImageList
from convnextv2.data.loading.bad_images import BadImages
from convnextv2.errors import RunFailedError


@pytest.fixture
def images(tmp_path):
    return ImageList(tmp_path, tuple(f"{i}.jpg" for i in range(10)), tmp_path)


def test_each_file_is_told_of_once(images):
    lines = []
    ledger = BadImages(images, 0.3, lines.append)
    ledger.add([(3, "truncated"), (5, "empty"), (3, "truncated")])
    ledger.add(((5, "empty"),))
    ledger.add([])
    assert lines == ["skipped 3.jpg: truncated", "skipped 5.jpg: empty"]
    assert len(ledger) == 2


def test_the_limit_itself_is_allowed_and_one_more_is_not(images):
    ledger = BadImages(images, 0.3, lambda line: None)
    ledger.add((i, "r") for i in range(3))
    with pytest.raises(RunFailedError) as caught:
        ledger.add([(9, "empty")])
    message = str(caught.value)
    assert "\n" not in message
    for part in ("4 of 10", "0.3", "0.jpg: r", "9.jpg: empty", "max_bad_fraction"):
        assert part in message
    assert "..." not in message


@pytest.mark.parametrize(("images", "allowed"), [(9, 0), (10, 1), (29, 2), (50, 3), (299, 3), (500, 5)])
def test_a_few_of_a_small_folder_may_be_bad(images, allowed, tmp_path):
    names = tuple(f"{i}.jpg" for i in range(images))
    ledger = BadImages(ImageList(tmp_path, names, tmp_path), 0.01, lambda line: None)
    ledger.add((i, "r") for i in range(allowed))
    with pytest.raises(RunFailedError):
        ledger.add([(images - 1, "r")])


def test_at_most_five_examples(images):
    ledger = BadImages(images, 0.0, lambda line: None)
    with pytest.raises(RunFailedError) as caught:
        ledger.add((i, "r") for i in range(7))
    message = str(caught.value)
    assert "4.jpg" in message
    assert "5.jpg" not in message
    assert "..." in message


def test_everything_may_be_bad_where_that_is_allowed(images):
    ledger = BadImages(images, 1.0, lambda line: None)
    ledger.add((i, "r") for i in range(10))
    assert len(ledger) == 10


def test_state_survives_json_and_is_not_told_again(images):
    first = BadImages(images, 0.2, lambda line: None)
    first.add([(4, "empty"), (1, "truncated")])
    lines = []
    second = BadImages(images, 0.2, lines.append)
    second.load(json.loads(json.dumps(first.state())))
    assert second.state() == first.state() == [(4, "empty"), (1, "truncated")]
    second.add([(1, "truncated")])
    assert lines == []
    with pytest.raises(RunFailedError):
        second.add([(2, "empty")])
