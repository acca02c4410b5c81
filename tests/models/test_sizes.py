"""The table of sizes, and the published names and shapes of every tensor."""

import pytest
import torch

from convnextv2.models import SIZES, create_model

PARAMETERS = {  # of the whole model with 1000 classes, as published or as in timm
    "convnextv2_atto": 3_708_400,
    "convnextv2_femto": 5_233_240,
    "convnextv2_pico": 9_066_280,
    "convnextv2_nano": 15_623_800,
    "convnextv2_tiny": 28_635_496,
    "convnextv2_base": 88_717_800,
    "convnextv2_large": 197_956_840,
    "convnextv2_huge": 660_289_640,
    "convnext_atto": 3_695_520,
    "convnext_femto": 5_217_784,
    "convnext_pico": 9_045_672,
    "convnext_nano": 15_593_560,
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "convnext_xlarge": 350_196_968,
}
TENSORS = {"atto": 140, "femto": 140, "pico": 140, "nano": 160, "tiny": 200}  # V2; the others 380
DEPTHS = {"atto": (2, 2, 6, 2), "femto": (2, 2, 6, 2), "pico": (2, 2, 6, 2), "nano": (2, 2, 8, 2), "tiny": (3, 3, 9, 3)}
WIDTHS = {"atto": 40, "femto": 48, "pico": 64, "nano": 80, "tiny": 96, "small": 96, "base": 128, "large": 192} | {
    "xlarge": 256,
    "huge": 352,
}


def meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def official_shapes(family, size, classes=1000, channels=3, stem=4):
    """Every tensor of the official dense model, written down from its published files."""
    dims = [WIDTHS[size] * 2**stage for stage in range(4)]
    shapes = {"downsample_layers.0.0.weight": (dims[0], channels, stem, stem), "downsample_layers.0.0.bias": (dims[0],)}
    shapes |= {f"downsample_layers.0.1.{p}": (dims[0],) for p in ("weight", "bias")}
    for k in (1, 2, 3):
        shapes |= {f"downsample_layers.{k}.0.{p}": (dims[k - 1],) for p in ("weight", "bias")}
        shapes[f"downsample_layers.{k}.1.weight"] = (dims[k], dims[k - 1], 2, 2)
        shapes[f"downsample_layers.{k}.1.bias"] = (dims[k],)
    for stage, depth in enumerate(DEPTHS.get(size, (3, 3, 27, 3))):
        c = dims[stage]
        for block in range(depth):
            tensors = {
                "dwconv.weight": (c, 1, 7, 7),
                "dwconv.bias": (c,),
                "norm.weight": (c,),
                "norm.bias": (c,),
                "pwconv1.weight": (4 * c, c),
                "pwconv1.bias": (4 * c,),
                "pwconv2.weight": (c, 4 * c),
                "pwconv2.bias": (c,),
            }
            if family == "convnextv2":
                tensors |= {"grn.gamma": (1, 1, 1, 4 * c), "grn.beta": (1, 1, 1, 4 * c)}
            else:
                tensors |= {"gamma": (c,)}
            shapes |= {f"stages.{stage}.{block}.{key}": shape for key, shape in tensors.items()}
    shapes |= {"norm.weight": (dims[3],), "norm.bias": (dims[3],)}
    if classes:
        shapes |= {"head.weight": (classes, dims[3]), "head.bias": (classes,)}
    return shapes


def shapes_of(model):
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def test_these_are_all_the_sizes():
    assert set(SIZES) == set(PARAMETERS)


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts_are_the_published_ones(name):
    assert sum(p.numel() for p in meta(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", SIZES)
def test_state_dict_is_the_official_one(name):
    family, size = name.split("_")
    state = shapes_of(meta(name))
    assert state == official_shapes(family, size)
    if family == "convnextv2":
        assert len(state) == TENSORS.get(size, 380)


@pytest.mark.parametrize("stem", [4, 2, 1])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("classes", [10, 0])
@pytest.mark.parametrize("family", ["convnextv2", "convnext"])
def test_options_change_the_stem_and_the_head_only(family, classes, channels, stem):
    model = meta(f"{family}_atto", num_classes=classes, in_chans=channels, stem_stride=stem)
    assert shapes_of(model) == official_shapes(family, "atto", classes, channels, stem)


def test_every_tensor_is_a_parameter():
    model = meta("convnextv2_atto")
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
