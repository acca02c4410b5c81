"""Metadata of model files that no run wrote: odd, of wrong types, or hostile. Refused in one short line."""

import json

import pytest
import torch

from convnextv2.errors import LoadError, UserError
from convnextv2.models import create_model
from convnextv2.models.config import EncoderConfig, TimmConfig
from convnextv2.records import Preprocessing
from convnextv2.weights import values
from convnextv2.weights.files import save_tensors
from convnextv2.weights.load import read
from convnextv2.weights.model_file import ModelInfo

DEEP = "[" * 100_000 + "]" * 100_000
SHAPE = {"model": "convnextv2_atto", "in_chans": 3, "stem_stride": 1, "depths": [1, 1, 1, 1], "dims": [4, 4, 8, 8]}
GOOD = {
    "format": "convnextv2.classifier.1",
    "encoder": json.dumps(SHAPE),
    "image_size": "16",
    "preprocessing": json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3}),
    "classes": json.dumps(["cat", "dog"]),
    "multi_label": "false",
    "crop_pct": "0.9",
    "trained_on": "pets",
    "trained_from": "[]",
    "licence": "MIT",
    "step": "7",
}
ODD = {
    "image_size": [
        "0",
        "-5",
        "7",
        str(10**20),
        "1e3",
        "16.5",
        "true",
        "null",
        "nan",
        "٣٢",
        "1_6",
        " 16 ",
        "",
        "9" * 5000,
    ],
    "crop_pct": [
        "1e-300",
        "0",
        "-0.5",
        "1.5",
        "NaN",
        "Infinity",
        "1e400",
        "true",
        '"0.9"',
        "[0.9]",
        "{}",
        "1e-9",
        DEEP,
    ],
    "preprocessing": [
        '{"mean": [NaN, 0, 0], "std": [1, 1, 1]}',
        '{"mean": [0, 0, 0], "std": [0, 1, 1]}',
        '{"mean": [0, 0, 0], "std": [-1, 1, 1]}',
        '{"mean": [0, 0, 0], "std": [1e-300, 1, 1]}',
        '{"mean": [0, 0, 0], "std": [1e400, 1, 1]}',
        '{"mean": [1e300, 0, 0], "std": [1, 1, 1]}',
        '{"mean": [0], "std": [1]}',
        '{"mean": [0, 0], "std": [1, 1, 1]}',
        '{"mean": "abc", "std": "abc"}',
        '{"mean": [true, true, true], "std": [true, true, true]}',
        '{"mean": ["0", "0", "0"], "std": ["1", "1", "1"]}',
        '{"mean": {"0": 1, "1": 1, "2": 1}, "std": [1, 1, 1]}',
        '{"mean": [0, 0, 0], "mean": [9, 9, 9], "std": [1, 1, 1]}',
        '{"mean": [0, 0, 0]}',
        "[]",
        DEEP,
    ],
    "classes": [
        "[]",
        '["a"]',
        '["a", "b", "c"]',
        '"ab"',
        '{"a": 0, "b": 1}',
        "[1, 2]",
        "[null, null]",
        '[["a"], ["b"]]',
        "[true, false]",
        "7",
        "null",
        '["a", "\\ud800"]',
        json.dumps([f"class {number}" for number in range(50_000)]),
        json.dumps(["a", "x" * 10**6]),
        "['a', 'b']",
        DEEP,
    ],
    "multi_label": ["1", '"true"', "null", "[]", "yes", "NaN", "False"],
    "encoder": ['{"model": "convnextv2_atto"}', "[]", "null", '"convnextv2_atto"', DEEP, json.dumps(SHAPE)[:-1]],
    "step": ["-1", "1.5", "true", "null", "٧", "x", "9" * 5000],
    "trained_from": ["{}", '"x"', "[1]", "[[]]", '[{"format": 1, "trained_on": 2}]', '[{"format": "x"}]', "null", DEEP],
    "format": ["convnextv2.classifier.2", "convnextv2.encoder.1", "convnextv2.fcmae.1", "convnextv2.\x1b[31m.1", ""],
    "licence": ["MIT\x1b[31m", "x" * 10**6, "a\nb", "\u202egpj"],
    "trained_on": ["a\x1b]0;x\x07b", "x" * 10**6, "a\nb"],
    "model": [
        None,
        5,
        True,
        "",
        "convnextv2_attoo",
        ["convnextv2_atto"],
        "x" * 10**6,
        "timm:../../x",
        "timm:hf-hub:a/b",
    ],
    "in_chans": [0, -3, True, "3", 3.0, None, 1, 2**31, 10**20],
    "stem_stride": [0, 3, True, "1", 1.0, None, 4, 10**20],
    "depths": [[1, 1, 1], [10**9] * 4, [True] * 4, ["1"] * 4, [1.0] * 4, "1111", 5, [0, 1, 1, 1], {"0": 1}, []],
    "dims": [[4, 4, 8], [10**9] * 4, [10**20] * 4, [True] * 4, ["4"] * 4, [0, 4, 8, 8], "4488", [2**33] * 4, []],
}


