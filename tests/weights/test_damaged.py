"""500 files that are broken or mean harm: refused in one line, nothing run, no memory eaten."""

import argparse
import ctypes
import io
import json
import os
import pickle
import random
import resource
import struct
import subprocess
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convnextv2.errors import LoadError
from convnextv2.models import create_model
from convnextv2.weights.files import save_tensors
from convnextv2.weights.load import read

SHAPE = {"model": "convnextv2_atto", "in_chans": 3, "stem_stride": 4, "depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}
MOST_MEMORY = 300 * 2**20  # more than this no refusal may take


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same small encoder as a file of ours, as another's safetensors, and as torch.save writes it."""
    folder = tmp_path_factory.mktemp("files")
    model = create_model("convnextv2_atto", depths=SHAPE["depths"], dims=SHAPE["dims"], num_classes=0)
    tensors = model.state_dict()
    about = {"image_size": "64", "preprocessing": json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3})}
    own, foreign, pickled = folder / "own.safetensors", folder / "foreign.safetensors", folder / "pickled.pt"
    save_tensors(own, tensors, {"format": "convnextv2.encoder.1", "encoder": json.dumps(SHAPE), **about})
    save_file(tensors, foreign, {"format": "pt"})
    torch.save({"model": tensors, "args": argparse.Namespace(lr=1.0), "epoch": 3}, pickled)
    for file in (own, foreign, pickled):
        assert len(read(file).tensors) == len(tensors)
    return own, foreign, pickled


class Harm:
    """Pickles as a call of anything."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def truncated(files, rng):
    content = rng.choice(files).read_bytes()
    return content[: rng.randrange(1, len(content))]


def flipped(files, rng):
    """One bit anywhere in a file of ours."""
    content = bytearray(files[0].read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def torn(files, rng):
    """Bytes overwritten where the structure is: the header, or the directory and the instructions of an archive."""
    file = rng.choice(files[1:])
    content = bytearray(file.read_bytes())
    if file.suffix == ".pt":
        with zipfile.ZipFile(file) as archive:
            place = rng.choice([archive.start_dir, content.index(b"\x80\x02")])
    else:
        place = rng.choice([0, 8, 200])
    content[place : place + 24] = rng.randbytes(24)
    return bytes(content)


def header(files, rng):
    """A length of the header that is not that of the header."""
    content = files[rng.randrange(2)].read_bytes()
    right = struct.unpack("<Q", content[:8])[0]
    wrong = rng.choice([0, 1, right - 8, right + 8, 2**31, 2**40, 2**63, 2**64 - 1, rng.randrange(2**64)])
    return struct.pack("<Q", wrong) + content[8:]


def hostile(files, rng):
    """What runs code when it is unpickled as usual, at the top, inside, or in place of a tensor."""
    mark = files[0].parent / "harm"
    harm = rng.choice(
        [
            Harm(os.system, f"touch {mark}"),
            Harm(eval, f"open({str(mark)!r}, 'w')"),
            Harm(exec, f"open({str(mark)!r}, 'w')"),
            Harm(subprocess.Popen, ["touch", str(mark)]),
            Harm(Path.touch, mark),
            Harm(bytearray, 2**36),  # 64 GiB; torch's own list of the harmless has it
            Harm(io.FileIO, str(mark), "w"),
        ]
    )
    content = rng.choice([harm, {"model": harm}, {"model": {"norm.weight": torch.ones(2), "norm.bias": harm}}])
    written = io.BytesIO()
    kind = rng.randrange(3)
    if kind == 0:
        pickle.dump(harm, written, protocol=rng.choice([0, 2, 4]))
    elif kind == 1:
        torch.save(content, written)
    else:  # a later protocol hides what it imports
        torch.save(content, written, pickle_protocol=4)
    return written.getvalue()


def bomb(files, rng):
    """An archive that is larger inside than outside."""
    written = io.BytesIO()
    with zipfile.ZipFile(files[2]) as archive, zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as out:
        swollen = rng.choice(archive.namelist())
        for name in archive.namelist():
            out.writestr(name, archive.read(name) + bytes(64 * 2**20 if name == swollen else 0))
    return written.getvalue()


def text(letters):
    return b"X" + struct.pack("<I", len(letters)) + letters


def repeated(levels, *, as_key):
    """A few hundred bytes that stand for 10^levels texts, to be printed, or for 2^levels numbers, to be hashed."""
    if as_key:
        found = b"\x80\x02Nq\x00"
        for level in range(levels):
            found += b"h%ch%c\x86q%c" % (level, level, level + 1)
        return found + b"}h%cNs." % levels
    found = b"\x80\x02" + text(b"a" * 100) + b"q\x00"
    for level in range(levels):
        found += b"(" + b"h%c" % level * 10 + b"tq%c" % (level + 1)
    return found + b"(" + text(b"storage") + b"ctorch\nFloatStorage\nh%c" % levels + text(b"cpu") + b"K\x01tQ."


def endless(files, rng):
    """Instructions that nest deep, are many, or stand for far more than they are, in an otherwise sound archive."""
    instructions = rng.choice(
        [
            repeated(rng.randrange(5, 12), as_key=False),
            repeated(rng.randrange(17, 60), as_key=True),
            b"\x80\x02" + b"]" * 10**6 + b".",
            b"\x80\x02" + b"(" * 10**6 + b".",
            b"\x80\x02" + b"N0" * (3 * 10**6) + b"N.",
            b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"a.",
            b"\x80\x02]" + b"(" + b"K\x01" * 10**6 + b"e.",
        ]
    )
    written = io.BytesIO()
    with zipfile.ZipFile(files[2]) as archive, zipfile.ZipFile(written, "w") as out:
        for name in archive.namelist():
            out.writestr(name, instructions if name.endswith("data.pkl") else archive.read(name))
    return written.getvalue()


KINDS = {truncated: 100, flipped: 120, torn: 80, header: 50, hostile: 90, bomb: 20, endless: 40}


def address_space():
    """Bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def little_memory():
    """Inside, the process may have only so much more address space than it has; to ask for more is an error."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # what earlier tests in this process have freed, and the C library has kept
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + MOST_MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def ran_out_of_memory(error):
    while error is not None:
        if isinstance(error, MemoryError) or any(word in str(error) for word in ("memory", "alloc", "mmap")):
            return True
        error = error.__cause__ or error.__context__
    return False


def test_too_much_memory_would_be_noticed():
    """The tests below could not fail otherwise."""
    with little_memory(), pytest.raises((MemoryError, RuntimeError)) as caught:
        torch.empty(address_space() + 2 * MOST_MEMORY, dtype=torch.uint8)  # more than freed memory could give
    assert ran_out_of_memory(caught.value)
    with little_memory(), pytest.raises(MemoryError) as caught:
        bytearray(address_space() + 2 * MOST_MEMORY)
    assert ran_out_of_memory(caught.value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damaged_files_are_refused(kind, files, tmp_path):
    assert sum(KINDS.values()) == 500
    rng = random.Random(kind.__name__)
    unharmed = {file: file.read_bytes() for file in files}
    for number in range(KINDS[kind]):
        file = tmp_path / f"{number}.bin"
        file.write_bytes(kind(files, rng))
        assert file.read_bytes() not in unharmed.values()
        with little_memory(), pytest.raises(LoadError) as caught:
            read(file)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 2500
        assert not ran_out_of_memory(caught.value)
        file.unlink()
    assert not (files[0].parent / "harm").exists()


def test_the_hostile_files_would_have_run(files, tmp_path):
    """The test above could not fail otherwise."""
    file = tmp_path / "harm.pt"
    mark = tmp_path / "mark"
    torch.save({"model": Harm(Path.touch, mark)}, file)
    with pytest.raises(LoadError, match=r"would run"):
        read(file)
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()


def test_a_refusal_says_one_thing(files, tmp_path):
    file = tmp_path / "bomb.pt"
    file.write_bytes(bomb(files, random.Random(0)))
    with pytest.raises(LoadError, match=rf"^{file} is refused: it would unpack to more than its own [\d,]+ bytes$"):
        read(file)


def test_what_is_shared_in_sound_files_is_no_harm(files, tmp_path):
    """An optimiser's groups share their lists and tuples, and a long text may be there once."""
    shared = (0.9, 0.999)
    groups = [{"betas": shared, "params": list(range(100)), "lr": 1e-3} for _ in range(400)]
    tensors, notes = dict(read(files[2]).tensors), argparse.Namespace(notes="x" * 10**6)
    torch.save({"model": tensors, "optimizer": {"param_groups": groups}, "args": notes}, tmp_path / "a.pt")
    assert len(read(tmp_path / "a.pt").tensors) == len(tensors)


