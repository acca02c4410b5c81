"""Hooks, wrappers and replaced parts: nothing is passed by, whatever the mode, and maps are (N, C, H, W) as timm's."""

import copy
import pickle
import types

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune

from convnextv2.models import create_model
from convnextv2.models.block import Block
from convnextv2.tasks.pretrain.fcmae import FCMAE

NAMES = pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])
SMALL = {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 10}
GRADIENTS = pytest.mark.parametrize("gradients", [True, False], ids=["gradients", "no gradients"])

# Our module, and timm's that computes the same from the same. The inputs of its stages are those of our downsampling.
SAME_OUTPUT = {
    "downsample_layers.0.0": "stem.0",
    "downsample_layers.0.1": "stem.1",
    "downsample_layers.0": "stem",
    "downsample_layers.1.0": "stages.1.downsample.0",
    "downsample_layers.1.1": "stages.1.downsample.1",
    "downsample_layers.2": "stages.2.downsample",
    "stages.0": "stages.0",
    "stages.1": "stages.1",
    "stages.3": "stages.3",
    "stages.1.0": "stages.1.blocks.0",
    "stages.1.1": "stages.1.blocks.1",
    "stages.1.1.dwconv": "stages.1.blocks.1.conv_dw",
    "stages.1.1.norm": "stages.1.blocks.1.norm",
    "stages.1.1.pwconv1": "stages.1.blocks.1.mlp.fc1",
    "stages.1.1.pwconv2": "stages.1.blocks.1.mlp.fc2",
    "head": "head.fc",
}


def pictures(batch=2):
    return torch.randn(batch, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))


def watched(model, names):
    """What each module gave, and the gradient that came back to it."""
    outputs, gradients = {}, {}

    def watch(module, name):
        def forward(module, _, output):
            outputs[name] = output

        def backward(module, _, gradient):
            gradients[name] = gradient[0]

        module.register_forward_hook(forward)
        module.register_full_backward_hook(backward)

    for name in names:
        watch(model.get_submodule(name), name)
    model(pictures().requires_grad_()).square().sum().backward()
    return outputs, gradients


@pytest.mark.parametrize("training", [True, False])
@NAMES
def test_outputs_and_their_gradients_are_those_of_timms_modules(name, training, pair, assert_same):
    ours, theirs = (model.train(training) for model in pair(name))
    found, expected = watched(ours, SAME_OUTPUT), watched(theirs, SAME_OUTPUT.values())
    for mine, other in zip(found, expected, strict=True):
        for own, peer in SAME_OUTPUT.items():
            assert_same([mine[own]], [other[peer]])


@NAMES
def test_a_stage_takes_what_it_gives(name):
    model, seen = create_model(name, **SMALL).double(), []
    model.stages[1].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    model.stages[1].register_forward_hook(lambda _, given, result: seen.append(result.shape))
    maps = model.feature_maps(pictures())
    assert seen == [maps[1].shape] * 2


@NAMES
def test_a_hook_on_a_stage_changes_what_follows(name, randomise):
    model = randomise(create_model(name, **SMALL)).double().eval()
    maps = model.feature_maps(pictures())
    model.stages[2].register_forward_hook(lambda *call: torch.zeros_like(call[-1]).contiguous())
    changed = model.feature_maps(pictures())
    assert [torch.equal(a, b) for a, b in zip(maps, changed, strict=True)] == [True, True, False, False]
    assert changed[2].eq(0).all()


@NAMES
def test_what_is_given_back_is_a_view_of_channels_last_memory(name):
    for maps in create_model(name, **SMALL).double().feature_maps(pictures()):
        assert maps.permute(0, 2, 3, 1).is_contiguous()


def fired(model, call):
    """Names of modules whose hook was called, each as often as it was."""
    calls = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    call()
    return sorted(calls)


def leaves_and_containers(model, without=()):
    lists = {name for name, module in model.named_modules() if type(module) is nn.ModuleList}
    return sorted(name for name, _ in model.named_modules() if name not in lists and name not in without)


