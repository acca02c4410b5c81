"""What every model promises: shapes, gradients, independence of the batch, drop path, errors, initialisation."""

import pytest
import torch
from torch import nn

from convnextv2.errors import UserError
from convnextv2.models import SIZES, create_model
from convnextv2.models.block import Block
from convnextv2.models.grid import Cells, DenseGrid, PackedGrid

SMALL = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "num_classes": 10}
FAMILIES = pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])


def blocks(model):
    return [m for m in model.modules() if isinstance(m, Block)]


@pytest.mark.parametrize("name", SIZES)
def test_every_size_gives_logits_features_and_all_gradients(name, randomise):
    with torch.device("meta"):
        model = create_model(name, depths=(1, 1, 1, 1), num_classes=7)
    model = randomise(model.to_empty(device="cpu"))
    images = torch.randn(2, 3, 64, 32)
    logits = model(images)
    assert logits.shape == (2, 7)
    logits.square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name
    with torch.no_grad():
        maps = model.feature_maps(images)
    width = SIZES[name].dims[0]
    assert [tuple(m.shape) for m in maps] == [
        (2, width, 16, 8),
        (2, 2 * width, 8, 4),
        (2, 4 * width, 4, 2),
        (2, 8 * width, 2, 1),
    ]


@pytest.mark.parametrize("in_chans", [1, 3, 5])
@pytest.mark.parametrize("stem_stride", [4, 2, 1])
@FAMILIES
@torch.no_grad()
def test_feature_maps_have_the_strides_that_the_model_tells(name, stem_stride, in_chans):
    model = create_model(name, stem_stride=stem_stride, in_chans=in_chans, **SMALL)
    assert model.strides == (stem_stride, 2 * stem_stride, 4 * stem_stride, 8 * stem_stride)
    for height, width in [(64, 32), (45, 77)]:
        maps = model.feature_maps(torch.randn(2, in_chans, height, width))
        expected = [(2, c, height // s, width // s) for c, s in zip(SMALL["dims"], model.strides, strict=True)]
        assert [tuple(m.shape) for m in maps] == expected


@FAMILIES
@torch.no_grad()
def test_without_classes_the_model_gives_pooled_features(name, randomise):
    model = randomise(create_model(name, **SMALL | {"num_classes": 0}))
    images = torch.randn(2, 3, 64, 64)
    pooled = model.feature_maps(images)[-1].mean((2, 3))
    expected = nn.functional.layer_norm(pooled, (32,), model.norm.weight, model.norm.bias, eps=1e-6)
    torch.testing.assert_close(model(images), expected)
    torch.testing.assert_close(model.pooled_features(images), expected)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16 autocast"])
@pytest.mark.parametrize("case", ["zero pictures", "zero pictures, untrained", "a dead GRN channel"])
@FAMILIES
def test_gradients_are_finite_at_zeros(name, case, autocast, randomise):
    model = create_model(name, **SMALL)
    if case != "zero pictures, untrained":  # untrained biases are zero: then so is every activation
        randomise(model)
    images = torch.zeros(2, 3, 64, 64) if case.startswith("zero") else torch.randn(2, 3, 64, 64)
    if case == "a dead GRN channel":  # GELU underflows to exact zeros
        for block in blocks(model):
            nn.init.zeros_(block.pwconv1.weight[3])
            nn.init.constant_(block.pwconv1.bias[3], -60)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = nn.functional.cross_entropy(model(images), torch.tensor([1, 2]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@FAMILIES
@torch.no_grad()
def test_bf16_autocast_stays_near_float32(name, randomise, difference):
    model = randomise(create_model(name, **SMALL))
    images = torch.randn(2, 3, 64, 64)
    exact = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert difference(model(images), exact) < 3e-2  # some twenty layers of 2^-9 each


@FAMILIES
@torch.no_grad()
def test_a_picture_does_not_depend_on_its_batch(name, randomise, assert_same):
    model = randomise(create_model(name, **SMALL)).double().eval()
    images = torch.randn(3, 3, 64, 96, dtype=torch.float64)
    assert_same([model(image[None])[0] for image in images], list(model(images)))


@FAMILIES
@torch.no_grad()
def test_evaluation_is_deterministic_and_without_drop_path(name, randomise):
    model = randomise(create_model(name, drop_path_rate=0.5, **SMALL)).eval()
    certain = create_model(name, **SMALL).eval()
    certain.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(images), model(images))
    assert torch.equal(model(images), certain(images))


@torch.no_grad()
def test_memory_format_does_not_matter(randomise, assert_same):
    model = randomise(create_model("convnextv2_atto", **SMALL)).double()
    images = torch.randn(2, 3, 65, 64, dtype=torch.float64)
    assert_same([model(images.to(memory_format=torch.channels_last))], [model(images)])


@pytest.mark.parametrize(("name", "count"), [("convnextv2_atto", 12), ("convnextv2_nano", 14), ("convnext_tiny", 18)])
def test_drop_path_rates_rise_linearly_from_zero(name, count):
    with torch.device("meta"):
        rates = [block.drop_path_rate for block in blocks(create_model(name, drop_path_rate=0.3))]
    assert rates == pytest.approx([0.3 * i / (count - 1) for i in range(count)], abs=1e-7)


@pytest.mark.parametrize("layout", ["dense", "packed"])
@torch.no_grad()
def test_drop_path_drops_the_branch_of_whole_pictures(layout, randomise):
    batch, rate = 400, 0.25
    block = randomise(Block(4, drop_path_rate=rate)).double()
    x = torch.randn(batch, 4, 2, 2, 4, dtype=torch.float64)
    if layout == "packed":
        mask = torch.tensor([[False, True, False], [True, False, False]]).expand(batch, -1, -1)
        grid = PackedGrid(Cells.of(mask, mask.device), unit=2)
    else:
        x, grid = x.flatten(1, 2), DenseGrid()
    branch = grid.sites(block.eval()(grid.maps(x), grid)) - x
    change = grid.sites(block.train()(grid.maps(x), grid)) - x
    kept = change.flatten(1).any(1)
    torch.testing.assert_close(change[kept], branch[kept] / (1 - rate))
    assert abs(kept.double().mean() - (1 - rate)) < 5 * (rate * (1 - rate) / batch) ** 0.5


class AllImages(DenseGrid):
    """A grid that cannot leave images out, so that every branch is computed and then multiplied by zero or not."""

    dense = False


@pytest.mark.parametrize("rate", [0.0, 0.4, 0.9999])
@pytest.mark.parametrize("grn", [True, False])
def test_dropped_branches_need_not_be_computed(rate, grn, randomise):
    """What is skipped would have been multiplied by zero: values and all gradients are those of the definition."""
    found = []
    for grid in (DenseGrid(), AllImages()):
        torch.manual_seed(3)
        block = randomise(Block(4, grn=grn, drop_path_rate=rate)).double().train()
        x = torch.randn(12, 5, 6, 4, dtype=torch.float64, requires_grad=True)
        y = grid.sites(block(grid.maps(x), grid))
        (y * torch.randn_like(y)).sum().backward()
        assert y.equal(x) == (rate > 0.99)
        found.append([y.detach(), x.grad, *(parameter.grad for parameter in block.parameters())])
    assert all(gradient is not None for gradient in found[1])  # other processes may wait for each
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("convnextv2_ato", {}, "'convnextv2_ato'.*did you mean convnextv2_atto"),
        ("convnext2_tiny", {}, "did you mean.*convnextv2_tiny"),
        ("resnet50", {}, "'resnet50'.*convnextv2_huge"),
        ("convnextv2_atto", {"depths": (1, 1, 1)}, r"depths must be 4 numbers.*\(1, 1, 1\)"),
        ("convnextv2_atto", {"depths": (1, 0, 1, 1)}, r"depths must be .* at least 1.*\(1, 0, 1, 1\)"),
        ("convnextv2_atto", {"depths": ()}, "depths must be 4 numbers"),
        ("convnextv2_atto", {"dims": (8, 8)}, r"dims must be 4 numbers.*\(8, 8\)"),
        ("convnextv2_atto", {"dims": ()}, "dims must be 4 numbers"),
        ("convnextv2_atto", {"num_classes": -1}, "num_classes must be 0 .* or more, got -1"),
        ("convnextv2_atto", {"in_chans": 0}, "in_chans must be at least 1, got 0"),
        ("convnextv2_atto", {"stem_stride": 3}, "stem_stride must be 4, 2 or 1, got 3"),
        ("convnextv2_atto", {"drop_path_rate": 1.0}, "drop_path_rate must be .* below 1, got 1.0"),
        ("convnextv2_atto", {"drop_path_rate": -0.1}, "drop_path_rate must be at least 0"),
    ],
)
def test_wrong_options_give_one_clear_line(name, options, message):
    with pytest.raises(UserError, match=message) as error, torch.device("meta"):
        create_model(name, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shape", "stem_stride", "message"),
    [
        ((2, 1, 64, 64), 4, r"\(B, 3, H, W\), got \(2, 1, 64, 64\)"),
        ((3, 64, 64), 4, r"\(B, 3, H, W\), got \(3, 64, 64\)"),
        ((2, 64, 64, 3), 4, r"\(B, 3, H, W\), got \(2, 64, 64, 3\)"),
        ((2, 3, 64, 31), 4, "64x31 are smaller than the total stride 32; .*stem_stride=2"),
        ((2, 3, 15, 64), 2, "15x64 are smaller than the total stride 16; .*stem_stride=1"),
        ((2, 3, 7, 64), 1, "7x64 are smaller than the total stride 8; use larger images$"),
    ],
)
@pytest.mark.parametrize("call", ["__call__", "feature_maps", "pooled_features"])
def test_wrong_pictures_give_one_clear_line(shape, stem_stride, message, call):
    model = create_model("convnextv2_atto", stem_stride=stem_stride, **SMALL)
    with pytest.raises(UserError, match=message) as error:
        getattr(model, call)(torch.zeros(shape))
    assert "\n" not in str(error.value)


@FAMILIES
def test_initialisation_is_the_published_one(name):
    model = create_model(name)
    for key, parameter in model.named_parameters():
        if parameter.ndim > 1 and "grn" not in key:  # convolutions and linear maps: normal of std 0.02
            spread = 5 * 0.02 / parameter.numel() ** 0.5
            assert abs(parameter.std() - 0.02) < spread, key
            assert abs(parameter.mean()) < spread, key
        elif key.endswith("weight"):  # LayerNorm
            assert parameter.eq(1).all(), key
        elif key.endswith(".gamma") and "grn" not in key:  # LayerScale
            assert parameter.eq(1e-6).all(), key
        else:  # every bias, and GRN
            assert parameter.eq(0).all(), key


def test_layer_scale_is_as_asked_for():
    for block in blocks(create_model("convnext_atto", layer_scale=0.5, **SMALL)):
        assert block.gamma.eq(0.5).all()


def test_head_init_scale_scales_the_head_only():
    states = []
    for scale in (1.0, 0.001):
        torch.manual_seed(3)
        states.append(create_model("convnextv2_atto", head_init_scale=scale, **SMALL).state_dict())
    full, scaled = states
    torch.testing.assert_close(scaled.pop("head.weight"), 0.001 * full.pop("head.weight"))
    assert all(torch.equal(scaled[key], full[key]) for key in full)
