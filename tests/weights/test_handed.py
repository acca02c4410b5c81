"""What people hand it: each file says what must be loaded of it, or how it is refused."""

import argparse
import collections
import datetime
import decimal
import enum
import fractions
import functools
import gzip
import json
import os
import pathlib
import re
import subprocess
import types
import uuid
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import randomise
from safetensors.torch import save_file

from convnextv2.errors import LoadError, Notice
from convnextv2.models import create_model
from convnextv2.weights.layouts.recognise import LAYOUTS
from convnextv2.weights.layouts.timm import TIMM_CONV_MLP
from convnextv2.weights.layouts.transformers import TRANSFORMERS_V1
from convnextv2.weights.load import read

DEPTHS, DIMS = (1, 1, 2, 1), (8, 16, 24, 32)
LAYOUT = {layout.name: layout for layout in LAYOUTS} | {"timm-conv": TIMM_CONV_MLP, "transformers-v1": TRANSFORMERS_V1}


def weights(name: str = "convnextv2_tiny", classes: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(randomise(create_model(name, num_classes=classes, depths=DEPTHS, dims=DIMS)).state_dict())


V2, V1 = weights(), weights("convnext_tiny")
V2_ENCODER, V1_ENCODER = weights(classes=0), weights("convnext_tiny", classes=0)
WITHOUT_NORM = {name: t for name, t in V2_ENCODER.items() if not name.startswith("norm.")}
NEW_NORM = WITHOUT_NORM | {"norm.weight": torch.ones(32), "norm.bias": torch.zeros(32)}


@dataclass
class File:
    """A file to be read.

    content: for `torch.save`; or a function that writes into a folder and returns what to read.  loads: the tensors
    that it must give.  says: of the notice, if there must be one.  refused: or else the error.
    """

    id: str
    content: Any
    loads: dict[str, torch.Tensor] | None = None
    says: str = ""
    refused: str = ""
    protocol: int = 2


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def written(layout, tensors):
    return LAYOUT[layout].write(tensors)


# --- wrappers --------------------------------------------------------------------------------------------------------

WRAPPERS = [
    ("module.", "official"),
    ("_orig_mod.", "timm"),
    ("_orig_mod.module.", "official"),
    ("module._orig_mod.", "transformers"),
    ("model.", "official"),
    ("model.model.", "timm-conv"),
    ("net.module._orig_mod.", "mmpretrain"),
    ("backbone.", "official"),
    ("backbone.", "torchvision"),
    ("encoder.", "official"),
    ("student.backbone.", "official"),
    ("visual.trunk.", "timm"),
    ("model.image_encoder.trunk.", "timm"),
    ("lightning_module.model.backbone.", "birder"),
    ("classifier.", "official"),
]
FILES = [
    File(f"{prefix}{layout}", under(prefix, written(layout, own)), own)
    for prefix, layout in WRAPPERS
    for own in [V1 if layout == "torchvision" else V2]
]
FILES += [
    File("averaged-model", under("module.", V2) | {"n_averaged": torch.tensor(3)}, V2),
    File(
        "teacher-before-student",
        under("student.backbone.", under("", V2_ENCODER))
        | under("teacher.backbone.", {n: t + 1 for n, t in V2_ENCODER.items()}),
        {n: t + 1 for n, t in V2_ENCODER.items()},
        r"below 'teacher.backbone.' is taken; \d+ other",
    ),
    File(
        "distributed-lightning",
        {"state_dict": under("model.", V2) | {"loss.weight": torch.ones(3), "metric.total": torch.tensor(1)}},
        V2,
        "below 'model.' is taken; 2 other tensors are left out: loss.weight, metric.total",
    ),
]

# --- layouts ---------------------------------------------------------------------------------------------------------

NO_HEAD = {name: tensor for name, tensor in V2.items() if not name.startswith(("norm.", "head."))}
FILES += [
    File("official-v2", V2, V2),
    File("official-v1", V1, V1),
    File("minkowski", written("minkowski", NO_HEAD), NO_HEAD | {n: NEW_NORM[n] for n in ("norm.weight", "norm.bias")}),
    File("timm-linear", written("timm", V2), V2),
    File("timm-convolutions", written("timm-conv", V1), V1),
    File("timm-features", written("timm-features", WITHOUT_NORM), NEW_NORM),
    File("transformers-v2", written("transformers", V2), V2),
    File("transformers-v1", written("transformers-v1", V1), V1),
    File("transformers-dinov3", written("transformers-dinov3", V1_ENCODER), V1_ENCODER),
    File(
        "transformers-4-dinov3",
        {n.removeprefix("model."): t for n, t in written("transformers-dinov3", V1_ENCODER).items()},
        V1_ENCODER,
    ),
    File("mmpretrain", written("mmpretrain", V2), V2),
    File(
        "mmpretrain-backbone-alone",
        {n.removeprefix("backbone."): t for n, t in written("mmpretrain", V2_ENCODER).items()},
        V2_ENCODER,
    ),
    File("birder", {"state": written("birder", V2)}, V2),
    File("torchvision", written("torchvision", V1), V1),
]

# --- containers ------------------------------------------------------------------------------------------------------

PLUS_ONE = {name: tensor + 1 for name, tensor in V2.items()}
ADAM = {
    "state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(1.0)}},
    "param_groups": [{"lr": 0.1, "params": [0]}],
}
FILES += [
    *(
        File(f"in-{key}", {key: V2, "optimizer": ADAM, "epoch": 3}, V2)
        for key in ("model", "state_dict", "model_state_dict", "state", "net", "params")
    ),
    File("in-two", {"model": {"backbone": V2}}, V2),
    File("in-three", {"checkpoint": {"state": {"module": V2}}}, V2),
    File("an-ema-beside", {"model": V2, "model_ema": PLUS_ONE}, PLUS_ONE),
    File("another-ema-beside", {"state_dict": V2, "ema": under("module.", PLUS_ONE)}, PLUS_ONE),
    File("an-ema-of-no-weights", {"model": V2, "ema": {"decay": torch.tensor(0.9)}}, V2),
    File(
        "dino",
        {"teacher": under("backbone.", PLUS_ONE) | {"dino_head.mlp.0.weight": torch.ones(2, 2)}},
        PLUS_ONE,
        "1 other tensor",
    ),
    File("protocol-4", {"model": V2, "path": Path("/data")}, V2, protocol=4),
    File("protocol-5", {"model": V2, "path": Path("/data")}, V2, protocol=5),
    File("parameters", {"model": {name: torch.nn.Parameter(tensor) for name, tensor in V2.items()}}, V2),
    File(
        "half",
        {name: tensor.half() for name, tensor in V2.items()},
        {name: tensor.half() for name, tensor in V2.items()},
    ),
    File("views-of-one-storage", {"model": {n: torch.stack([t, t + 1])[0] for n, t in V2.items()}}, V2),
]


def shards(kind, index, parts=3, spoil=None):
    """Write a model in parts, as transformers and accelerate do; return the folder."""

    def write(folder):
        theirs = written("transformers", V2)
        names, where = sorted(theirs), {}
        for part in range(parts):
            file = f"{index.partition('.')[0]}-{part + 1:05d}-of-{parts:05d}.{kind}"
            some = {name: theirs[name] for name in names[part::parts]}
            where |= dict.fromkeys(some, file)
            save_file(some, folder / file) if kind == "safetensors" else torch.save(some, folder / file)
        if spoil is not None:
            spoil(folder, where)
        (folder / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
        return folder

    return write


def part_of(write, name):
    return lambda folder: write(folder) / name


def safetensors(name):
    def write(folder):
        save_file(V2, folder / name)
        return folder

    return write


SAFE = shards("safetensors", "model.safetensors.index.json")
FILES += [
    File("shards-safetensors", SAFE, V2),
    File("shards-bin", shards("bin", "pytorch_model.bin.index.json"), V2),
    File("shards-fp16", shards("safetensors", "model.safetensors.index.fp16.json"), V2),
    File("an-index-itself", part_of(SAFE, "model.safetensors.index.json"), V2),
    File(
        "one-of-one", part_of(shards("bin", "pytorch_model.bin.index.json", 1), "pytorch_model-00001-of-00001.bin"), V2
    ),
    File("fp16-safetensors", safetensors("model.fp16.safetensors"), V2),
    File(
        "one-shard",
        part_of(SAFE, "model-00002-of-00003.safetensors"),
        refused=r"is one of 3 parts of a model: give the folder .* or model.safetensors.index.json",
    ),
    File(
        "a-shard-missing",
        shards(
            "safetensors",
            "model.safetensors.index.json",
            spoil=lambda folder, _: (folder / "model-00002-of-00003.safetensors").unlink(),
        ),
        refused=r"names files that are not beside it: model-00002-of-00003.safetensors",
    ),
    File(
        "a-shard-elsewhere",
        shards(
            "safetensors", "model.safetensors.index.json", spoil=lambda _, where: where.update({"x": "../../secret"})
        ),
        refused=r"is no index of weights \(it names ../../secret, which is no file beside it\)",
    ),
    File(
        "a-shard-of-another-model",
        shards("safetensors", "model.safetensors.index.json", spoil=lambda _, where: where.pop("classifier.bias")),
        refused=r"do not belong together: they differ in classifier.bias",
    ),
    File(
        "no-index",
        lambda folder: (folder / "a.bin.index.json").write_text("[]") and folder / "a.bin.index.json",
        refused="is no index of weights",
    ),
]

# --- detectors, segmenters, and what distillation leaves -------------------------------------------------------------

NORMS = {f"norm{stage}.{leaf}": torch.ones(DIMS[stage]) for stage in range(4) for leaf in ("weight", "bias")}
NECK = {f"neck.convs.{i}.weight": torch.ones(1) for i in range(200)} | {"rpn_head.bias": torch.ones(1)}
MMPRETRAIN = written("mmpretrain", WITHOUT_NORM)
FOUR = {
    f"hidden_states_norms.stage{s + 1}.{leaf}": torch.ones(DIMS[s]) for s in range(4) for leaf in ("weight", "bias")
}
BACKBONE = {n.removeprefix("convnextv2."): t for n, t in written("transformers", WITHOUT_NORM).items()}
ALIAS = {f"norms.3.{leaf}": V1_ENCODER[f"norm.{leaf}"] for leaf in ("weight", "bias")}
FILES += [
    File(
        "mmdetection",
        {"state_dict": under("backbone.", WITHOUT_NORM | NORMS) | NECK},
        NEW_NORM,
        "below 'backbone.' is taken; 209 other",
    ),
    File(
        "mmdetection-of-mmpretrain",
        {"state_dict": MMPRETRAIN | under("backbone.", NORMS) | NECK},
        NEW_NORM,
        "below 'backbone.' is taken; 209 other",
    ),
    File(
        "mmdetection-distributed",
        under("module.backbone.", WITHOUT_NORM | NORMS) | under("module.", NECK),
        NEW_NORM,
        "209 other",
    ),
    File("transformers-backbone", BACKBONE | FOUR, NEW_NORM, "8 other tensors are left out: hidden_states_norms"),
    File(
        "transformers-upernet",
        under("backbone.", BACKBONE | FOUR) | {"decode_head.classifier.bias": torch.ones(2)},
        NEW_NORM,
        "9 other tensors",
    ),
    File(
        "smp",
        under("encoder.model.", written("timm-features", WITHOUT_NORM))
        | {"decoder.blocks.0.conv.weight": torch.ones(2)},
        NEW_NORM,
        "1 other tensor",
    ),
    File("dinov3", V1_ENCODER | ALIAS, V1_ENCODER),
    File("dinov3-deduplicated", {n: t for n, t in V1_ENCODER.items() if not n.startswith("norm.")} | ALIAS, V1_ENCODER),
    File(
        "eupe",
        V1_ENCODER | ALIAS | {f"projectors.{i}.mlp.0.weight": torch.ones(2, 2) for i in range(5)},
        V1_ENCODER,
        "5 other tensors are left out: projectors.0",
    ),
    File(
        "dinov3-changed",
        V1_ENCODER | {n: t + 1 for n, t in ALIAS.items()},
        refused=r"norms.3.weight is a second name of norm.weight, and they differ",
    ),
    File(
        "detector-without-one-tensor",
        {
            n: t
            for n, t in (under("backbone.", WITHOUT_NORM) | NECK).items()
            if n != "backbone.stages.2.1.dwconv.weight"
        },
        refused=r"missing: backbone.stages.2.1.dwconv.weight",
    ),
    File(
        "detector-of-mmpretrain-without-one-tensor",
        {n: t for n, t in (MMPRETRAIN | NECK).items() if n != "backbone.stages.2.1.depthwise_conv.weight"},
        refused=r"missing: backbone.stages.2.1.depthwise_conv.weight\.",
    ),
    File(
        "a-final-norm-of-timms-other-kind",
        written("timm", V2) | {"norm_pre.weight": torch.ones(32)},
        refused="unexpected: norm_pre.weight",
    ),
]

# --- one more entry, useless and harmless ----------------------------------------------------------------------------


class Reduced:
    """Pickled as a call of anything."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


class Mode(enum.Enum):
    TRAIN = "train"


@dataclass
class Settings:
    lr: float
    mode: Mode


class Attributes(dict):
    """As yacs, easydict and others have their settings."""

    def __init__(self, **given):
        super().__init__(**given)
        self.__dict__.update(given)


class Several(list):
    pass


class Node:
    """As omegaconf has its settings: each knows its parent, and its state is made by hand."""

    def __init__(self, parent, **content):
        self.parent, self.content = (
            parent,
            {name: Node(self, value=value) for name, value in content.items() if parent is None},
        )

    def __getstate__(self):
        return {"_parent": self.parent, "_content": self.content, "_metadata": {"ref_type": Any, "key_type": str}}

    def __setstate__(self, state):
        raise AssertionError("nothing of theirs is called")


class Slots:
    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name


class OfArrays:
    """As mmengine keeps its log: arrays, and its own methods by name."""

    def __init__(self):
        self.log, self.methods = np.arange(3.0), {"least": Slots.__init__}


def attributes(items):
    found = Attributes()
    found.update(items)
    return found


UTC = datetime.UTC
HARMLESS = {
    "posix-path": pathlib.PosixPath("/data/images"),
    "windows-path": Reduced(pathlib.WindowsPath, "C:", "data"),
    "pure-paths": (pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("b"), Reduced(pathlib.PurePath, "c")),
    "path-as-key": {pathlib.Path("a"): 1},
    "numpy-numbers": (np.float64(0.5), np.int64(3), np.float32(1), np.bool_(True), np.str_("a")),
    "numpy-array": np.arange(6.0).reshape(2, 3),
    "numpy-dtype": (np.dtype("float32"), np.float32),
    "numpy-random-state": (np.random.RandomState(0).get_state(), np.random.default_rng(0)),
    "torch-device": torch.device("cuda:0"),
    "torch-dtype": (torch.float16, torch.bfloat16, torch.int8),
    "torch-size": torch.Size([2, 3]),
    "torch-version": torch.__version__,
    "torch-layout": torch.strided,
    "torch-random-state": torch.get_rng_state(),
    "tensors-of-new-types": (torch.ones(2, dtype=torch.uint16), torch.ones(2).to(torch.float8_e4m3fn)),
    "collections": (
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.Counter("aab"),
        collections.deque([1]),
    ),
    "dates": (
        datetime.datetime(2026, 1, 1, tzinfo=UTC),
        datetime.date(2026, 1, 1),
        datetime.timedelta(1),
        datetime.time(1),
    ),
    "uuid": uuid.UUID(int=5),
    "exact-numbers": (decimal.Decimal("0.1"), fractions.Fraction(1, 3), 1 + 2j, 2**100),
    "namespaces": (argparse.Namespace(lr=1.0, path=Path("a")), types.SimpleNamespace(lr=1.0)),
    "sets": ({1, 2}, frozenset({"a"}), slice(1, 2), range(3)),
    "bytes": b"\x00\xff",
    "dataclass": Settings(0.1, Mode.TRAIN),
    "enumeration": Mode.TRAIN,
    "dictionary-of-a-class": Attributes(model=Attributes(name="tiny"), lr=0.1),
    "list-of-a-class": Several([1, 2]),
    "settings-that-know-their-parent": Node(None, lr=0.1, name="tiny"),
    "slots": Slots("a"),
    "log-of-arrays": OfArrays(),
    "partial": functools.partial(torch.nn.LayerNorm, eps=1e-6),
    "class": (torch.nn.GELU, torch.nn.functional.gelu),
    "module": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.GELU()),
}
FILES += [File(f"beside-{name}", {"model": V2, "beside": value}, V2) for name, value in HARMLESS.items()]
FILES += [File("a-dictionary-of-a-class-of-weights", {"state_dict": attributes(V2)}, V2)]
FILES += [File("weights-in-a-dictionary-of-a-class", Attributes(model=V2, lr=0.1), V2)]
FILES += [
    File(f"protocol-4-beside-{name}", {"model": V2, "beside": HARMLESS[name]}, V2, protocol=4)
    for name in ("dates", "dataclass", "sets")
]

# --- refused ---------------------------------------------------------------------------------------------------------


def taken_from(module, *names):
    """A pickle that takes a function step by step, as getattr(getattr(module, a), b), and calls it."""
    instructions = b"\x80\x02c" + module.encode() + b"\n" + names[0].encode() + b"\n"
    for name in names[1:]:
        text = b"X" + len(name).to_bytes(4, "little") + name.encode()
        instructions = b"\x80\x02c__builtin__\ngetattr\n" + instructions.removeprefix(b"\x80\x02") + text + b"\x86R"
    return instructions + b"X\x04\x00\x00\x00true\x85R."


def instructions(content):
    """Write an otherwise sound file of torch.save with these instructions."""

    def write(folder):
        torch.save({"model": V2}, folder / "sound.pt")
        with zipfile.ZipFile(folder / "sound.pt") as archive, zipfile.ZipFile(folder / "file.pt", "w") as out:
            for name in archive.namelist():
                out.writestr(name, content if name.endswith("data.pkl") else archive.read(name))
        return folder / "file.pt"

    return write


def file_of(content, name="model.pt"):
    return lambda folder: (folder / name).write_bytes(content) and folder / name


def script(folder):
    with warnings.catch_warnings(action="ignore"):  # newer torch wants other ways
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(folder / "script.pt")
    return folder / "script.pt"


def nested(folder):
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr("best.pt", b"weights" * 100)
    return folder / "model.zip"


def called(*call):
    return {"model": V2, "beside": Reduced(*call)}


WHOLE = create_model("convnextv2_atto", num_classes=2, depths=DEPTHS, dims=DIMS)
FILES += [
    File("system", called(os.system, "true"), refused=r"would run 'posix.system'"),
    File("eval", called(eval, "1"), refused=r"would run 'builtins.eval'"),
    File("exec", called(exec, "1"), refused=r"would run 'builtins.exec'"),
    File("popen", called(subprocess.Popen, "true"), refused=r"would run 'subprocess.Popen'"),
    File("open", called(open, "a", "w"), refused=r"would run '_?io.open'"),
    File("import", called(__import__, "os"), refused=r"would run 'builtins.__import__'"),
    File("rename", called(os.rename, "a", "b"), refused=r"would run 'posix.rename'"),
    File("partial-of-system", {"model": V2, "beside": functools.partial(os.system, "true")}, refused=r"'posix.system'"),
    File("a-function-of-a-package", called(torch.hub.load, "a"), refused=r"would run 'torch.hub.load'"),
    File(
        "a-pickle-inside",
        called(torch.storage._load_from_bytes, b"a"),
        refused=r"would run 'torch.storage._load_from_bytes'",
    ),
    File("many-bytes", called(bytearray, 2**36), refused=r"would run 'builtins.bytearray'"),
    File("system-protocol-4", called(os.system, "true"), protocol=4, refused=r"would run 'posix.system'"),
    File("named-and-not-called", {"model": V2, "beside": os.system}, refused=r"would run 'posix.system'"),
    File(
        "taken-step-by-step",
        instructions(taken_from("torch.serialization", "os", "system")),
        refused=r"would run 'torch.serialization.os.system'",
    ),
    File(
        "taken-of-a-dotted-name",
        instructions(b"\x80\x04\x8c\x13torch.serialization\x8c\x09os.system\x93\x8c\x04true\x85R."),
        refused=r"would run 'torch.serialization.os.system'",
    ),
    File("by-number", instructions(b"\x80\x02\x82\x05)R."), refused=r"would run 'an import by number \(EXT1\)'"),
    File(
        "of-a-computed-name",
        instructions(b"\x80\x04]\x8c\x06system\x93."),
        refused="it computes the name of what it imports",
    ),
    File("called-by-inst", instructions(b"(S'true'\nios\nsystem\n."), refused=r"would run 'os.system'"),
    File(
        "a-whole-model",
        WHOLE,
        refused=r"it is a whole object of class convnextv2.models.convnext.ConvNeXt, .*save its state_dict\(\)",
    ),
    File(
        "a-whole-model-in-a-container",
        {"model": WHOLE, "epoch": 3},
        refused=r"model is a whole object of class .*ConvNeXt",
    ),
    File(
        "numpy-alone", {"model": {n: t.numpy() for n, t in V2.items()}}, refused=r"it has model and no tensors by name"
    ),
    File("nothing", {}, refused="it is empty"),
    File(
        "another-network",
        torch.nn.Sequential(torch.nn.Linear(2, 2)).state_dict(),
        refused="holds no ConvNeXt in a known layout",
    ),
    File("zeros", {n: torch.zeros_like(t) for n, t in V2.items()}, refused="every weight in .* is zero"),
    File(
        "lfs",
        file_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"),
        refused="a pointer of Git LFS",
    ),
    File("html", file_of(b"\n<!DOCTYPE html><html><head><title>404</title>"), refused="a web page, not weights"),
    File(
        "gzip",
        file_of(gzip.compress(b"weights", mtime=0), "model.safetensors"),
        refused="a compressed archive: unpack it",
    ),
    File("torchscript", script, refused="is a TorchScript program"),
    File("archive-in-archive", nested, refused="an archive with 'best.pt' in it"),
]


def put(content, folder, protocol):
    if callable(content) and not isinstance(content, torch.nn.Module):
        return content(folder)
    torch.save(content, folder / "file.pt", pickle_protocol=protocol)
    return folder / "file.pt"


def test_there_are_enough_of_them():
    assert len({file.id for file in FILES}) == len(FILES) >= 60


@pytest.mark.parametrize("file", [file for file in FILES if not file.refused], ids=lambda file: file.id)
def test_what_must_be_loaded(file, tmp_path):
    path = put(file.content, tmp_path, file.protocol)
    with warnings.catch_warnings(record=True, action="always") as caught:
        held = read(path)
    said = [str(each.message) for each in caught if issubclass(each.category, Notice)]
    assert len(said) == bool(file.says), said
    assert not file.says or re.search(file.says, said[0]), said
    assert file.loads is not None
    assert held.tensors.keys() == file.loads.keys()
    assert all(torch.equal(held.tensors[name], tensor) for name, tensor in file.loads.items())
    assert (held.info.architecture.depths, held.info.architecture.dims) == (DEPTHS, DIMS)
    assert held.info.architecture.grn is any(".grn." in name for name in file.loads)


@pytest.mark.parametrize("file", [file for file in FILES if file.refused], ids=lambda file: file.id)
def test_what_must_be_refused(file, tmp_path):
    with pytest.raises(LoadError, match=file.refused) as caught, warnings.catch_warnings(action="ignore"):
        read(put(file.content, tmp_path, file.protocol))
    assert "\n" not in str(caught.value)


def test_nothing_of_theirs_is_ever_called(tmp_path, monkeypatch):
    """The usual reader would call these."""
    calls = []
    content = {"model": V2, "beside": [Settings(0.1, Mode.TRAIN), Node(None, lr=0.1), Attributes(a=1), Slots("a")]}
    torch.save(content, tmp_path / "file.pt")
    for one in (Settings, Mode, Attributes, Slots, Node):
        monkeypatch.setattr(one, "__setstate__", lambda self, state: calls.append(self), raising=False)
    monkeypatch.setattr(Attributes, "__setitem__", lambda self, key, value: calls.append(key))
    assert read(tmp_path / "file.pt").tensors.keys() == V2.keys()
    assert calls == []
    torch.load(tmp_path / "file.pt", weights_only=False)
    assert calls


def test_plain_weights_are_those_of_the_student(tmp_path):
    both = under("student.", V2_ENCODER) | under("teacher.", {n: t + 1 for n, t in V2_ENCODER.items()})
    torch.save(both, tmp_path / "file.pt")
    for which, prefix, more in (("plain", "student", 0), ("average", "teacher", 1)):
        with pytest.warns(Notice, match=f"below '{prefix}.' is taken"):
            held = read(tmp_path / "file.pt", weights=which)
        assert held.averaged is bool(more)
        assert all(torch.equal(held.tensors[name], tensor + more) for name, tensor in V2_ENCODER.items())