@GRADIENTS
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("drop_path_rate", [0.0, 0.3])
@NAMES
def test_every_hook_fires_once(name, drop_path_rate, training, gradients):
    model = create_model(name, drop_path_rate=drop_path_rate, **SMALL).double().train(training)
    with torch.set_grad_enabled(gradients):
        assert fired(model, lambda: model(pictures(8))) == leaves_and_containers(model)


@GRADIENTS
@pytest.mark.parametrize("sparse", [True, False])
@NAMES
def test_every_hook_fires_once_in_pre_training(name, sparse, gradients):
    model = FCMAE(create_model(name, **SMALL), decoder_dim=8, decoder_depth=2).double()
    unused = {"encoder", "encoder.norm", "encoder.head"}  # methods of the encoder are called, not the encoder
    with torch.set_grad_enabled(gradients):
        found = fired(model, lambda: model(pictures(), sparse=sparse))
    assert found == leaves_and_containers(model, unused)


def test_in_sparse_pre_training_every_visible_cell_is_a_map_of_its_own():
    model, shapes = FCMAE(create_model("convnextv2_atto", **SMALL), decoder_dim=8).double(), []
    for stage in model.encoder.stages:
        stage.register_forward_hook(lambda _, __, result: shapes.append(tuple(result.shape)))
    mask = torch.tensor([[[True, False], [False, False]], [[False, True], [True, True]]])
    model(pictures(), mask)
    cells = 2 * 3  # images times places for the cells of the image with the most
    assert shapes == [(cells, dim, side, side) for dim, side in zip(SMALL["dims"], (8, 4, 2, 1), strict=True)]
    shapes.clear()
    model(pictures(), mask, sparse=False)
    assert shapes == [(2, dim, side, side) for dim, side in zip(SMALL["dims"], (16, 8, 4, 2), strict=True)]


@GRADIENTS
@NAMES
def test_hooks_for_all_modules_fire_at_each(name, gradients):
    model, seen = create_model(name, **SMALL).double().eval(), []
    handle = register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        with torch.set_grad_enabled(gradients):
            model(pictures())
    finally:
        handle.remove()
    expected = [model.get_submodule(name) for name in leaves_and_containers(model)]
    assert sorted(map(id, seen)) == sorted(map(id, expected))


# ---- tools that change what a part computes; each gives a model that computes something else than before


def with_pre_hook(part):
    part.register_forward_pre_hook(lambda _, given: (2 * given[0], *given[1:]))


def with_forward_hook(part):
    part.register_forward_hook(lambda *call: 2 * call[-1])


def with_its_own_forward(part):
    """As accelerate's hooks do."""
    old = part.forward
    part.forward = types.MethodType(lambda self, *given: 2 * old(*given), part)


def parametrised(part):
    parametrizations.spectral_norm(part) if hasattr(part, "weight") and part.weight.ndim > 1 else with_pre_hook(part)


def weight_normed(part):
    """The hook of old: the weight is computed before each call, and no longer a parameter."""
    if not hasattr(part, "weight"):
        return with_pre_hook(part)
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(part, dim=None)
    part.weight_g.data.mul_(2)
    return None


def pruned(part):
    name = next(name for name, _ in part.named_parameters(recurse=False))
    prune.random_unstructured(part, name, 0.5)


def of_another_class(part):
    """As tools do that swap a class in place."""
    kind = type(part)
    part.__class__ = type("Doubled", (kind,), {"forward": lambda self, *given: 2 * kind.forward(self, *given)})


class Doubling(torch.Tensor):
    """As quantisation does: a parameter whose class says how it multiplies."""

    @classmethod
    def __torch_function__(cls, function, types, given=(), named=None):
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*given, **(named or {}))
        if function is nn.functional.linear:
            return 2 * result
        return result.as_subclass(cls) if function is torch.Tensor.detach else result


def with_an_unusual_parameter(part):
    if not isinstance(part, nn.Linear):
        return with_pre_hook(part)
    part.weight = nn.Parameter(part.weight.detach().as_subclass(Doubling))
    return None


