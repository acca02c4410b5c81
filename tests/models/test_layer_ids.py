"""Layer-wise decay: ids typed out for three shapes, factors by hand, and what holds at any depth."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convnextv2.errors import UserError
from convnextv2.models import create_model
from convnextv2.models.layer_ids import layer_id, lr_scales

KINDS = ("single", "group")
HEAD = "norm and head"
IDS = {  # first row: the stem and the three downsamplings; then the blocks of each stage; last: final norm and head
    ("atto", "single"): {
        "downsample_layers": [1, 3, 5, 11],
        "stages.0": [1, 2],
        "stages.1": [3, 4],
        "stages.2": [5, 6, 7, 8, 9, 10],
        "stages.3": [11, 12],
        HEAD: 13,
    },
    ("tiny", "single"): {
        "downsample_layers": [1, 4, 7, 16],
        "stages.0": [1, 2, 3],
        "stages.1": [4, 5, 6],
        "stages.2": [7, 8, 9, 10, 11, 12, 13, 14, 15],
        "stages.3": [16, 17, 18],
        HEAD: 19,
    },
    ("base", "single"): {
        "downsample_layers": [1, 4, 7, 34],
        "stages.0": [1, 2, 3],
        "stages.1": [4, 5, 6],
        "stages.2": [
            *(7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20),
            *(21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33),
        ],
        "stages.3": [34, 35, 36],
        HEAD: 37,
    },
    ("atto", "group"): {
        "downsample_layers": [0, 2, 3, 12],
        "stages.0": [1, 1],
        "stages.1": [2, 2],
        "stages.2": [3, 3, 3, 4, 4, 4],
        "stages.3": [12, 12],
        HEAD: 13,
    },
    ("tiny", "group"): {
        "downsample_layers": [0, 2, 3, 12],
        "stages.0": [1, 1, 1],
        "stages.1": [2, 2, 2],
        "stages.2": [3, 3, 3, 4, 4, 4, 5, 5, 5],
        "stages.3": [12, 12, 12],
        HEAD: 13,
    },
    ("base", "group"): {
        "downsample_layers": [0, 2, 3, 12],
        "stages.0": [1, 1, 1],
        "stages.1": [2, 2, 2],
        "stages.2": [3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 11],
        "stages.3": [12, 12, 12],
        HEAD: 13,
    },
}


def meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def by_prefix(size, kind):
    """{"stages.2.5.": 10, ...}: the typed table with one entry a prefix."""
    table = dict(IDS[size, kind])
    last = table.pop(HEAD)
    prefixes = {f"{part}.{number}.": id for part, ids in table.items() for number, id in enumerate(ids)}
    return prefixes | {"norm.": last, "head.": last}


def scales_of(model, decay, kind):
    return lr_scales(model, model.depths, decay, kind)


@pytest.mark.parametrize(("size", "kind"), IDS)
@pytest.mark.parametrize("family", ["convnextv2", "convnext"])
def test_every_parameter_has_the_id_of_its_place(family, size, kind):
    model, expected, met = meta(f"{family}_{size}"), by_prefix(size, kind), set()
    for name, _ in model.named_parameters():
        (prefix,) = (prefix for prefix in expected if name.startswith(prefix))
        assert layer_id(name, model.depths, kind) == expected[prefix], name
        met.add(prefix)
    assert met == set(expected)


@pytest.mark.parametrize(
    ("name", "decay", "kind", "factors"),
    [
        ("convnextv2_atto", 0.9, "single", {"downsample_layers.0.0.weight": 0.2824, "stages.3.1.pwconv2.bias": 0.9}),
        ("convnextv2_tiny", 0.9, "single", {"downsample_layers.0.1.bias": 0.1501, "stages.0.0.grn.gamma": 0.1501}),
        ("convnextv2_huge", 0.75, "single", {"downsample_layers.0.0.weight": 3.18e-5}),
        ("convnextv2_base", 0.6, "group", {"downsample_layers.0.0.weight": 0.00131, "stages.3.0.norm.weight": 0.6}),
        ("convnext_large", 0.8, "group", {"downsample_layers.3.1.weight": 0.8, "stages.2.26.gamma": 0.64}),
    ],
)
def test_factors_computed_by_hand(name, decay, kind, factors):
    scales = scales_of(meta(name), decay, kind)
    assert {key: scales[key] for key in factors} == pytest.approx(factors, rel=4e-3)
    assert {scales[f"{part}.{p}"] for part in ("norm", "head") for p in ("weight", "bias")} == {1.0}


@given(
    depths=st.tuples(*[st.integers(1, limit) for limit in (4, 4, 40, 4)]),
    decay=st.floats(0.3, 1.0),
    kind=st.sampled_from(KINDS),
    classes=st.integers(0, 2),
)
@settings(max_examples=20, deadline=None)
def test_factors_never_fall_along_depth(depths, decay, kind, classes):
    model = meta("convnextv2_atto", depths=depths, dims=(1, 1, 1, 1), num_classes=classes)
    scales = scales_of(model, decay, kind)
    assert list(scales) == [name for name, _ in model.named_parameters()]

    along_depth = []
    for stage, depth in enumerate(depths):
        along_depth += [f"downsample_layers.{stage}.", *(f"stages.{stage}.{block}." for block in range(depth))]
    along_depth += ["norm."] + ["head."] * bool(classes)
    steps = [{scale for name, scale in scales.items() if name.startswith(prefix)} for prefix in along_depth]
    assert all(len(step) == 1 for step in steps)  # one factor for all that stands at one place
    factors = [step.pop() for step in steps]
    assert factors == sorted(factors)
    assert 0 < factors[0] <= decay
    assert factors[-1] == scales["norm.weight"] == 1.0


@given(depths=st.tuples(*[st.integers(1, 50)] * 4))
def test_single_gives_each_block_a_number_of_its_own(depths):
    names = [f"stages.{stage}.{block}.norm.weight" for stage, depth in enumerate(depths) for block in range(depth)]
    assert [layer_id(name, depths, "single") for name in names] == list(range(1, sum(depths) + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_decay_of_one_changes_nothing(kind):
    assert set(scales_of(meta("convnextv2_pico"), 1.0, kind).values()) == {1.0}


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.01, float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(UserError, match="above 0 and at most 1"):
        scales_of(meta("convnextv2_atto"), decay, "single")


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="'single', 'group' or 'stage', got 'double'"):
        scales_of(meta("convnextv2_atto"), 0.9, "double")


class Wrapped(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.decode_head = nn.Linear(4, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapped_encoder_has_the_same_factors_and_what_lies_beside_it_has_none(kind):
    encoder = meta("convnextv2_tiny")
    scales = lr_scales(Wrapped(encoder), encoder.depths, 0.7, kind, prefix="encoder.")
    expected = {f"encoder.{name}": scale for name, scale in scales_of(encoder, 0.7, kind).items()}
    assert scales == expected | {"decode_head.weight": 1.0, "decode_head.bias": 1.0}


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("encoder.stages.0.0.norm.weight", ""),  # a wrapped encoder, and nobody said so
        ("stages.0.0.norm.weight", "encoder."),
        ("stages.0.2.norm.weight", ""),  # two blocks are numbered 0 and 1
        ("stages.4.0.norm.weight", ""),
        ("downsample_layers.4.0.weight", ""),
        ("normal.weight", ""),
        ("stages.weight", ""),
    ],
)
def test_a_name_that_no_encoder_has_is_refused(name, prefix):
    with pytest.raises(UserError, match=rf"is called '{name}'.*give its prefix, as 'encoder\.'"):
        layer_id(name, (2, 2, 6, 2), "single", prefix=prefix)


def test_layer_decay_without_the_prefix_of_a_wrapped_encoder_is_an_error_and_not_silence():
    encoder = meta("convnextv2_atto")
    with pytest.raises(UserError, match=r"is called 'encoder\.downsample_layers"):
        lr_scales(Wrapped(encoder), encoder.depths, 0.7, "single")
    with pytest.raises(UserError, match=r"no parameter's name begins with 'backbone\.'"):
        lr_scales(Wrapped(encoder), encoder.depths, 0.7, "single", prefix="backbone.")
