"""FCMAE: the packed and the dense-masked path are one function, and that function is the textbook's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import TOLERANCE, randomise
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from convnextv2 import ops
from convnextv2.errors import UserError
from convnextv2.models import ConvNeXt, EncoderConfig, create_model
from convnextv2.models.block import Block
from convnextv2.models.grid import Cells, DenseGrid, MaskedGrid, PackedGrid
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.masking import random_mask

PATHS = pytest.mark.parametrize("sparse", [True, False], ids=["packed", "masked"])
FAMILIES = pytest.mark.parametrize("grn", [True, False], ids=["V2", "V1"])
BOTH = pytest.mark.parametrize("implementation", ["reference", "fused"])


def build(grn=True, *, channels=3, stem=4, dtype=torch.float64, depths=(1, 1, 1, 1), dims=(4, 6, 8, 10), **options):
    name = "convnextv2_atto" if grn else "convnext_atto"
    config = EncoderConfig.named(name, depths=depths, dims=dims, in_chans=channels, stem_stride=stem)
    encoder = ConvNeXt(config, num_classes=0)
    return randomise(FCMAE(encoder, **{"decoder_dim": 6} | options)).to(dtype)


def pictures(model, mask, dtype=torch.float64):
    batch, rows, columns = mask.shape
    return torch.randn(batch, model.encoder.in_chans, rows * model.cell, columns * model.cell, dtype=dtype)


def ragged_mask(rows, columns, hidden):
    """A random mask with hidden[i] cells of picture i hidden."""
    mask = torch.zeros(len(hidden), rows * columns, dtype=torch.bool)
    for picture, number in zip(mask, hidden, strict=True):
        picture[torch.randperm(rows * columns)[:number]] = True
    return mask.view(-1, rows, columns)


def gradients(model, loss):
    """The gradient of every parameter that takes part, by name. The encoder's final norm must not."""
    named = {name: p for name, p in model.named_parameters() if not name.startswith("encoder.norm.")}
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def assert_same(result, reference, what=""):
    assert result.shape == reference.shape, what
    difference = (result.double() - reference.double()).abs().max()
    assert difference <= TOLERANCE[reference.dtype] * reference.double().abs().max(), (what, difference)


def assert_same_loss_and_gradients(model, loss, reference):
    assert_same(loss, reference, "loss")
    expected = gradients(model, reference)
    for name, gradient in gradients(model, loss).items():
        assert_same(gradient, expected[name], name)


# ---- one function, two paths


@st.composite
def cases(draw):
    """Any model, any batch of pictures, and any mask that shows something and hides something."""
    rows, columns = draw(st.sampled_from([(1, 2), (2, 1), (2, 2), (1, 5), (3, 2), (2, 4), (3, 3), (4, 5)]))
    batch, cells = draw(st.integers(1, 3)), rows * columns
    torch.manual_seed(draw(st.integers(0, 2**32)))
    model = build(
        draw(st.booleans()),
        channels=draw(st.sampled_from([1, 3, 5])),
        stem=draw(st.sampled_from([4, 2, 1])),
        depths=draw(st.sampled_from([(1, 1, 1, 1), (1, 2, 1, 2)])),
        decoder_depth=draw(st.sampled_from([1, 2])),
        norm_pix_loss=draw(st.booleans()),
    )
    if draw(st.booleans()):
        mask = random_mask(batch, rows, columns, draw(st.floats(0.05, 0.95)))
    else:
        number = st.integers(0, cells)
        some = st.lists(number, min_size=batch, max_size=batch).filter(lambda n: 0 < sum(n) < batch * cells)
        mask = ragged_mask(rows, columns, draw(some))
    return model, pictures(model, mask), mask


@BOTH
@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_packed_and_masked_paths_are_one_function(implementation, case):
    model, images, mask = case
    with ops.force(implementation):
        packed, masked = (model(images, mask, sparse=sparse).loss for sparse in (True, False))
        assert_same_loss_and_gradients(model, packed, masked)


