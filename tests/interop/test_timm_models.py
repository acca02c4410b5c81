"""Our models behind timm's `create_model`, checked as timm checks every model of its own, in our words."""

import json

import pytest
import timm
import torch
from small_run import SMALL_CLASSIFIER
from timm.data import resolve_model_data_config
from timm.optim import create_optimizer_v2, param_groups_layer_decay

import convnextv2
from convnextv2.errors import UserError
from convnextv2.models import SIZES
from convnextv2.records import Preprocessing
from convnextv2.weights.files import save_tensors

NAMES = convnextv2.register_with_timm()
QUICK = ["fcmae_convnextv2_atto", "fcmae_convnext_atto"]
EVERY = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name not in QUICK)]
SIDE = 64


def test_every_size_is_listed_once():
    assert convnextv2.register_with_timm() == NAMES
    assert set(timm.list_models("fcmae_*")) == set(NAMES) == {f"fcmae_{name}" for name in SIZES}


@pytest.mark.parametrize("name", EVERY)
def test_forward_and_backward(name):
    model = timm.create_model(name, num_classes=42)
    assert all(tensor.requires_grad for tensor in model.parameters())
    images = torch.randn(2, 3, SIDE, SIDE)
    outputs = model(images)
    assert outputs.shape == (2, 42)
    assert outputs.isfinite().all()
    outputs.mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", EVERY)
def test_pooling_and_head_can_be_reset(name):
    model = timm.create_model(name).eval()
    settings, images = model.default_cfg, torch.randn(1, 3, SIDE, SIDE)
    assert model.get_classifier() is model.head
    assert f"{settings['classifier']}.weight" in model.state_dict()
    assert f"{settings['first_conv']}.weight" in model.state_dict()
    assert model(images).shape == (1, 1000)
    side = SIDE // 32
    assert model.forward_features(images).shape == (1, model.num_features, side, side)
    model.reset_classifier(0)
    assert model(images).shape == (1, model.num_features)
    model.reset_classifier(0, "")
    assert model(images).shape == (1, model.num_features, side, side)
    model.reset_classifier(7, "avg")
    assert model(images).shape == (1, 7)
    assert model.forward_head(model.forward_features(images), pre_logits=True).shape == (1, model.num_features)
    unpooled = timm.create_model(name, num_classes=0, global_pool="")
    assert unpooled(images).shape == (1, model.num_features, side, side)


@pytest.mark.parametrize("name", EVERY)
def test_features(name):
    model = timm.create_model(name, features_only=True).eval()
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    maps, info = model(torch.randn(1, 3, SIDE, SIDE)), model.feature_info
    for found, channels, stride in zip(maps, info.channels(), info.reduction(), strict=True):
        assert found.shape == (1, channels, SIDE // stride, SIDE // stride)


@pytest.mark.parametrize("indices", [(0, 2), (-1,), (1,), 2])
def test_chosen_features_are_those_of_the_whole_model(indices):
    whole = timm.create_model("fcmae_convnextv2_atto").eval()
    images = torch.randn(1, 3, SIDE, SIDE)
    last, maps = whole.forward_intermediates(images)
    assert torch.equal(last, whole.forward_features(images))
    taken = range(4)[-indices:] if isinstance(indices, int) else [index % 4 for index in indices]
    found = whole.forward_intermediates(images, indices=indices, intermediates_only=True)
    assert all(torch.equal(a, maps[index]) for a, index in zip(found, taken, strict=True))
    part = timm.create_model("fcmae_convnextv2_atto", features_only=True, out_indices=indices).eval()
    part.model.load_state_dict(whole.state_dict(), strict=False)
    assert len(part.model.stages) == max(taken) + 1
    assert all(torch.equal(a, b) for a, b in zip(part(images), found, strict=True))


def test_it_is_our_model_and_takes_small_and_odd_pictures():
    model = timm.create_model("fcmae_convnextv2_atto", num_classes=5, stem_stride=2, in_chans=1).eval()
    own = convnextv2.create_model("convnextv2_atto", num_classes=5, stem_stride=2, in_chans=1).eval()
    own.load_state_dict(model.state_dict())
    for size in ((16, 16), (33, 70)):
        images = torch.randn(2, 1, *size)
        assert torch.equal(model(images), own(images))


def test_options_of_timm_are_taken(tmp_path):
    model = timm.create_model("fcmae_convnextv2_atto", drop_rate=0.5, drop_path_rate=0.2, num_classes=3)
    images = torch.randn(2, 3, SIDE, SIDE)
    assert not torch.equal(model(images), model(images))
    torch.save(model.state_dict(), tmp_path / "model.pth")
    again = timm.create_model("fcmae_convnextv2_atto", num_classes=3, checkpoint_path=str(tmp_path / "model.pth"))
    assert torch.equal(again.eval()(images), model.eval()(images))
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert len({group["lr_scale"] for group in groups}) > 10
    with pytest.raises(AssertionError):
        model.set_grad_checkpointing()


def test_grn_does_not_decay_under_timm():
    decayed = {"ours": 0, "timm": 0}
    for side, name in (("ours", "fcmae_convnextv2_atto"), ("timm", "convnextv2_atto")):
        model = timm.create_model(name)
        optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05)
        names = {id(parameter): each for each, parameter in model.named_parameters()}
        groups = [group for group in optimizer.param_groups if group["weight_decay"]]
        found = [names[id(parameter)] for group in groups for parameter in group["params"]]
        assert not [each for each in found if "grn" in each]
        decayed[side] = len(found)
    assert decayed["ours"] == decayed["timm"] > 0