def test_two_directories_in_one_archive_are_refused(files, tmp_path):
    """Python's reader finds the last directory, torch's the one that the end names."""
    good, file = files[2].read_bytes(), tmp_path / "two.pt"
    hostile_pickle = b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."
    written = io.BytesIO()
    with zipfile.ZipFile(files[2]) as archive, zipfile.ZipFile(written, "w") as out:
        for name in archive.namelist():
            out.writestr(name, hostile_pickle if name.endswith("data.pkl") else archive.read(name))
    evil = written.getvalue()
    evil = evil[: evil.rindex(b"PK\x05\x06")]
    file.write_bytes(evil + good)  # python makes up for what stands before; the offsets are those of the second alone
    with zipfile.ZipFile(file) as archive:
        assert hostile_pickle not in [archive.read(name) for name in archive.namelist()]
    with pytest.raises(LoadError, match=r"is refused: it holds two directories|is damaged"):
        read(file)


def test_a_tensor_that_claims_more_than_its_record_is_refused(tmp_path):
    """A view that repeats one number a billion times is small on disk."""
    file = tmp_path / "large.pt"
    torch.save({"model": {"norm.weight": torch.ones(1).expand(2**34)}}, file)
    with pytest.raises(LoadError, match=r"its tensors are larger than the file"):
        read(file)


def test_a_flipped_value_in_a_foreign_file_is_not_found(files, tmp_path):
    """As the documents say: only a known checksum would tell."""
    content = bytearray(files[1].read_bytes())
    content[-1] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(content)
    read(tmp_path / "flipped.safetensors")
