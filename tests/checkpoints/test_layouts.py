"""Other projects' layouts: their names, their shapes, and the same outputs."""

import pytest
import timm
import torch
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
)

from convnextv2.checkpoints import shapes
from convnextv2.checkpoints.foreign import read_foreign
from convnextv2.checkpoints.layout import canonical
from convnextv2.checkpoints.official import NAMES
from convnextv2.checkpoints.recognise import LAYOUTS, recognise, writer
from convnextv2.models import SIZES, create_model
from convnextv2.tasks.pretrain.fcmae import FCMAE

SMALL = ["convnextv2_atto", "convnext_atto"]
LARGE = [name for name in SIZES if name not in SMALL]
EVERY = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
IMAGES = (1, 3, 64, 64)


def randomise(model):
    """Fresh values for all parameters: GRN's zeros would hide errors."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.ndim > 1 and parameter.shape[:3] != (1, 1, 1):
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            else:
                parameter.normal_(0.5, 0.2)
    return model.eval()


def transformers_model(name):
    size = SIZES[name]
    config, model = (
        (ConvNextV2Config, ConvNextV2ForImageClassification)
        if size.grn
        else (ConvNextConfig, ConvNextForImageClassification)
    )
    # The final norm's epsilon is layer_norm_eps here, 1e-12 by default; all others are fixed at 1e-6.
    made = config(depths=list(size.depths), hidden_sizes=list(size.dims), num_labels=10, layer_norm_eps=1e-6)
    return randomise(model(made))


def peer_of(layout, name):
    if layout == "timm":
        return randomise(timm.create_model(name, num_classes=10))
    return transformers_model(name)


def filled(file):
    model = create_model(file.architecture["model"], num_classes=len(file.classes))
    model.load_state_dict(file.tensors)
    return model.eval()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("layout", ["timm", "transformers"])
def test_a_peers_weights_give_its_outputs_and_go_back_bitwise(layout, name, tmp_path):
    peer = peer_of(layout, name)
    theirs = peer.state_dict()
    found = read_foreign(tmp_path / "file", theirs)
    assert (found.architecture["model"], found.metadata["layout"], len(found.classes)) == (name, layout, 10)
    ours, images = filled(found), torch.randn(IMAGES)
    with torch.no_grad():
        expected = peer(images) if layout == "timm" else peer(images).logits
        assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
    back = writer(layout, name).write(ours.state_dict())
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", SIZES)
def test_the_official_shapes_are_those_of_our_model(name):
    with torch.device("meta"):
        model = create_model(name, num_classes=7, in_chans=5, stem_stride=2)
        autoencoder = FCMAE(
            create_model(name, num_classes=0, in_chans=5, stem_stride=2), decoder_dim=24, decoder_depth=2
        )
    shape = {"model": name, "depths": None, "dims": None, "in_chans": 5, "stem_stride": 2}
    assert shapes.encoder(shape, num_classes=7) == {n: tuple(tensor.shape) for n, tensor in model.state_dict().items()}
    expected = {n: tuple(t.shape) for n, t in autoencoder.state_dict().items() if not n.startswith("encoder.")}
    assert shapes.decoder(shape, width=24, depth=2) == expected


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("layout", [layout.name for layout in LAYOUTS])
def test_there_and_back_is_the_same_bit_by_bit(layout, name, tmp_path):
    size = SIZES[name]
    own = randomise(create_model(name, num_classes=10)).state_dict()
    if layout == "minkowski":
        if not size.grn:
            pytest.skip("official pre-training is of V2 alone")
        own = {key: tensor for key, tensor in own.items() if not key.startswith(("norm.", "head."))}
    written = writer(layout, name).write(own)
    again = recognise(written, tmp_path)
    assert again.layout.name == layout
    assert again.unknown == ()
    assert again.tensors.keys() == own.keys()
    assert all(torch.equal(again.tensors[key], own[key]) for key in own)


def mmpretrain_by_hand(own):
    """A state dict as mmpretrain has it, written from its model's attributes, apart from our table."""
    renamed = {"dwconv": "depthwise_conv", "pwconv1": "pointwise_conv1", "pwconv2": "pointwise_conv2"}
    theirs = {}
    for name, tensor in own.items():
        place, _, leaf = name.rpartition(".")
        *place, part = place.split(".")
        if part == "head":
            theirs[f"head.fc.{leaf}"] = tensor
        elif place == []:
            assert part == "norm"
            theirs[f"backbone.norm3.{leaf}"] = tensor
        else:
            value = tensor.reshape(-1) if part == "grn" else tensor
            theirs[".".join(["backbone", *place, renamed.get(part, part), leaf])] = value
    return theirs


