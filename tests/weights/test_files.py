"""Tensor files: whole, safe, and caught when damaged."""

import os
import random

import pytest
import torch
from safetensors.torch import save_file

from convnextv2.atomic import write_atomically, write_text_atomically
from convnextv2.errors import LoadError, RunFailedError
from convnextv2.weights.files import load_tensors, save_tensors


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {
        "a.weight": torch.randn(3, 4),
        "b": torch.randn(5).bfloat16(),
        "count": torch.tensor(7.0),
        "empty": torch.zeros(0, 3),
        "view": torch.randn(4, 6).t(),
    }


def test_what_is_saved_comes_back_bitwise_with_its_metadata(tmp_path, tensors):
    save_tensors(tmp_path / "x.safetensors", tensors, {"architecture": "atto"})
    loaded, metadata = load_tensors(tmp_path / "x.safetensors")
    assert metadata["architecture"] == "atto"
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_every_flipped_bit_is_caught(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors, {"architecture": "atto"})
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded, _ = load_tensors(path)
        except LoadError:
            continue
        # Padding spaces of the header carry nothing: only such a flip may pass, and then nothing has changed.
        assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("keep", [0, 4, 50, 200])
def test_a_cut_file_is_refused_in_one_line(tmp_path, tensors, keep):
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LoadError, match="not a readable safetensors file"):
        load_tensors(path)


def test_a_file_of_others_and_a_missing_one_are_named(tmp_path, tensors):
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(LoadError, match="no content hash"):
        load_tensors(tmp_path / "foreign.safetensors")
    with pytest.raises(LoadError, match="no weights at"):
        load_tensors(tmp_path / "absent.safetensors")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "config.json"
    write_text_atomically(path, "old")

    def fail(partial):
        partial.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(RunFailedError, match=r"config.json could not be written: disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_who_may_read_a_file_is_what_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        save_tensors(tmp_path / "weights.safetensors", {"a": torch.ones(2)})
    finally:
        os.umask(before)
    assert (tmp_path / "weights.safetensors").stat().st_mode & 0o777 == 0o640