@BOTH
@FAMILIES
@pytest.mark.parametrize("hidden", [(6, 0, 3), (6, 0, 0), (6, 5, 5), (0, 6, 1)], ids=str)
def test_pictures_wholly_hidden_or_wholly_shown(hidden, grn, implementation):
    model, mask = build(grn), ragged_mask(2, 3, hidden)
    images = pictures(model, mask)
    with ops.force(implementation):
        packed, masked = (model(images, mask, sparse=sparse).loss for sparse in (True, False))
        assert_same_loss_and_gradients(model, packed, masked)


@BOTH
@FAMILIES
def test_the_paths_agree_in_float32(grn, implementation):
    model, mask = build(grn, dtype=torch.float32), ragged_mask(3, 2, (4, 3))
    images = pictures(model, mask, torch.float32)
    with ops.force(implementation):
        packed, masked = (model(images, mask, sparse=sparse).loss for sparse in (True, False))
        assert_same_loss_and_gradients(model, packed, masked)


@PATHS
@FAMILIES
def test_bf16_autocast_trains(grn, sparse):
    model, mask = build(grn, dtype=torch.float32), ragged_mask(3, 2, (4, 3))
    images = pictures(model, mask, torch.float32)
    exact = model(images, mask, sparse=sparse).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(images, mask, sparse=sparse).loss
    assert loss.dtype == torch.float32
    assert_same(loss.bfloat16(), exact.bfloat16())
    assert all(g.isfinite().all() for g in gradients(model, loss).values())


# ---- a third opinion: dictionaries of sites {(row, column): vector}, no grid, no convolution, one picture at a time


def textbook_depthwise(sites, conv):
    """A submanifold convolution: outputs where inputs are, absent neighbours count as zero, bias included."""
    result = {}
    for i, j in sites:
        total = conv.bias
        for (k, m), x in sites.items():
            if abs(k - i) <= 3 and abs(m - j) <= 3:
                total = total + conv.weight[:, 0, k - i + 3, m - j + 3] * x
        result[i, j] = total
    return result


def textbook_norm(x, norm):
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-6).sqrt() * norm.weight + norm.bias


def textbook_grn(sites, grn):
    if not sites:
        return sites
    g = sum(x * x for x in sites.values()).sqrt()
    n = g / (g.mean() + 1e-6)
    gamma, beta = grn.gamma.flatten(), grn.beta.flatten()
    return {site: gamma * (x * n) + beta + x for site, x in sites.items()}


def textbook_block(sites, block):
    hidden = {
        site: F.gelu(block.pwconv1.weight @ textbook_norm(x, block.norm) + block.pwconv1.bias)
        for site, x in textbook_depthwise(sites, block.dwconv).items()
    }
    if block.grn is not None:
        hidden = textbook_grn(hidden, block.grn)
    scale = 1 if block.gamma is None else block.gamma
    return {s: sites[s] + scale * (block.pwconv2.weight @ x + block.pwconv2.bias) for s, x in hidden.items()}


def textbook_patches(sites, conv):
    """A convolution whose stride is its kernel: a site belongs to one output only."""
    size, result = conv.weight.shape[-1], {}
    for (i, j), x in sites.items():
        site = i // size, j // size
        result[site] = result.get(site, conv.bias) + conv.weight[:, :, i % size, j % size] @ x
    return result


