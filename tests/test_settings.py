"""Settings and arguments are checked by their types, converted, and refused in one line that says what to give."""

import dataclasses
import importlib
import json
import pkgutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pytest
import torch

import convnextv2
from convnextv2 import UserError, create_model, load
from convnextv2.errors import spelled_for_command
from convnextv2.inference.settings import InferenceSettings
from convnextv2.settings import Settings, converted, make
from convnextv2.tasks.classify.evaluate_settings import EvaluateSettings
from convnextv2.tasks.classify.predict_settings import PredictSettings
from convnextv2.tasks.classify.settings import ClassifySettings
from convnextv2.tasks.pretrain.settings import PretrainSettings
from convnextv2.verbs.probe.settings import ProbeSettings
from convnextv2.weights.model_file import find_weights, parse_model_file, read_model_file


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        (PretrainSettings, {"recipe": "papr"}, "recipe='papr': give auto or paper"),
        (PretrainSettings, {"recipe": None}, "recipe=None: give auto or paper"),
        (PretrainSettings, {"precision": "fp16"}, "precision='fp16': give auto, fp32 or bf16"),
        (PretrainSettings, {"flip": "false"}, "flip='false': give True or False"),
        (PretrainSettings, {"flip": 1}, "flip=1: give True or False"),
        (PretrainSettings, {"norm_pix_loss": "no"}, "norm_pix_loss='no': give True or False"),
        (PretrainSettings, {"batch_size": "8"}, "batch_size='8': give a whole number"),
        (PretrainSettings, {"batch_size": 8.5}, "batch_size=8.5: give a whole number"),
        (PretrainSettings, {"batch_size": True}, "batch_size=True: give a whole number"),
        (PretrainSettings, {"batch_size": float("nan")}, "batch_size=nan: give a whole number"),
        (PretrainSettings, {"batch_size": np.array([8, 8])}, "batch_size=array([8, 8]): give a whole number"),
        (PretrainSettings, {"seed": 1.5}, "seed=1.5: give a whole number"),
        (PretrainSettings, {"seed": None}, "seed=None: give a whole number"),
        (PretrainSettings, {"lr": "1e-3"}, "lr='1e-3': give a number"),
        (PretrainSettings, {"lr": True}, "lr=True: give a number"),
        (PretrainSettings, {"lr": 1j}, "lr=1j: give a number"),
        (PretrainSettings, {"device": 0}, "device=0: give a string"),
        (PretrainSettings, {"device": torch.device("cpu")}, "device=device(type='cpu'): give a string"),
        (PretrainSettings, {"model": 3}, "model=3: give a string"),
        (PretrainSettings, {"out": 3}, "out=3: give a path"),
        (PretrainSettings, {"data": ["a", "b"]}, "data=['a', 'b']: give a path"),
        (PretrainSettings, {"depths": 3}, "depths=3: give 4 whole numbers"),
        (PretrainSettings, {"depths": "1111"}, "depths='1111': give 4 whole numbers"),
        (PretrainSettings, {"dims": (4, 4.5, 8, 8)}, "dims=(4, 4.5, 8, 8): give 4 whole numbers"),
        (PretrainSettings, {"dims": np.ones((4, 2))}, "dims=array([[1., 1.], [1., 1.], [1., 1.], [1., 1.]]): give 4"),
        (PretrainSettings, {"model": "a\nb" * 2, "epochs": "1\n"}, "epochs='1\\n': give a number"),
        (ClassifySettings, {"class_weights": "balance"}, "class_weights='balance': give none or balanced"),
        (
            ClassifySettings,
            {"recipe": "in1K"},
            "recipe='in1K': give in1k, in22k, in22k-to-in1k, supervised or small-data",
        ),
        (EvaluateSettings, {"weights": "ema"}, "weights='ema': give average, plain or both"),
        (EvaluateSettings, {"checkpoint": "bst"}, "checkpoint='bst': give best or latest"),
        (PredictSettings, {"top": "5"}, "top='5': give a whole number"),
        (ProbeSettings, {"against": 3}, "against=3: give a string or a path"),
        (ProbeSettings, {"split": "train"}, "split='train': give val or test"),
    ],
)
def test_a_value_of_another_type_is_one_line(settings, given, message):
    with pytest.raises(UserError) as error:
        settings(**given)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_the_command_reads_it_as_an_option():
    with spelled_for_command(), pytest.raises(UserError, match=r"^--batch-size='x': give a whole number$"):
        PretrainSettings(batch_size="x")


