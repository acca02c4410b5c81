"""Paths in one buffer are the sequence of strings that they were, whatever bytes they hold."""

import hashlib
import os
import pickle
import subprocess
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnextv2.data.files import path_list
from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.data.files.path_list import PathList

PATHS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
        st.binary(max_size=9).map(lambda raw: raw.decode(errors="surrogateescape")),
        st.sampled_from(["", "\n", "a\n", "\nb", "é/\udcff.jpg"]),
    ),
    max_size=12,
)


@pytest.fixture(scope="module", params=[2, 2**14])
def block(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path_list, "_BLOCK", request.param)
        yield


@pytest.mark.usefixtures("block")
@given(paths=PATHS, data=st.data())
def test_it_is_the_sequence_of_strings(paths, data):
    kept = PathList(iter(paths))
    assert len(kept) == len(paths)
    assert list(kept) == paths
    assert [kept[index] for index in range(-len(paths), len(paths))] == paths + paths
    part = data.draw(st.slices(len(paths)))
    assert list(kept[part]) == paths[part]
    if paths:
        indices = data.draw(st.lists(st.integers(-len(paths), len(paths) - 1), max_size=20))
        assert list(kept[np.array(indices, np.int64)]) == [paths[index] for index in indices]
    assert kept.joined() == "\n".join(paths).encode(errors="surrogateescape")
    again = pickle.loads(pickle.dumps(kept))
    assert again == kept == tuple(paths) == kept == paths
    assert hash(again) == hash(kept) == hash(tuple(paths))
    assert kept != PathList([*paths, "one more"])
    assert kept != [*paths[:-1], "\t"]


@pytest.mark.parametrize("index", [3, -4])
def test_no_path_lies_outside(index):
    with pytest.raises(IndexError, match="of 3"):
        PathList("abc")[index]


def test_other_types():
    paths = PathList("abc")
    assert paths != "abc"
    assert paths != 3
    assert PathList(["a", "bc"]) != PathList(["ab", "c"])
    assert paths[np.int64(1)] == paths[np.array(1)] == "b"
    assert repr(PathList("abcde")) == "PathList(['a', 'b', 'c'] and 2 more)"
    with pytest.raises(AttributeError):
        paths.more = 1


def test_paths_take_their_bytes_and_nine_more(tmp_path, monkeypatch):
    monkeypatch.setattr(path_list, "_BLOCK", 2048)
    lines = tmp_path / "list.txt"
    with lines.open("w") as file:
        file.writelines(f"class-{number % 1000:04}/{number:08}.jpg\n" for number in range(10**5))
    (tmp_path / "class-0000").mkdir()
    (tmp_path / "class-0000" / "00000000.jpg").touch()
    tracemalloc.start()
    images = list_images(lines)
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert images.names.nbytes == 10**5 * (23 + 9) + 8
    assert size < 1.2 * images.names.nbytes  # room to grow, an eighth
    assert peak < 1.5 * images.names.nbytes
    assert images.names[54_321] == "class-0321/00054321.jpg"


def test_images_of_a_subset_and_the_pixels_behind_them(make_folder):
    images = make_folder(5)
    part = images.subset([4, 0, 4])
    assert part == ImageList(images.source, ("004.jpg", "000.jpg", "004.jpg"), images.root, images.ignored)
    assert part.path(2) == images.root / "004.jpg"
    assert len(images.subset(range(1, 3))) == 2


def test_a_walk_gives_the_order_of_sorted_paths(tmp_path):
    names = ["a", "a-b", "a.b", "a/b", "b/a", "b/a.jpg/c", "b/é", "c d/x", "c", "z/\ue000", os.fsdecode(b"z/\xff")]
    for name in names:
        for file in ("0.jpg", "z.jpg", "~.jpg"):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a" / "b" / "deep.jpg").touch()
    found = list_images(tmp_path).names
    expected = sorted(
        os.path.relpath(os.path.join(folder, file), tmp_path)
        for folder, _, files in os.walk(tmp_path)
        for file in files
    )
    assert list(found) == expected
    assert hashlib.sha256(found.joined()).digest() == hashlib.sha256(os.fsencode("\n".join(expected))).digest()


def test_a_walk_as_deep_as_paths_may_be(tmp_path):
    """Beyond the limit of recursion."""
    (tmp_path / "top").mkdir()
    here = os.open(tmp_path / "top", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("x.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    try:
        assert list(list_images(tmp_path / "top").names) == ["d/" * 1200 + "x.jpg"]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "top"], check=True)  # Python's own removal recurses