def test_what_is_put_over_the_settings_is_there():
    model = timm.create_model("fcmae_convnextv2_atto", pretrained_cfg_overlay={"crop_pct": 0.5})
    assert model.default_cfg["crop_pct"] == 0.5


def test_a_new_head_is_as_the_model_is():
    model = timm.create_model("fcmae_convnextv2_atto").half()
    model.reset_classifier(3)
    assert model.head.weight.dtype == torch.float16


def test_weights_of_a_run(picture_folder, tmp_path):
    run = convnextv2.classify(picture_folder, tmp_path / "run", **SMALL_CLASSIFIER, epochs=1).run
    own, images = convnextv2.load(run).model, torch.randn(2, 3, 32, 32)
    model = timm.create_model("fcmae_convnextv2_atto", weights=str(run)).eval()
    assert torch.equal(model(images), own(images))
    features = timm.create_model("fcmae_convnextv2_atto", weights=run, features_only=True, out_indices=(1, 3)).eval()
    expected = own.feature_maps(images)
    assert all(torch.equal(a, expected[stage]) for a, stage in zip(features(images), (1, 3), strict=True))
    same = timm.create_model("fcmae_convnextv2_atto", weights=run, features_only=True, feature_cls="getter").eval()
    assert torch.equal(same(images)[3], expected[3])
    with pytest.warns(UserWarning, match=r"stem inflated from 3 channels to 4 \(repeat\)"):
        timm.create_model("fcmae_convnextv2_atto", weights=run, in_chans=4)
    with pytest.warns(UserWarning, match=r"stem inflated from 3 channels to 1 \(mean\)"):
        convnextv2.create_model("convnextv2_atto", pretrained=run, in_chans=1, inflate="mean")
    other = timm.create_model("fcmae_convnextv2_atto", weights=run, num_classes=9)
    assert other.head.out_features == 9
    assert torch.equal(other.state_dict()["norm.weight"], own.state_dict()["norm.weight"])
    with pytest.raises(UserError, match="convnext_atto asked for"):
        timm.create_model("fcmae_convnext_atto", weights=run)


@pytest.mark.parametrize(
    ("pixels", "crop", "expected"),
    [(96, 0.9, ("center", 0.9)), (96, None, ("center", 0.875)), (384, None, ("squash", 1.0))],
)
def test_timm_prepares_pictures_as_the_weights_want(pixels, crop, expected, tmp_path):
    """By timm's own reading of what a model says of its input."""
    statistics = Preprocessing((0.2,), (0.3,))
    tensors = convnextv2.create_model("convnextv2_atto", num_classes=3, in_chans=1).state_dict()
    shape = {"model": "convnextv2_atto", "in_chans": 1, "stem_stride": 4, "depths": None, "dims": None}
    about = {
        "format": "convnextv2.classifier.1",
        "encoder": shape,
        "preprocessing": vars(statistics),
        "image_size": pixels,
    }
    about |= {"classes": ["a", "b", "c"], "crop_pct": crop, "multi_label": False}
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
    save_tensors(tmp_path / "model.safetensors", tensors, metadata)
    model = timm.create_model("fcmae_convnextv2_atto", weights=tmp_path / "model.safetensors")
    found = resolve_model_data_config(model)
    assert (found["input_size"], found["mean"], found["std"]) == ((1, pixels, pixels), (0.2,), (0.3,))
    assert (found["crop_mode"], found["crop_pct"], found["interpolation"]) == (*expected, "bicubic")
    assert model.default_cfg["num_classes"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": True}, "has no weights of its own: give weights=SOURCE"),
        ({"features_only": True, "out_indices": (4,)}, "the stages are 0 to 3"),
        ({"global_pool": "max"}, "give 'avg'"),
        ({"features_only": True, "feature_cls": "fx"}, "only by 'getter'"),
    ],
)
def test_what_is_not_had_is_said(arguments, message):
    with pytest.raises(UserError, match=message):
        timm.create_model("fcmae_convnextv2_atto", **arguments)
