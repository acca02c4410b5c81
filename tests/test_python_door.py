"""Python is as good a door as the command: signatures, types, what runs are started with, what is shown."""

import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import SMALL, run_losses, same, saved_weights
from torch.utils.data import TensorDataset

import convnextv2
from convnextv2 import UserError
from convnextv2.errors import spelled_for_command
from convnextv2.settings import Settings
from convnextv2.signatures import texts, verb

REPOSITORY = Path(__file__).parents[1]
RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)
VERBS = {
    "pretrain": convnextv2.PretrainSettings,
    "classify": convnextv2.ClassifySettings,
    "evaluate": convnextv2.EvaluateSettings,
    "predict": convnextv2.PredictSettings,
    "probe": convnextv2.ProbeSettings,
    "embed": convnextv2.InferenceSettings,
    "convert": None,
    "push": None,
    "reconstruct": None,
    "zoo": None,
}


# --- signatures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VERBS)
def test_every_argument_is_in_the_signature_with_type_and_default(name):
    settings, function = VERBS[name], getattr(convnextv2, name)
    parameters = inspect.signature(function).parameters
    assert not [each for each in parameters.values() if each.kind is each.VAR_KEYWORD]
    assert all(each.annotation is not each.empty for each in parameters.values())
    for field in settings.names() if settings else ():
        if field not in ("data", "out"):
            assert parameters[field].default == getattr(settings, field)
            assert f"\n    {field}: " in inspect.getdoc(function)
    assert inspect.getdoc(function).count("Settings:") == (settings is not None)


def test_every_setting_has_a_text_and_it_is_spelled_for_python():
    for name, settings in VERBS.items():
        assert settings is None or set(settings.names()) == set(texts(settings)), name
        assert " --" not in inspect.getdoc(getattr(convnextv2, name)), name


@pytest.mark.parametrize("name", VERBS)
def test_an_argument_of_another_type_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = getattr(convnextv2, name)
    parameters = inspect.signature(function).parameters
    needed = {
        key: "timm" if key == "to" and name == "convert" else "there"
        for key, each in parameters.items()
        if each.default is each.empty and each.kind is not each.VAR_POSITIONAL
    }
    if name == "zoo":
        with pytest.raises(UserError, match=r"^names=3: give a string$"):
            convnextv2.zoo(3)
        return
    for key in parameters:
        with pytest.raises(UserError) as error:
            function(**{**needed, key: object()})
        said = str(error.value)
        in_turn = key in ("data", "images") and said.startswith(
            ("object holds no images", "no run and no file at there")
        )
        assert in_turn or said.startswith(f"{key}=<object object"), (key, said)
        assert "\n" not in said


def test_names_that_a_verb_does_not_have_get_the_nearest():
    for name in ("pretrain", "classify", "probe", "embed"):
        with pytest.raises(UserError, match=r"has no setting 'devise'; did you mean 'device'\?$"):
            getattr(convnextv2, name)("there", "there", devise="cpu")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'images'"):
        convnextv2.predict("run")


def test_verb_checks_and_converts():
    class Some(Settings):
        pass

    @verb(unchecked=("free",))
    def some(path: Path, count: int = 1, *rest: float, free: int = 0, flag: bool = False) -> tuple:
        return path, count, rest, free, flag

    assert some("a", np.int64(3), 1, 2.5, free="x", flag=np.bool_(True)) == (Path("a"), 3, (1, 2.5), "x", True)
    for arguments, message in [
        (({"path": 1}), "path=1: give a path"),
        ({"path": "a", "count": "2"}, "count='2': give a whole number"),
        ({"path": "a", "flag": 1}, "flag=1: give True or False"),
    ]:
        with pytest.raises(UserError, match=f"^{message}$"):
            some(**arguments)
    with pytest.raises(UserError, match=r"^rest='x': give a number$"):
        some("a", 1, 2.0, "x")
    with spelled_for_command(), pytest.raises(UserError, match=r"^--count='x': give a whole number$"):
        some("a", "x")