def textbook_encoder(picture, mask, encoder, cell):
    """picture: (C, H, W).  mask: (h, w).  Returns the visible sites of the last stage."""
    _, height, width = picture.shape
    shown = ((i, j) for i in range(height) for j in range(width) if not mask[i // cell, j // cell])
    sites = {(i, j): picture[:, i, j] for i, j in shown}
    for stage, blocks in enumerate(encoder.stages):
        first, second = encoder.downsample_layers[stage]
        if stage == 0:
            sites = {s: textbook_norm(x, second) for s, x in textbook_patches(sites, first).items()}
        else:
            sites = textbook_patches({s: textbook_norm(x, first) for s, x in sites.items()}, second)
        for block in blocks:
            sites = textbook_block(sites, block)
    return sites


def textbook_loss(model, images, mask):
    errors = []
    for picture, hidden in zip(images, mask, strict=True):
        shown = textbook_encoder(picture, hidden, model.encoder, model.cell)
        sites = {}
        for i in range(hidden.shape[0]):
            for j in range(hidden.shape[1]):
                projected = model.proj.weight[:, :, 0, 0] @ shown[i, j] + model.proj.bias if (i, j) in shown else None
                sites[i, j] = model.mask_token.flatten() if projected is None else projected
        for block in model.decoder:
            sites = textbook_block(sites, block)
        for (i, j), x in sites.items():
            if hidden[i, j]:
                errors.append(textbook_error(model, x, picture, i, j))
    return sum(errors) / len(errors)


def textbook_error(model, x, picture, i, j):
    """The mean squared error of one hidden cell, whose decoded vector is x."""
    p = model.cell
    target = torch.stack([picture[:, i * p + r, j * p + c] for r in range(p) for c in range(p)]).flatten()
    if model.norm_pix_loss:
        target = target - target.mean()
        target = target / (target.square().sum() / (len(target) - 1) + 1e-6).sqrt()
    return (model.pred.weight[:, :, 0, 0] @ x + model.pred.bias - target).square().mean()


@PATHS
@FAMILIES
def test_a_block_is_the_textbooks(grn, sparse):
    block, mask, unit = randomise(Block(4, grn=grn)).double(), ragged_mask(2, 3, (3, 5)), 2
    x = torch.randn(2, 4, 6, 4, dtype=torch.float64)
    cells = Cells.of(mask, mask.device)
    if sparse:
        by_cell = x.view(2, 2, unit, 3, unit, 4).transpose(2, 3).reshape(12, unit, unit, 4)
        given = by_cell[cells.visible.clamp(max=11)]  # a place without a cell may hold anything
        grid = PackedGrid(cells, unit)
        packed = grid.sites(block(grid.maps(given), grid))
        y = torch.zeros(13, unit, unit, 4, dtype=x.dtype)
        y[cells.visible] = packed
        y = y[:12].view(2, 2, 3, unit, unit, 4).transpose(2, 3).reshape(x.shape)
    else:
        grid = MaskedGrid(mask, unit)
        y = grid.sites(block(grid.maps(x), grid))
    for b in range(2):
        sites = {(i, j): x[b, i, j] for i in range(4) for j in range(6) if not mask[b, i // unit, j // unit]}
        for site, expected in textbook_block(sites, block).items():
            assert_same(y[(b, *site)], expected, site)


@PATHS
@FAMILIES
def test_the_encoder_is_the_textbooks(grn, sparse):
    model, mask = build(grn), ragged_mask(2, 3, (4, 2))
    images = pictures(model, mask)
    features = model.encode(images, mask, sparse)
    expected = torch.zeros_like(features)
    for b in range(2):
        for site, x in textbook_encoder(images[b], mask[b], model.encoder, model.cell).items():
            expected[(b, *site)] = x
    assert_same(features, expected)
    assert features[mask].eq(0).all()


@PATHS
@FAMILIES
@pytest.mark.parametrize(
    ("hidden", "options"),
    [((2, 1), {}), ((4, 2), {"stem": 1, "decoder_depth": 2}), ((3,), {"stem": 2, "norm_pix_loss": False})],
)
def test_the_loss_and_every_gradient_are_the_textbooks(hidden, options, grn, sparse):
    model, mask = build(grn, **options), ragged_mask(2, 2, hidden)
    images = pictures(model, mask)
    loss = model(images, mask, sparse=sparse).loss
    assert_same_loss_and_gradients(model, loss, textbook_loss(model, images, mask))


@FAMILIES
@pytest.mark.parametrize("layout", ["packed", "masked"])
@torch.no_grad()
def test_with_everything_visible_the_encoder_is_the_dense_model(layout, grn):
    model, mask = build(grn, depths=(1, 2, 1, 1)), torch.zeros(2, 2, 3, dtype=torch.bool)
    images = pictures(model, mask)
    dense, cell = model.encoder.stage_outputs(images, DenseGrid()), model.cell
    if layout == "packed":
        pixels = images.view(2, 3, 2, cell, 3, cell).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        outputs = model.encoder.stage_outputs(pixels, PackedGrid(Cells.of(mask, mask.device), unit=8))
        outputs = [
            y.unflatten(0, (2, 2, 3)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3) for y in outputs
        ]  # (B * V, C, u, u) to (B, C, h, u, w, u) to (B, C, H, W)
    else:
        outputs = model.encoder.stage_outputs(images, MaskedGrid(mask, unit=8))
    for ours, theirs in zip(outputs, dense, strict=True):
        assert_same(ours, theirs)


# ---- what is hidden stays hidden


def pixels_of(mask, cell):
    """The mask, a value a pixel: (B, 1, H, W)."""
    return mask.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, None]


HIDDEN_VALUES = pytest.mark.parametrize("value", [1e6, float("nan"), float("inf"), -float("inf")])


@PATHS
@FAMILIES
@HIDDEN_VALUES
@torch.no_grad()
def test_hidden_pixels_reach_nothing(value, grn, sparse):
    model, mask = build(grn), ragged_mask(2, 3, (4, 2))
    images = pictures(model, mask)
    changed = images.masked_fill(pixels_of(mask, model.cell), value)
    assert torch.equal(model.encode(images, mask, sparse), model.encode(changed, mask, sparse))
    before, after = (model.reconstruct(x, mask, sparse).prediction for x in (images, changed))
    assert before.isfinite().all()
    assert torch.equal(before, after)


@PATHS
@FAMILIES
@HIDDEN_VALUES
def test_hidden_pixels_reach_no_gradient(value, grn, sparse):
    model, mask = build(grn), ragged_mask(2, 3, (4, 2))
    images = pictures(model, mask)
    changed = images.masked_fill(pixels_of(mask, model.cell), value)
    before, after = (
        gradients(model, model.reconstruct(x, mask, sparse).prediction.square().sum()) for x in (images, changed)
    )
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name


@PATHS
@torch.no_grad()
def test_visible_pixels_reach_the_prediction(sparse):
    model, mask = build(), ragged_mask(2, 3, (4, 2))
    images = pictures(model, mask)
    changed = torch.where(pixels_of(mask, model.cell), images, -images)
    before, after = (model.reconstruct(x, mask, sparse).prediction for x in (images, changed))
    assert (before - after).abs().flatten(2).amax(2).min() > 1e-3


@PATHS
@FAMILIES
@torch.no_grad()
def test_a_picture_does_not_depend_on_its_batch(grn, sparse):
    model, mask = build(grn), ragged_mask(3, 2, (3, 5, 1, 6))
    images = pictures(model, mask)
    together = model.reconstruct(images, mask, sparse).prediction
    features = model.encode(images, mask, sparse)
    for i in range(3):
        picture, hidden = images[i : i + 1], mask[i : i + 1]
        assert (model.reconstruct(picture, hidden, sparse).prediction[0] - together[i]).abs().max() < 1e-12
        assert (model.encode(picture, hidden, sparse)[0] - features[i]).abs().max() < 1e-12


# ---- the mask and the loss


@PATHS
@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_loss_is_the_mean_over_hidden_cells_of_their_mean_squared_error(norm_pix_loss, sparse):
    model, mask = build(channels=1, norm_pix_loss=norm_pix_loss), ragged_mask(2, 3, (4, 1))
    images = pictures(model, mask)
    result = model.reconstruct(images, mask, sparse)
    errors = []
    for b, i, j in mask.nonzero().tolist():
        target = images[b, 0, i * 32 : (i + 1) * 32, j * 32 : (j + 1) * 32].flatten()  # one channel: row by row
        if norm_pix_loss:
            target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
        errors.append((result.prediction[b, i * 3 + j] - target).square().mean())
    assert len(errors) == 5
    assert_same(result.loss, sum(errors) / 5)
    assert_same(model(images, mask, sparse=sparse).loss, result.loss)


def test_the_loss_of_low_precision_predictions_is_computed_in_float32():
    model, mask = build(dtype=torch.bfloat16), ragged_mask(2, 2, (2, 3))
    assert model(pictures(model, mask, torch.bfloat16), mask).loss.dtype == torch.float32


@PATHS
def test_a_given_mask_is_used_as_it_is(sparse):
    model, mask = build(mask_ratio=0.6), ragged_mask(2, 3, (1, 5))
    images = pictures(model, mask)
    for result in (model(images, mask, sparse=sparse), model.reconstruct(images, mask, sparse)):
        assert torch.equal(result.mask, mask)


@pytest.mark.parametrize(("rows", "columns", "hidden"), [(7, 7, 30), (2, 2, 3), (1, 2, 1), (3, 5, 9)])
def test_a_drawn_mask_hides_the_right_number_in_each_picture(rows, columns, hidden):
    model = build(stem=1)
    images = torch.randn(6, 3, 8 * rows, 8 * columns, dtype=torch.float64)
    mask = model(images).mask
    assert mask.flatten(1).sum(1).tolist() == [hidden] * 6
    assert not torch.equal(mask, mask[:1].expand_as(mask))


def test_the_drawn_mask_follows_the_seed():
    model, images = build(stem=1), torch.randn(2, 3, 40, 40, dtype=torch.float64)
    results = []
    for start in (3, 3, 4):
        torch.manual_seed(start)
        results.append(model(images))
    assert torch.equal(results[0].mask, results[1].mask)
    assert results[0].loss == results[1].loss
    assert not torch.equal(results[0].mask, results[2].mask)


def test_memory_format_does_not_matter():
    model, mask = build(), ragged_mask(2, 3, (4, 1))
    images = pictures(model, mask)
    strided = images.to(memory_format=torch.channels_last)
    for sparse in (True, False):
        assert_same(model(strided, mask, sparse=sparse).loss, model(images, mask, sparse=sparse).loss)


def booleans(*shape, value=True):
    return torch.full(shape, value)


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        ((2, 3, 64, 96), booleans(2, 3, 2), r"boolean of shape \(2, 2, 3\), got torch.bool \(2, 3, 2\)"),
        ((2, 3, 64, 96), booleans(1, 2, 3), r"boolean of shape \(2, 2, 3\), got torch.bool \(1, 2, 3\)"),
        ((2, 3, 64, 96), booleans(2, 6), r"boolean of shape \(2, 2, 3\)"),
        ((2, 3, 64, 96), torch.ones(2, 2, 3), "boolean of shape .* got torch.float32"),
        ((2, 3, 64, 96), booleans(2, 2, 3), "no visible cell"),
        ((2, 3, 64, 90), None, "64x90 are not multiples of the mask cell of 32"),
        ((2, 3, 63, 96), None, "63x96 are not multiples of the mask cell of 32"),
        ((2, 1, 64, 96), None, r"images must be \(B, 3, H, W\), got \(2, 1, 64, 96\)"),
        ((3, 64, 96), None, r"images must be \(B, 3, H, W\), got \(3, 64, 96\)"),
        ((2, 3, 32, 32), None, "one mask cell cannot be masked"),
    ],
)
@pytest.mark.parametrize("method", ["forward", "reconstruct", "encode"])
def test_wrong_pictures_and_masks_give_one_clear_line(shape, mask, message, method):
    model = build(dtype=torch.float32)
    with pytest.raises(UserError, match=message) as error:
        getattr(model, method)(torch.zeros(shape), mask)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["forward", "reconstruct"])
