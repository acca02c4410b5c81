"""The scripts in `examples/` compute what they say."""

import importlib.util
import runpy
import sys
from pathlib import Path

import parity
import pytest
import timm
import torch
from PIL import Image
from small_run import SMALL_CLASSIFIER

import convnextv2
from convnextv2.models import create_model
from convnextv2.weights.foreign import read_foreign

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


grad_cam = example("class_activation").grad_cam


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stages.3", "stages.3"),
        ("stages.2", "stages.2"),
        ("stages.2.0", "stages.2.blocks.0"),
        ("stages.1.0.dwconv", "stages.1.blocks.0.conv_dw"),
        ("downsample_layers.2", "stages.2.downsample"),
    ],
)
@pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])
def test_class_activation_maps_are_those_of_timms_model(name, ours, theirs, training):
    peer = parity.randomise(timm.create_model(name, num_classes=7)).double().train(training)
    model = create_model(name, num_classes=7).double().train(training)
    model.load_state_dict(dict(read_foreign(Path("timm.pt"), peer.state_dict()).tensors))
    images = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    found = grad_cam(model, model.get_submodule(ours), images, [2, 5])
    expected = grad_cam(peer, peer.get_submodule(theirs), images, [2, 5])
    assert expected.amax((1, 2)).gt(0).all()
    assert parity.difference(found, expected) < parity.TOLERANCE[torch.float64]


def test_the_most_likely_class_is_the_default_and_no_hook_stays():
    model = parity.randomise(create_model("convnextv2_atto", num_classes=7)).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    likely = model(images).argmax(1).tolist()
    assert torch.equal(grad_cam(model, model.stages[3], images), grad_cam(model, model.stages[3], images, likely))
    assert not model.stages[3]._forward_hooks


def test_the_command_draws_a_map(picture_folder, tmp_path, monkeypatch, capsys):
    run = convnextv2.classify(picture_folder, tmp_path / "run", **SMALL_CLASSIFIER, epochs=1).run
    picture, out = next((picture_folder / "cats").iterdir()), tmp_path / "map.png"
    monkeypatch.setattr(sys, "argv", ["x", str(run), str(picture), "--class", "dogs", "--out", str(out)])
    runpy.run_path(str(EXAMPLES / "class_activation.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("dogs (most likely: ")
    with Image.open(out) as drawn:
        assert drawn.size == (32, 32)
    monkeypatch.setattr(sys, "argv", ["x", str(run), str(picture), "--class", "birds"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(EXAMPLES / "class_activation.py"), run_name="__main__")
    assert "the classes are cats, dogs" in capsys.readouterr().err