def stub_script():
    spec = importlib.util.spec_from_file_location("stub", REPOSITORY / "scripts" / "stub.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_stub_is_what_the_script_writes():
    assert stub_script().stub() == (REPOSITORY / "src/convnextv2/__init__.pyi").read_text(), "run scripts/stub.py"


RIGHT = """
from pathlib import Path
import numpy as np, torch
from PIL import Image
import convnextv2
result = convnextv2.pretrain("images", "run", minutes=3, image_size=64, precision="bf16", depths=[1, 1, 1, 1])
convnextv2.pretrain(data=[Path("a"), "b"], out=Path("run"), resume=True)
convnextv2.pretrain(np.zeros((1, 8, 8)), "run", init="none", value_range=(0, 4095))
convnextv2.classify("images", out="run", init=result.checkpoint, recipe="small-data")
convnextv2.embed("run", [Image.new("RGB", (8, 8))]).features.shape
for prediction in convnextv2.predict("run", torch.zeros(1, 3, 8, 8), top=3):
    prediction.labels
convnextv2.reconstruct("run", "a.png")[0].name
convnextv2.convert("run", "timm", "out.pth").code
convnextv2.probe("run", "images", labels_per_class=10).rows
[entry.name for entry in convnextv2.zoo()]
"""
WRONG = """
import convnextv2
convnextv2.pretrain("images", "run", minutes="3")
convnextv2.pretrain("images", "run", minuts=3)
convnextv2.classify("images", "run", recipe="none")
convnextv2.embed("run")
convnextv2.convert("run", "tim", "out.pth")
convnextv2.probe("run", "images", split="train").row
"""


@pytest.mark.slow
def test_a_type_checker_knows_every_argument(tmp_path):
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "standard"}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)["generalDiagnostics"]
    errors = [(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in found]
    assert not [each for each in found if each["file"].endswith("right.py")]
    assert {line for _, line in errors} == {3, 4, 5, 6, 7, 8}


def test_completion_shows_the_public_names():
    assert set(dir(convnextv2)) >= {*convnextv2.__all__, "__version__"}
    assert {"PretrainSettings", "Evaluation", "Prediction", "Embedding", "UserError", "zoo"} <= set(convnextv2.__all__)


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on images in memory, stopped in the middle and resumed."""
    out = tmp_path_factory.mktemp("door") / "run"
    convnextv2.pretrain(RGB, out, epochs=2, **SMALL)
    return out


def write(folder: Path) -> Path:
    folder.mkdir()
    for number, image in enumerate(RGB):
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return folder


def test_all_kinds_of_images_train_the_same(run, tmp_path):
    tensors = torch.from_numpy(RGB).permute(0, 3, 1, 2)
    folder = write(tmp_path / "files")
    kinds = {
        "folder": folder,
        "paths": sorted(folder.iterdir()),
        "dataset": TensorDataset(tensors, torch.arange(24)),
        "pillow": [Image.fromarray(each) for each in RGB],
    }
    for name, images in kinds.items():
        result = convnextv2.pretrain(images, tmp_path / name, epochs=2, **SMALL | {"workers": int(name == "dataset")})
        assert run_losses(result.run) == run_losses(run), name
        assert same(saved_weights(result.run), saved_weights(run)), name


def test_several_folders_are_one_set(tmp_path):
    folder = write(tmp_path / "files")
    (tmp_path / "more").mkdir()
    for path in sorted(folder.iterdir())[12:]:
        path.rename(tmp_path / "more" / path.name)
    parts = [folder, tmp_path / "more"]
    result = convnextv2.pretrain(parts, tmp_path / "run", epochs=1, **SMALL)
    assert json.loads((result.run / "config.json").read_text())["data"]["pictures"] == 24
    convnextv2.pretrain(parts, tmp_path / "run", resume=True)
    with pytest.raises(UserError, match=r"are not those the run began with \(24 then, 12 now"):
        convnextv2.pretrain([folder], tmp_path / "run", resume=True)


def test_a_run_of_images_in_memory_is_resumed_with_the_same_images_only(run, tmp_path, command):
    short = tmp_path / "short"
    convnextv2.pretrain(RGB, short, epochs=2, **SMALL)
    for step in (short / "checkpoints").iterdir():
        assert step.name in ("latest", "step-00000006")
    convnextv2.pretrain(list(RGB), short, resume=True)
    assert same(saved_weights(short), saved_weights(run))
    others = RGB.copy()
    others[5] = 0
    with pytest.raises(UserError, match="the images in memory, or their labels, are not those the run began with"):
        convnextv2.pretrain(others, short, resume=True)
    with pytest.raises(UserError, match="were given from Python; resume it there, and give them again"):
        convnextv2.pretrain(out=short, resume=True)
    said = command("pretrain", "--out", short, "--resume")
    assert said.returncode == 2
    assert "were given from Python" in said.stderr


def test_the_model_file_says_what_it_was_trained_on(run):
    assert convnextv2.load(run).info.trained_on == "24 images in memory"


def test_embed_reconstruct_and_read_take_images(run, tmp_path):
    folder = write(tmp_path / "files")
    from_files, from_memory = convnextv2.embed(run, folder), convnextv2.embed(run, RGB, tmp_path / "f.csv")
    assert np.array_equal(from_files.features, from_memory.features)
    assert from_memory.names[:2] == ("00", "01")
    assert (tmp_path / "f.csv").read_text().splitlines()[1].startswith("00,")
    drawn = convnextv2.reconstruct(run, RGB[:2], tmp_path / "drawn")
    assert [path.name for path in drawn] == ["0-reconstruction.png", "1-reconstruction.png"]
    assert drawn._repr_html_().count("<img") == 2
    predictor = convnextv2.load(run).predictor()
    assert torch.equal(predictor.read(RGB[0]), predictor.read(folder / "00.png"))
    with pytest.raises(UserError, match="24 images: `read` takes one at a time"):
        predictor.read(RGB)


def test_a_range_that_is_lost_is_refused_before_training(tmp_path):
    with pytest.raises(UserError, match=r"arrays of float64, values -1 to 1, .* give value_range='-1:1'$"):
        convnextv2.pretrain(RGB / 127.5 - 1, tmp_path / "run", epochs=1, **SMALL)
    convnextv2.pretrain(RGB / 127.5 - 1, tmp_path / "run", epochs=1, value_range=(-1, 1), **SMALL)


def test_labelled_verbs_say_that_they_take_a_path(run):
    for call in (convnextv2.classify, convnextv2.probe, convnextv2.evaluate):
        with pytest.raises(UserError, match=r"^data=array.*: give "):
            call(**{"run": run} if call is not convnextv2.classify else {}, data=RGB)


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_results_show_themselves_in_a_notebook(run):
    result = convnextv2.pretrain(RGB, run, resume=True)
    assert str(result.report) in result._repr_html_()
    assert "convnextv2_tiny.fcmae" in convnextv2.zoo()._repr_html_()


def test_an_error_is_one_line_in_a_notebook():
    with pytest.raises(UserError) as error:
        convnextv2.zoo("convnextv2_tiny.fcma")
    assert error.value._render_traceback_() == [f"UserError: {error.value}"]
    assert "convnextv2_tiny.fcmae" in str(error.value)


def test_the_zoo_says_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNEXTV2_CACHE", str(tmp_path))
    found = convnextv2.zoo()
    assert len(found) > 50
    assert not found.files
    atto = next(entry for entry in found if entry.name == "convnextv2_atto.fcmae")
    (tmp_path / atto.file).write_bytes(b"x")
    assert convnextv2.zoo().files == {"convnextv2_atto.fcmae": tmp_path / atto.file}
    assert any("not for commercial use" in line for line in found.terms)
