"""The same weights give the same numbers in timm, in transformers and here."""

import re

import pytest
import timm
import torch
from transformers import ConvNextV2Config, ConvNextV2ForImageClassification

from convnextv2.models import SIZES, create_model

# One line a layer: our name, and its name there.
TIMM = [
    (r"downsample_layers\.0\.(\d)", r"stem.\1"),
    (r"downsample_layers\.(\d)\.(\d)", r"stages.\1.downsample.\2"),
    (r"stages\.(\d)\.(\d+)\.dwconv", r"stages.\1.blocks.\2.conv_dw"),
    (r"stages\.(\d)\.(\d+)\.norm", r"stages.\1.blocks.\2.norm"),
    (r"stages\.(\d)\.(\d+)\.pwconv([12])", r"stages.\1.blocks.\2.mlp.fc\3"),
    (r"stages\.(\d)\.(\d+)\.grn\.gamma", r"stages.\1.blocks.\2.mlp.grn.weight"),
    (r"stages\.(\d)\.(\d+)\.grn\.beta", r"stages.\1.blocks.\2.mlp.grn.bias"),
    (r"stages\.(\d)\.(\d+)\.gamma", r"stages.\1.blocks.\2.gamma"),
    (r"norm", r"head.norm"),
    (r"head", r"head.fc"),
]
TRANSFORMERS = [
    (r"downsample_layers\.0\.0", r"convnextv2.embeddings.patch_embeddings"),
    (r"downsample_layers\.0\.1", r"convnextv2.embeddings.layernorm"),
    (r"downsample_layers\.(\d)\.(\d)", r"convnextv2.encoder.stages.\1.downsampling_layer.\2"),
    (r"stages\.(\d)\.(\d+)\.(dwconv|pwconv[12])", r"convnextv2.encoder.stages.\1.layers.\2.\3"),
    (r"stages\.(\d)\.(\d+)\.norm", r"convnextv2.encoder.stages.\1.layers.\2.layernorm"),
    (r"stages\.(\d)\.(\d+)\.grn\.gamma", r"convnextv2.encoder.stages.\1.layers.\2.grn.weight"),
    (r"stages\.(\d)\.(\d+)\.grn\.beta", r"convnextv2.encoder.stages.\1.layers.\2.grn.bias"),
    (r"norm", r"convnextv2.layernorm"),
    (r"head", r"classifier"),
]

# The largest: same widths, fewer blocks, so that it fits a small machine.
SHALLOW = {"convnextv2_huge": (1, 1, 2, 1), "convnext_xlarge": (1, 1, 2, 1)}
SLOW = ("convnextv2_large", "convnext_large", "convnext_xlarge")


def names(condition=lambda size: True):
    chosen = [name for name, size in SIZES.items() if condition(size)]
    return [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in chosen]


def build(name, randomise, dtype, **options):
    """A model with random weights, without the time that initialisation takes."""
    with torch.device("meta"):
        model = create_model(name, **options)
    return randomise(model.to(dtype).to_empty(device="cpu")).eval()


def rename(key, table):
    for ours, theirs in table:
        new, changed = re.subn(rf"^{ours}(?=\.weight$|\.bias$|$)", theirs, key)
        if changed:
            return new
    raise KeyError(key)


def lend_weights(model, peer, table):
    """The peer, built without memory, gets the very tensors of `model`."""
    shapes = {key: value.shape for key, value in peer.state_dict().items()}
    state = {rename(key, table): value for key, value in model.state_dict().items()}
    peer.load_state_dict({k: v.view(shapes[k]) for k, v in state.items()}, strict=True, assign=True)
    return peer.eval()


def timm_peer(model, name, **options):
    with torch.device("meta"):
        peer = timm.create_model(name, pretrained=False, **options)
    return lend_weights(model, peer, TIMM)


def transformers_peer(model):
    config = ConvNextV2Config(
        num_channels=model.in_chans,
        patch_size=model.stem_stride,
        depths=list(model.depths),
        hidden_sizes=list(model.dims),
        num_labels=model.num_classes,
        # Its default of 1e-12 reaches the final norm only, where the published model has 1e-6 as everywhere.
        layer_norm_eps=1e-6,
    )
    with torch.device("meta"):
        peer = ConvNextV2ForImageClassification(config)
    return lend_weights(model, peer, TRANSFORMERS)


def ours(model, images):
    return [model(images), *model.feature_maps(images)]


def timms(peer, images):
    return [peer(images), *peer.forward_intermediates(images, intermediates_only=True)]


def transformerss(peer, images):
    output = peer(images, output_hidden_states=True)
    _stem, *maps = output.hidden_states
    return [output.logits, *maps]


@pytest.mark.parametrize("name", names())
@torch.no_grad()
def test_every_size_equals_timm(name, randomise, assert_same):
    depths = {"depths": SHALLOW[name]} if name in SHALLOW else {}
    model = build(name, randomise, torch.float32, **depths)
    for dtype in (torch.float32, torch.float64):
        images = torch.randn(2, 3, 96, 64, dtype=dtype)
        expected = timms(timm_peer(model.to(dtype), name, **depths), images)
        assert all(0.1 < t.abs().max() < 1e3 for t in expected)
        assert_same(ours(model, images), expected)


@pytest.mark.parametrize("name", names(lambda size: size.grn))
@torch.no_grad()
def test_every_v2_size_equals_transformers(name, randomise, assert_same):
    model = build(name, randomise, torch.float32, depths=SHALLOW.get(name))
    for dtype in (torch.float32, torch.float64):
        images = torch.randn(2, 3, 64, 96, dtype=dtype)
        expected = transformerss(transformers_peer(model.to(dtype)), images)
        assert_same(ours(model, images), expected)


@pytest.mark.parametrize("in_chans", [1, 3, 5])
@pytest.mark.parametrize("stem_stride", [4, 2, 1])
@torch.no_grad()
def test_stems_and_channels_equal_transformers(stem_stride, in_chans, randomise, assert_same):
    small = {"depths": (1, 2, 1, 1), "dims": (8, 12, 16, 24), "num_classes": 7}
    model = build("convnextv2_atto", randomise, torch.float64, stem_stride=stem_stride, in_chans=in_chans, **small)
    images = torch.randn(2, in_chans, 48, 40, dtype=torch.float64)
    assert_same(ours(model, images), transformerss(transformers_peer(model), images))


@pytest.mark.parametrize("size", [(97, 131), (63, 32), (33, 95), (127, 129)])
@pytest.mark.parametrize("num_classes", [10, 0])
@pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])
@torch.no_grad()
def test_odd_picture_sizes_equal_timm(name, num_classes, size, randomise, assert_same):
    small = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "num_classes": num_classes}
    model = build(name, randomise, torch.float64, **small)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    assert_same(ours(model, images), timms(timm_peer(model, name, **small), images))


@pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])
def test_every_gradient_equals_timms(name, randomise, assert_same):
    small = {"depths": (2, 1, 2, 1), "dims": (8, 16, 24, 32), "num_classes": 10}
    model = build(name, randomise, torch.float64, **small)
    peer = timm_peer(model, name, **small).requires_grad_()
    images = torch.randn(2, 3, 67, 96, dtype=torch.float64)
    labels = torch.tensor([3, 8])
    for network in (model, peer):
        torch.nn.functional.cross_entropy(network(images), labels).backward()
    theirs = dict(peer.named_parameters())
    for key, parameter in model.named_parameters():
        assert_same([parameter.grad], [theirs[rename(key, TIMM)].grad.view_as(parameter)])