def test_a_long_value_is_cut():
    with pytest.raises(UserError, match=r"^seed=\[0, 1, .{60,80}\.\.\.: give a whole number$"):
        PretrainSettings(seed=list(range(1000)))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("batch_size", 8.0, 8),
        ("batch_size", np.int64(8), 8),
        ("batch_size", np.float32(8), 8),
        ("batch_size", np.array(8), 8),
        ("batch_size", torch.tensor(8), 8),
        ("image_size", 64.0, 64),
        ("epochs", 2, 2),
        ("epochs", 2.0, 2.0),
        ("epochs", np.int32(2), 2),
        ("lr", np.float32(0.5), 0.5),
        ("lr", np.float64(0.5), 0.5),
        ("lr", np.longdouble(0.5), 0.5),
        ("lr", Fraction(1, 2), 0.5),
        ("flip", np.bool_(False), False),
        ("model", np.str_("convnextv2_atto"), "convnextv2_atto"),
        ("recipe", np.str_("paper"), "paper"),
        ("depths", [1, 1, 1, 1], (1, 1, 1, 1)),
        ("depths", np.ones(4), (1, 1, 1, 1)),
        ("dims", np.array([4, 4, 8, 8]), (4, 4, 8, 8)),
        ("dims", (np.int64(4), 4.0, 8, np.uint8(8)), (4, 4, 8, 8)),
        ("dims", range(4, 8), (4, 5, 6, 7)),
        ("out", "run", Path("run")),
        ("out", PurePosixPath("run"), Path("run")),
        ("batch_size", None, None),
        ("norm_pix_loss", None, None),
    ],
)
def test_what_means_the_same_becomes_it(name, value, expected):
    settings = PretrainSettings(**{name: value})
    found = getattr(settings, name)
    assert found == expected
    assert type(found) is type(expected)
    if isinstance(found, tuple):
        assert {type(each) for each in found} == {int}
    assert settings.named() == {name: expected}
    said = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
    again = PretrainSettings(**said)
    assert again == settings
    assert json.dumps(dataclasses.asdict(again), default=str) == json.dumps(said)


def test_a_rule_still_holds_after_conversion():
    with pytest.raises(UserError, match=r"^batch_size=0: give 1 or more$"):
        PretrainSettings(batch_size=np.int64(0))
    with pytest.raises(UserError, match=r"^split='train': give val or test$"):
        ProbeSettings(split="train")


def every_settings_class():
    for module in pkgutil.walk_packages(convnextv2.__path__, "convnextv2."):
        if module.name.rpartition(".")[2].endswith("settings") or module.name.startswith("convnextv2.cli."):
            importlib.import_module(module.name)
    found, queue = [], [Settings]
    while queue:
        queue += (below := queue.pop().__subclasses__())
        found += [each for each in below if each.__module__.startswith("convnextv2")]
    return found


def test_every_default_passes_its_own_check():
    classes = every_settings_class()
    assert {PretrainSettings, ClassifySettings, EvaluateSettings, PredictSettings, ProbeSettings} <= set(classes)
    for settings in classes:
        made = settings()
        for field in dataclasses.fields(settings):
            assert getattr(made, field.name) == field.default
            assert type(getattr(made, field.name)) is type(field.default)
            settings(**{field.name: field.default})


@dataclass(frozen=True, kw_only=True)
class OtherSettings(Settings):
    number: int | float = 1
    choice: Literal[1, "auto"] = 1
    sizes: tuple[int, ...] = ()
    pair: tuple[int, str] = (1, "a")
    either: bool | tuple[float, ...] | None = None
    anything: Any = None
    names: list[str] | None = None
    mapping: dict[str, int] = dataclasses.field(default_factory=dict)


def test_other_types_and_those_that_are_not_known():
    made = OtherSettings(
        number=1.5, choice="auto", sizes=np.arange(3), pair=[2, "b"], either=[1, 0.5], anything=3j, names=["a"]
    )
    assert (made.number, made.choice, made.sizes, made.pair) == (1.5, "auto", (0, 1, 2), (2, "b"))
    assert (made.either, made.anything, made.names, made.mapping) == ((1, 0.5), 3j, ("a",), {})
    assert type(OtherSettings(number=2.0).number) is float
    for given, message in [
        ({"number": "1"}, "number='1': give a whole number or a number"),
        ({"choice": np.ones(2)}, r"choice=array\(\[1., 1.\]\): give 1 or auto"),
        ({"sizes": (1, "2")}, r"sizes=\(1, '2'\): give whole numbers"),
        ({"pair": ("a", 1)}, r"pair=\('a', 1\): give \(a whole number, a string\)"),
        ({"either": "yes"}, "either='yes': give True or False or numbers"),
    ]:
        with pytest.raises(UserError, match=f"^{message}$"):
            OtherSettings(**given)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match=r"^pretrain has no setting 'mask_ration'; did you mean 'mask_ratio'\?$"):
        make(PretrainSettings, "pretrain", {"mask_ration": 0.5})
    with pytest.raises(
        UserError,
        match=r"^embed has no setting 'xyz'; it has batch_size, workers, device, max_pixels, value_range, "
        r"bands, channels, stats, pages, tile$",
    ):
        make(InferenceSettings, "embed", {"xyz": 1})