CHANGES = [
    with_pre_hook,
    with_forward_hook,
    with_its_own_forward,
    parametrised,
    weight_normed,
    pruned,
    of_another_class,
    with_an_unusual_parameter,
]


FOR_LAYERS = (weight_normed, pruned, parametrised)
PARTS = ("dwconv", "norm", "pwconv1", "grn", "pwconv2", "block")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        pytest.param(change, part, id=f"{change.__name__}-{part}")
        for change in CHANGES
        for part in PARTS
        if part != "block" or change not in FOR_LAYERS
    ],
)
def test_a_changed_part_takes_part_in_inference(change, part, randomise, assert_same):
    model = randomise(create_model("convnextv2_atto", **SMALL)).double().eval()
    with torch.no_grad():
        before = model(pictures())
    block = model.stages[1][1]
    change(block if part == "block" else getattr(block, part))
    with_gradients = model(pictures())
    with torch.no_grad():
        assert_same([model(pictures())], [with_gradients])
        assert not torch.equal(model(pictures()), before)
    with torch.inference_mode():
        assert_same([model(pictures())], [with_gradients])


class LowRank(nn.Module):
    """As LoRA does: the layer, and a change of low rank beside it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.down, self.up = nn.Linear(layer.in_features, 2), nn.Linear(2, layer.out_features)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def test_wrapped_layers_train_and_take_part_in_inference(randomise, assert_same):
    model = randomise(create_model("convnextv2_atto", **SMALL)).requires_grad_(False)
    for block in [m for m in model.modules() if isinstance(m, Block)]:
        block.pwconv1, block.pwconv2 = LowRank(block.pwconv1), LowRank(block.pwconv2)
    model = model.double().eval()
    result = model(pictures())
    result.square().sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if ".up." in name or ".down." in name}
    with torch.no_grad():
        assert_same([model(pictures())], [result])


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@NAMES
def test_copies_and_pickles_can_be_hooked(name, twin):
    model = create_model(name, **SMALL).double()
    other, seen = twin(model), []
    other.stages[3].register_forward_hook(lambda *call: seen.append(call[-1]))
    assert torch.equal(other(pictures()), model(pictures()))
    assert len(seen) == 1
    assert list(other.state_dict()) == list(model.state_dict())


@GRADIENTS
@NAMES
def test_any_module_can_take_the_place_of_a_part(name, gradients, randomise, assert_same):
    """Over whole images every part is called with one tensor."""
    model = randomise(create_model(name, **SMALL)).double().eval()
    with torch.set_grad_enabled(gradients):
        expected, maps = model(pictures()), model.feature_maps(pictures())
        assert torch.equal(model.stages[1](model.downsample_layers[1](maps[0])), maps[1])
        model.stages[0] = nn.Sequential(nn.Identity(), model.stages[0])
        model.stages[1][0] = nn.Sequential(model.stages[1][0], nn.Identity())
        convolution = model.stages[1][1].dwconv
        plain = nn.Conv2d(16, 16, 7, padding=3, groups=16, dtype=torch.float64)
        plain.load_state_dict(convolution.state_dict())
        model.stages[1][1].dwconv = plain
        if model.has_grn:
            model.stages[2][0].grn = nn.Sequential(model.stages[2][0].grn)
        assert_same([model(pictures())], [expected])
        model.stages[3] = nn.Identity()
        assert model(pictures()).shape == expected.shape


@NAMES
def test_the_gradient_that_comes_back_is_channels_last_too(name):
    """Or every sum over sites in the backward pass would run in another order, and slower."""
    model, seen = create_model(name, **SMALL).double(), []

    def look(module, _, gradient):
        seen.append(gradient[0].permute(0, 2, 3, 1).is_contiguous())

    for stage in model.stages:
        stage.register_full_backward_hook(look)
    model(pictures().requires_grad_()).square().sum().backward()
    assert seen == [True] * 4