@pytest.mark.parametrize("convolutions", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_mmpretrain_as_written_by_hand(name, convolutions, tmp_path):
    """Its pointwise layers are linear, or 1x1 convolutions with linear_pw_conv=False."""
    own = randomise(create_model(name, num_classes=10)).state_dict()
    theirs = mmpretrain_by_hand(own)
    assert "backbone.stages.2.5.pointwise_conv2.weight" in theirs
    assert writer("mmpretrain", name).write(own).keys() == theirs.keys()
    if convolutions:
        theirs = {key: t[:, :, None, None] if "pointwise" in key and t.ndim == 2 else t for key, t in theirs.items()}
    found = read_foreign(tmp_path / "file.pth", theirs)
    assert (found.architecture["model"], found.metadata["layout"]) == (name, "mmpretrain")
    assert found.tensors.keys() == own.keys()
    assert all(torch.equal(found.tensors[key], own[key]) for key in own)


def test_every_name_of_the_official_layout_has_one_in_each_other():
    """By the tables of names alone, so that no name is forgotten where a test model has none of it."""
    for layout in LAYOUTS:
        has = {official for official, _ in layout.pairs}
        left = set(NAMES) - has
        if layout.name == "minkowski":  # no V1, no final norm, no head; the others one by one
            assert left == {
                "stages.{s}.{b}.dwconv.{leaf}",
                "stages.{s}.{b}.gamma",
                "norm.{leaf}",
                "head.{leaf}",
                "downsample_layers.{k}.{j}.{leaf}",
            }
        else:
            missing = {"downsample_layers.0.{j}.{leaf}"} if layout.name == "transformers" else set()
            assert left == missing


@pytest.mark.parametrize("shape", [(8,), (1, 8), (1, 1, 1, 8), (1, 8, 1, 1), (1, 1, 1, 1, 1, 8)])
def test_grn_comes_in_any_number_of_axes(shape):
    values = torch.arange(8.0)
    found = canonical("stages.0.0.grn.gamma", values.reshape(shape))
    assert found.shape == (1, 1, 1, 8)
    assert torch.equal(found.flatten(), values)


def test_grn_of_two_long_axes_is_left_for_the_error():
    assert canonical("stages.0.0.grn.beta", torch.zeros(2, 4)).shape == (2, 4)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", ""])
def test_wrappers_are_taken_off(wrapper, tmp_path):
    own = create_model("convnextv2_atto", num_classes=2).state_dict()
    found = recognise({wrapper + name: tensor for name, tensor in own.items()}, tmp_path)
    assert found.tensors.keys() == own.keys()


def test_old_files_of_transformers_have_gamma_and_beta(tmp_path):
    theirs = transformers_model("convnextv2_atto").state_dict()
    old = {
        name.replace("grn.weight", "grn.gamma").replace("grn.bias", "grn.beta"): value for name, value in theirs.items()
    }
    assert old.keys() != theirs.keys()
    a, b = read_foreign(tmp_path / "file", old), read_foreign(tmp_path / "file", theirs)
    assert all(torch.equal(a.tensors[name], b.tensors[name]) for name in b.tensors)


def test_an_encoder_of_pre_training_alone_gets_its_final_norm(tmp_path):
    own = randomise(create_model("convnextv2_atto", num_classes=0)).state_dict()
    bare = {name: tensor for name, tensor in own.items() if not name.startswith("norm.")}
    found = read_foreign(tmp_path / "file", {**bare, **{n: t.reshape(1, -1) for n, t in bare.items() if ".grn." in n}})
    assert found.classes == ()
    assert len(found.tensors) == len(own)
    assert found.tensors["norm.weight"].eq(1).all()
    assert found.tensors["norm.bias"].eq(0).all()
    assert all(torch.equal(found.tensors[name], own[name]) for name in bare)