def test_a_mask_that_hides_nothing_leaves_nothing_to_predict_but_can_be_encoded(method):
    model, mask = build(), booleans(2, 2, 3, value=False)
    images = pictures(model, mask)
    with pytest.raises(UserError, match="no masked cell"):
        getattr(model, method)(images, mask)
    dense = model.encoder.feature_maps(images)[-1].permute(0, 2, 3, 1)
    for sparse in (True, False):
        assert_same(model.encode(images, mask, sparse), dense)


# ---- the published size, and the work that is saved


@pytest.mark.parametrize(
    ("name", "decoder_side", "whole"),
    [
        ("atto", 3_871_232, 7_257_992),
        ("femto", 3_904_000, 8_751_472),
        ("pico", 3_969_536, 12_521_792),
        ("nano", 4_035_072, 19_016_592),
        ("tiny", 4_100_608, 31_965_568),
        ("base", 4_231_680, 91_922_432),
        ("large", 4_493_824, 200_910_592),
        ("huge", 5_149_184, 662_616_192),
    ],
)
def test_parameter_counts_are_the_published_ones(name, decoder_side, whole):
    with torch.device("meta"):
        model = FCMAE(create_model(f"convnextv2_{name}", num_classes=0))
    count = {key: p.numel() for key, p in model.named_parameters() if not key.startswith("encoder.norm.")}
    assert sum(count.values()) == whole
    assert sum(n for key, n in count.items() if not key.startswith("encoder.")) == decoder_side


