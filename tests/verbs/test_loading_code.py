"""The line that `convert` prints does what it says."""

import sys
import types

import pytest
import torch
from parity import TOLERANCE, difference, randomise

from convnextv2.models import create_model
from convnextv2.verbs.convert import convert

OWN = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
SHAPES = {
    "named": {},
    "own": OWN,
    "channels": OWN | {"in_chans": 5},
    "stem-2": OWN | {"stem_stride": 2},
    "stem-1": OWN | {"stem_stride": 1, "in_chans": 1},
}
ENDINGS = {"timm": "a.safetensors", "transformers": "folder", "torchvision": "a.safetensors", "official": "a.pt"}
ENDINGS |= {"mmpretrain": "a.pth", "minkowski": "a.pt", "convnextv2": "own.safetensors"}


def converted(to, name, shape, classes, folder):
    """A file of random weights in the layout of another project; the line, and the model that it is of."""
    model = randomise(create_model(name, num_classes=classes, **shape)).eval()
    torch.save({"model": model.state_dict()}, folder / "model.pt")
    return convert(folder / "model.pt", to, folder / ENDINGS[to]).code, model


def loaded(code):
    assert "\n" not in code
    said = {}
    exec(code, said)
    return said["model"].eval()


def check(found, model, classes):
    images = torch.randn(2, model.in_chans, 64, 64)
    with torch.no_grad():
        out, expected = found(images), model(images)
        out = out if isinstance(out, torch.Tensor) else out.logits if classes else out.pooler_output
        assert difference(out, expected) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("classes", [3, 0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["convnextv2_atto", "convnextv2_tiny", "convnext_tiny"])
@pytest.mark.parametrize("to", ["timm", "transformers", "convnextv2", "torchvision"])
def test_the_line_works_as_printed(to, name, shape, classes, tmp_path):
    if to == "torchvision" and name != "convnext_tiny":
        pytest.skip("of V1 alone")
    if shape == "named" and (classes == 0 or (name != "convnextv2_atto" and to != "torchvision")):
        pytest.skip("large, and the same as the others")
    code, model = converted(to, name, SHAPES[shape], classes, tmp_path)
    check(loaded(code), model, classes)


@pytest.mark.parametrize("name", ["convnextv2_atto", "convnextv2_huge", "convnext_tiny"])
@pytest.mark.parametrize("classes", [3, 0])
@pytest.mark.parametrize("shape", ["own", "channels", "stem-2"])
def test_the_line_for_the_official_code(name, classes, shape, tmp_path, monkeypatch):
    """That code is not installed: ours has the same names and arguments, and stands in for it."""
    v2 = name.startswith("convnextv2")

    def general(**given):
        return create_model(f"convnext{'v2' * v2}_atto", **({"num_classes": 1000} | given))

    module = types.ModuleType("models.convnextv2" if v2 else "models.convnext")
    module.__dict__["ConvNeXtV2" if v2 else "ConvNeXt"] = general
    monkeypatch.setitem(sys.modules, "models", types.ModuleType("models"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    code, model = converted("official", name, SHAPES[shape], classes, tmp_path)
    found = loaded(code)
    assert all(torch.equal(found.state_dict()[n], tensor) for n, tensor in model.state_dict().items())


def test_the_line_for_the_official_code_of_a_named_size(tmp_path):
    code, _ = converted("official", "convnextv2_atto", {}, 3, tmp_path)
    path = repr(str(tmp_path / "a.pt"))
    assert code == (
        "import torch; from models.convnextv2 import convnextv2_atto; model = convnextv2_atto(num_classes=3); "
        f"model.load_state_dict(torch.load({path}, map_location='cpu')['model'])"
    )


def test_the_line_for_mmpretrain(tmp_path, monkeypatch):
    """It is not installed; its `get_model` takes a config and the weights."""
    asked = {}
    mmengine, mmpretrain = types.ModuleType("mmengine"), types.ModuleType("mmpretrain")
    mmengine.Config = dict  # pyright: ignore[reportAttributeAccessIssue]

    def get_model(config, pretrained):
        asked.update(config["model"], pretrained=pretrained)
        return torch.nn.Identity()

    mmpretrain.get_model = get_model  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "mmengine", mmengine)
    monkeypatch.setitem(sys.modules, "mmpretrain", mmpretrain)
    loaded(converted("mmpretrain", "convnextv2_atto", SHAPES["channels"], 3, tmp_path)[0])
    arch = {"depths": [1, 1, 2, 1], "channels": [8, 16, 24, 32]}
    assert asked == {
        "type": "ImageClassifier",
        "backbone": {
            "type": "ConvNeXt",
            "arch": arch,
            "use_grn": True,
            "layer_scale_init_value": 0.0,
            "in_channels": 5,
        },
        "head": {"type": "LinearClsHead", "num_classes": 3, "in_channels": 32},
        "pretrained": str(tmp_path / "a.pth"),
    }
    (tmp_path / "v1").mkdir()
    loaded(converted("mmpretrain", "convnext_atto", {"stem_stride": 2}, 0, tmp_path / "v1")[0])
    assert asked["backbone"] == {"type": "ConvNeXt", "arch": "atto", "stem_patch_size": 2}


@pytest.mark.filterwarnings("ignore::convnextv2.errors.Notice")
def test_the_line_for_official_pre_training(tmp_path, monkeypatch):
    """It needs MinkowskiEngine: only its arguments, and that the weights are handed on."""
    asked = {}

    class FCMAE(torch.nn.Module):
        def __init__(self, **given):
            super().__init__()
            asked.update(given)

        def load_state_dict(self, state, strict=True):  # pyright: ignore[reportIncompatibleMethodOverride]
            asked.update(names=len(state), strict=strict)

    module = types.ModuleType("models.fcmae")
    module.FCMAE = FCMAE  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "models", types.ModuleType("models"))
    monkeypatch.setitem(sys.modules, "models.fcmae", module)
    code, model = converted("minkowski", "convnextv2_atto", OWN, 0, tmp_path)
    loaded(code)
    assert asked == {
        "img_size": 224,
        "in_chans": 3,
        "depths": [1, 1, 2, 1],
        "dims": [8, 16, 24, 32],
        "norm_pix_loss": True,
        "names": len(model.state_dict()) - 2,  # all but the final norm
        "strict": False,
    }


def test_torchvision_has_no_v2(tmp_path):
    with pytest.raises(ValueError, match=r"holds a V2, which torchvision does not have: use to='timm'"):
        converted("torchvision", "convnextv2_atto", OWN, 3, tmp_path)
