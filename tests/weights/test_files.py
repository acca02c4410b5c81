"""Tensor files: whole, safe, and caught when damaged."""

import json
import os
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from convnextv2.atomic import open_to_append, write_atomically, write_text_atomically
from convnextv2.errors import LoadError, RunFailedError, UserError
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


def test_partial_files_have_names_that_nobody_can_prepare_and_links_are_not_followed(tmp_path):
    victim, seen = tmp_path / "victim", []
    victim.write_text("precious")
    target = tmp_path / "target"
    target.symlink_to(victim)
    for _ in range(2):
        write_atomically(target, lambda partial: (seen.append(partial.name), partial.write_text("new")))
    assert len(set(seen)) == 2
    assert victim.read_text() == "precious"
    assert not target.is_symlink()
    assert target.read_text() == "new"
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(UserError, match=r"is a link to .*victim, and nothing is written through it"):
        open_to_append(tmp_path / "link")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\x00" * 100, "not a readable safetensors file: "),
        (b"\x30\x00\x00\x00\x00\x00\x00\x00{", "it is cut off within its header, at 9 bytes"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}x", "it has 1 bytes more than its tensors"),
        (b"\x03\x00\x00\x00\x00\x00\x00\x00{]}", "its header, which names its tensors, is damaged"),
    ],
    ids=range(5),
)
def test_why_a_file_cannot_be_read_is_said(tmp_path, content, said):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(LoadError, match=said):
        load_tensors(tmp_path / "x.safetensors")


def test_of_a_file_that_tells_the_first_damaged_tensor_is_named(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors, {"about": "this"}, running=True)
    whole = path.read_bytes()
    with safe_open(path, "pt") as file:
        assert {name: file.get_tensor(name).shape for name in file.keys()}.keys() == tensors.keys()  # noqa: SIM118
    header = 8 + int.from_bytes(whole[:8], "little")
    spans = {n: a["data_offsets"] for n, a in json.loads(whole[8:header]).items() if n != "__metadata__"}
    for name, (start, end) in spans.items():
        if start < end:
            damaged = bytearray(whole)
            damaged[header + start] ^= 1
            path.write_bytes(damaged)
            with pytest.raises(LoadError, match=rf"is damaged \(tensor {name}\): its content does not match"):
                load_tensors(path)
    path.write_bytes(whole.replace(b'"this"', b'"that"'))
    with pytest.raises(LoadError, match=r"is damaged \(its metadata\)"):
        load_tensors(path)