def test_the_published_decoder_has_one_v2_block_of_width_512():
    with torch.device("meta"):
        model = FCMAE(create_model("convnextv2_atto", num_classes=0))
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items() if not key.startswith("encoder.")}
    assert shapes == {
        "mask_token": (1, 512, 1, 1),
        "proj.weight": (512, 320, 1, 1),
        "proj.bias": (512,),
        "decoder.0.dwconv.weight": (512, 1, 7, 7),
        "decoder.0.dwconv.bias": (512,),
        "decoder.0.norm.weight": (512,),
        "decoder.0.norm.bias": (512,),
        "decoder.0.pwconv1.weight": (2048, 512),
        "decoder.0.pwconv1.bias": (2048,),
        "decoder.0.grn.gamma": (1, 1, 1, 2048),
        "decoder.0.grn.beta": (1, 1, 1, 2048),
        "decoder.0.pwconv2.weight": (512, 2048),
        "decoder.0.pwconv2.bias": (512,),
        "pred.weight": (3072, 512, 1, 1),
        "pred.bias": (3072,),
    }


def test_initialisation_is_the_published_one():
    model = FCMAE(create_model("convnextv2_atto", num_classes=0))
    for key, parameter in model.named_parameters():
        if key == "mask_token" or (parameter.ndim > 1 and "grn" not in key):
            assert abs(parameter.std() - 0.02) < 5 * 0.02 / parameter.numel() ** 0.5, key
        else:
            assert parameter.eq(1 if key.endswith("weight") else 0).all(), key