@pytest.fixture(scope="module")
def tensors():
    return create_model(
        "convnextv2_atto", depths=(1, 1, 1, 1), dims=(4, 4, 8, 8), stem_stride=1, num_classes=2
    ).state_dict()


def test_the_file_is_read_as_it_is(tensors, tmp_path):
    save_tensors(tmp_path / "good.safetensors", tensors, GOOD)
    info = read(tmp_path / "good.safetensors").info
    assert (info.image_size, info.classes, info.crop_pct, info.step, info.licence) == (
        16,
        ("cat", "dog"),
        0.9,
        7,
        "MIT",
    )


@pytest.mark.parametrize(("name", "number"), [(name, number) for name in ODD for number in range(len(ODD[name]))])
def test_odd_metadata_is_refused_in_one_short_line(name, number, tensors, tmp_path):
    value = ODD[name][number]
    changed = {name: value} if name in GOOD else {"encoder": json.dumps(SHAPE | {name: value})}
    file = tmp_path / "odd.safetensors"
    save_tensors(file, tensors, GOOD | changed)
    with pytest.raises(LoadError) as caught:
        read(file)
    said = str(caught.value)
    assert str(file) in said
    assert said.isprintable()
    assert len(said) < 1500


def test_names_of_classes_from_folders_that_are_not_utf8_are_fine(tensors, tmp_path):
    names = ["caf\udce9", "a\nb"]
    save_tensors(tmp_path / "names.safetensors", tensors, GOOD | {"classes": json.dumps(names)})
    assert list(read(tmp_path / "names.safetensors").info.classes) == names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 0}, "its image size is 0, not 1 to 16384"),
        ({"image_size": 31}, "its image size is 31, below one patch of 32 pixels"),
        ({"crop_pct": 1e-300}, "its crop_pct is 1e-300, not 0.05 to 1"),
        ({"preprocessing": Preprocessing((0.5,), (0.5,))}, "its mean has 1 values for 3 channels"),
        ({"classes": ("a",)}, "it is of kind encoder with 1 classes"),
        ({"licence": "a\nb"}, "its licence is"),
    ],
)
def test_a_record_that_no_file_could_hold_is_refused_when_it_is_made(changes, message):
    good = {"kind": "encoder", "architecture": EncoderConfig.named("convnextv2_atto"), "preprocessing": Preprocessing()}
    ModelInfo(**good, image_size=32)
    with pytest.raises(UserError, match=message):
        ModelInfo(**good | {"image_size": 32} | changes)


@pytest.mark.parametrize("name", ["timm:../../x", "timm:hf-hub:a/b", "timm:a b", "resnet18", "timm:" + "x" * 200])
def test_a_model_of_timm_is_a_name_and_no_address(name):
    with pytest.raises(UserError, match="a model of timm is named timm:NAME"):
        TimmConfig(name=name)


@pytest.mark.parametrize("value", [True, None, "0.5", 1e-300, float("nan"), float("inf"), 10**400])
def test_a_share_is_a_number_between(value):
    assert values.share(1) == 1.0
    with pytest.raises(ValueError, match=r"its crop_pct is .*, not 0.05 to 1"):
        values.share(value)


def test_a_file_that_says_its_tensors_are_others_is_refused(tensors, tmp_path):
    save_tensors(tmp_path / "x.safetensors", {name: torch.zeros(1) for name in tensors}, GOOD)
    with pytest.raises(LoadError, match="does not fill the model: of another shape"):
        read(tmp_path / "x.safetensors")