def test_weights_and_checkpoint_are_words(tmp_path):
    for wrong in ("ema", None, True):
        message = f"^weights={wrong!r}: give average or plain$"
        for call in (
            lambda wrong=wrong: load(tmp_path, weights=wrong),
            lambda wrong=wrong: read_model_file(tmp_path, weights=wrong),
            lambda wrong=wrong: parse_model_file(tmp_path, {}, {}, weights=wrong),
        ):
            with pytest.raises(UserError, match=message):
                call()
    for wrong in ("bst", ""):
        message = f"^checkpoint={wrong!r}: give best or latest$"
        for call in (
            lambda wrong=wrong: load(tmp_path, checkpoint=wrong),
            lambda wrong=wrong: read_model_file(tmp_path, which=wrong),
            lambda wrong=wrong: find_weights(tmp_path, wrong),
        ):
            with pytest.raises(UserError, match=message):
                call()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"pretrained": True},
            r"pretrained=True: .*weights \(convnextv2_atto.fcmae, convnextv2_atto.fcmae_ft_in1k\); leave it out",
        ),
        ({"pretrained": False}, "pretrained=False: .*leave it out for random weights"),
        ({"pretrained": 3}, "pretrained=3: give a path"),
        ({"num_classes": "3"}, "num_classes='3': give a whole number"),
        ({"num_classes": True}, "num_classes=True: give a whole number"),
        ({"in_chans": "3"}, "in_chans='3': give a whole number"),
        ({"dims": (4, "4", 8, 8)}, r"dims=\(4, '4', 8, 8\): give whole numbers"),
        ({"depths": 3}, "depths=3: give whole numbers"),
        ({"drop_path_rate": "0.1"}, "drop_path_rate='0.1': give a number"),
    ],
)
def test_arguments_of_create_model(given, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        create_model("convnextv2_atto", **given)
    assert "\n" not in str(error.value)


def test_create_model_says_what_to_give():
    with pytest.raises(UserError, match=r"^name=3: give a string$"):
        create_model(3)
    with pytest.raises(UserError, match=r"leave out its tag, or pretrained=True$"):
        create_model("convnextv2_atto.fcmae", pretrained=True)
    with pytest.raises(UserError, match="did you mean convnextv2_atto"):
        create_model("convnextv2_ato", pretrained=True)
    with pytest.raises(
        UserError, match=r"^pretrained=True: give a path, or the name of published weights; leave it out"
    ):
        create_model("convnext_atto", pretrained=True)  # of which none are published


def test_create_model_takes_numpy_integers():
    with torch.device("meta"):
        model = create_model(
            "convnextv2_atto",
            depths=np.ones(4, dtype=np.int64),
            dims=tuple(np.array([8, 8, 16, 16])),
            num_classes=np.int64(3),
            in_chans=np.uint8(1),
            stem_stride=np.int32(2),
            drop_path_rate=np.float32(0.5),
        )
    assert (model.depths, model.dims, model.in_chans) == ((1, 1, 1, 1), (8, 8, 16, 16), 1)
    assert json.dumps(model.config.to_dict())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_classes": "3"}, "num_classes='3': give a whole number"),
        ({"in_chans": 1.5}, "in_chans=1.5: give a whole number"),
        ({"inflate": 0}, "inflate=0: give a string"),
        ({"drop_path_rate": None}, "drop_path_rate=None: give a number"),
    ],
)
def test_arguments_of_load(given, message, tmp_path):
    with pytest.raises(UserError, match=f"^{message}$"):
        load(tmp_path, **given)
    with pytest.raises(UserError, match=r"^source=3: give a string or a path$"):
        load(3)


def test_a_converted_value_is_the_very_same_if_it_fits():
    path = Path("a")
    assert converted("against", path, str | Path) is path
    assert converted("against", "a", str | Path) == "a"