@torch.no_grad()
def test_linear_maps_run_on_visible_cells_and_the_prediction_on_hidden_ones_only():
    dims, width, depths = (4, 6, 8, 10), 16, (1, 2, 1, 1)
    model, mask = build(depths=depths, dims=dims, decoder_dim=width, decoder_depth=2), ragged_mask(3, 4, (8, 8))
    images, visible, hidden, cells = pictures(model, mask), 8, 16, 24
    encoder = 64 * 48 * dims[0]  # multiply-adds of one visible cell: the stem, then
    encoder += sum((8 >> k) ** 2 * 4 * dims[k - 1] * dims[k] for k in (1, 2, 3))  # downsampling and
    encoder += sum((8 >> k) ** 2 * 8 * dims[k] ** 2 * depths[k] for k in range(4))  # blocks
    expected = visible * (encoder + dims[3] * width)
    expected += cells * (8 + 4) * width**2  # the first decoder block and half of the last
    expected += hidden * (4 * width**2 + width * 32 * 32 * 3)  # its other half, and the prediction
    with FlopCounterMode(display=False) as counter:
        model(images, mask)
    flops = counter.get_flop_counts()["Global"]
    linear = sum(count for op, count in flops.items() if "convolution" not in str(op))
    assert linear == 2 * expected


def work(model, images, mask, sparse):
    with FlopCounterMode(display=False) as counter:
        model(images, mask, sparse=sparse).loss.backward()
    return counter.get_total_flops()


def test_the_packed_path_does_far_less_work_than_the_dense_one():
    model = FCMAE(create_model("convnextv2_atto", num_classes=0), decoder_dim=64)
    mask = random_mask(2, 4, 4, 0.6)
    images = torch.randn(2, 3, 128, 128)
    assert work(model, images, mask, sparse=True) < 0.6 * work(model, images, mask, sparse=False)
