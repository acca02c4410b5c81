"""Standard tools of PyTorch on our models, in training and evaluation, and the same on timm's with the same weights."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork

from convnextv2.errors import UserError
from convnextv2.models import create_model
from convnextv2.tasks.pretrain.fcmae import FCMAE

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:FutureWarning"),
    # of timm's model, whose memory layout vmap does not know
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]
NAMES = pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])
MODES = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
SMALL = {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 10}


def pictures(batch=2, side=64):
    """The same ones at every call."""
    return torch.randn(batch, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))


def parameters(model):
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def loss(model, values, images):
    return functional_call(model, values, (images,)).square().sum()


# ---- each gives a tensor, or tensors by name of parameter


def traced(model):
    return torch.jit.trace(model, pictures())(pictures(3, 96))


def traced_without_gradients(model):
    with torch.no_grad():
        return torch.jit.trace(model, pictures(1))(pictures(3))


def gradients_of_a_saved_trace(model):
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, pictures()), file)
    file.seek(0)
    again = torch.jit.load(file)
    again(pictures(3)).square().sum().backward()
    return {name: parameter.grad for name, parameter in again.named_parameters()}


def functional_gradients(model):
    return grad(lambda values: loss(model, values, pictures()))(parameters(model))


def per_sample_gradients(model):
    return vmap(grad(lambda values, image: loss(model, values, image[None])), (None, 0))(parameters(model), pictures(3))


def vmapped(model):
    return vmap(model)(pictures(4).unflatten(0, (2, 2)))


def vmapped_without_gradients(model):
    with torch.no_grad():
        return vmap(model)(pictures(4).unflatten(0, (2, 2)))


def ensemble(model):
    """vmap over the weights of two models."""
    stacked = {name: torch.stack([tensor, 1.1 * tensor]) for name, tensor in parameters(model).items()}
    images = pictures()
    return vmap(lambda values: functional_call(model, values, (images,)))(stacked)


def directional(model):
    return jvp(model, (pictures(),), (pictures().flip(0),))[1]


def forward_mode(model):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(model(forward_ad.make_dual(pictures(), pictures().flip(0)))).tangent


def forward_mode_without_gradients(model):
    with torch.no_grad():
        return forward_mode(model)


def jacobian(model):
    return jacrev(model)(pictures(1, 32))


def hessian_vector_product(model):
    return torch.autograd.functional.hvp(lambda x: model(x).square().sum(), pictures(1, 32), pictures(1, 32).flip(2))[1]


def hessian_of_the_head(model):
    """All of it, by forward over reverse mode."""
    values, images = parameters(model), pictures(1, 32)
    bias = next(name for name in reversed(values) if name.startswith("head") and name.endswith("bias"))
    return hessian(lambda value: loss(model, values | {bias: value}, images))(values[bias])


def gradient_penalty(model):
    """Second derivatives by two backward passes, for every parameter."""
    images = pictures().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).square().sum(), images, create_graph=True)
    gradient.square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: tensor for name, tensor in found.items() if tensor is not None}  # none for the last bias


def symbolically_traced(model):
    return torch.fx.symbolic_trace(model)(pictures(3, 96))


def extracted(model):
    maps = create_feature_extractor(model, ["stages.1", "stages.3"])(pictures(3))
    return torch.cat([x.flatten(1) for x in maps.values()], 1)


def exported(model):
    batch = torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(model, (pictures(),), dynamic_shapes=({0: batch},)).module()(pictures(3))


def checkpointed(model):
    images = pictures().requires_grad_()
    checkpoint(model, images, use_reentrant=False).square().sum().backward()
    return images.grad


def averaged(model):
    twin = AveragedModel(model)
    twin.update_parameters(model)
    return twin(pictures())


def copied(model):
    return copy.deepcopy(model)(pictures())


def unpickled(model):
    return pickle.loads(pickle.dumps(model))(pictures())


def made_without_memory(model):
    with torch.device("meta"):
        twin = copy.deepcopy(model)
        assert twin.to("meta")(torch.empty(2, 3, 64, 64, dtype=torch.float64)).shape == (2, 10)
    twin = twin.to_empty(device="cpu")
    twin.load_state_dict(model.state_dict())
    return twin(pictures())


TOOLS = [
    traced,
    traced_without_gradients,
    gradients_of_a_saved_trace,
    functional_gradients,
    per_sample_gradients,
    vmapped,
    vmapped_without_gradients,
    ensemble,
    directional,
    forward_mode,
    forward_mode_without_gradients,
    jacobian,
    hessian_vector_product,
    hessian_of_the_head,
    gradient_penalty,
    symbolically_traced,
    extracted,
    exported,
    checkpointed,
    averaged,
    copied,
    unpickled,
    made_without_memory,
]


@MODES
@NAMES
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_a_tool_gives_what_it_gives_for_timms_model(tool, name, training, pair, our_names, assert_same):
    found, expected = (tool(model.train(training)) for model in pair(name))
    if isinstance(expected, dict):
        plain = tool is not per_sample_gradients
        expected = our_names(expected) if plain else in_our_names_by_sample(expected, our_names)
        assert found.keys() == expected.keys()
        assert_same(list(found.values()), [expected[key] for key in found])
    else:
        assert expected.abs().max() > 0
        assert_same([found], [expected])


def in_our_names_by_sample(tensors, our_names):
    samples = len(next(iter(tensors.values())))
    each = [our_names({name: tensor[i] for name, tensor in tensors.items()}) for i in range(samples)]
    return {name: torch.stack([tensors[name] for tensors in each]) for name in each[0]}


# ---- in float32, where the hand-written gradients are at work


@NAMES
def test_a_gradient_penalty_in_float32_is_that_in_float64(name, pair, difference):
    exact = gradient_penalty(pair(name)[0])
    model = pair(name)[0].float()
    images = pictures().float().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).square().sum(), images, create_graph=True)
    gradient.square().sum().backward()
    rounded = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert rounded.keys() == exact.keys()
    assert max(difference(rounded[key], exact[key]) for key in exact) < 1e-4


@MODES
@NAMES
def test_gradients_and_their_gradients_are_those_of_finite_differences(name, training, pair):
    model, images = pair(name)[0].train(training), pictures(1, 32).requires_grad_()
    assert torch.autograd.gradcheck(model, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(model, images, fast_mode=True)


@pytest.mark.filterwarnings("ignore:torch.*quantiz.* deprecated")
@MODES
@NAMES
def test_autocast_and_dynamic_quantisation_stay_near(name, training, pair, difference):
    model = pair(name)[0].float().train(training)
    images = pictures().float()
    exact = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert difference(model(images), exact) < 3e-2
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert not [m for m in quantised.modules() if type(m) is nn.Linear]
    assert difference(quantised(images), exact) < 1e-1


# ---- counting


def floating_point_operations(model, backward=False):
    with FlopCounterMode(display=False) as counter:
        result = model.float()(pictures().float())
        if backward:
            result.sum().backward()
    return counter.get_flop_counts()


@MODES
@NAMES
@torch.no_grad()
def test_flop_counters_count_what_they_count_for_timms(name, training, pair):
    """By operation, and by stage."""
    ours, theirs = (floating_point_operations(model.train(training)) for model in pair(name, drop_path_rate=0.4))
    assert sum(ours["Global"].values()) == sum(theirs["Global"].values()) > 0
    last = [sum(counts[f"{kind}.stages.3"].values()) for kind, counts in (("ConvNeXt", ours), ("ConvNeXt", theirs))]
    down = sum(ours["ConvNeXt.downsample_layers.3"].values())
    assert last[0] + down == last[1] > 0


@MODES
@NAMES
@torch.no_grad()
def test_counters_by_hooks_count_what_they_count_for_timms(name, training, pair):
    """The rule of torchinfo and others: weights times positions, which are axes 0, 2 and 3 after a convolution."""

    def count(model):
        total = 0

        def hook(module, _, output):
            nonlocal total
            positions = output[:, 0] if isinstance(module, nn.Conv2d) else output[..., 0]
            total += positions.numel() * module.weight.numel()

        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(hook)
        model(pictures())
        return total

    ours, theirs = (count(model.train(training)) for model in pair(name))
    assert ours == theirs > 0


# ---- drop path: randomness under transforms


@NAMES
def test_drop_path_under_vmap_draws_for_each_sample(name, randomise):
    model = randomise(create_model(name, drop_path_rate=0.9, **SMALL)).double().train()
    image = pictures(1)
    batch = image.expand(16, -1, -1, -1, -1)
    assert len(vmap(model, randomness="different")(batch).flatten(1).unique(dim=0)) > 1
    assert len(vmap(model, randomness="same")(batch).flatten(1).unique(dim=0)) == 1
    values = parameters(model)
    found = vmap(grad(lambda v, x: loss(model, v, x)), (None, 0), randomness="different")(values, batch)
    assert all(tensor.isfinite().all() for tensor in found.values())
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(model)(batch)


@NAMES
def test_drop_path_draws_the_same_in_a_symbolic_trace(name, randomise, assert_same):
    model = randomise(create_model(name, drop_path_rate=0.5, **SMALL)).double().train()
    program = torch.fx.symbolic_trace(model)
    results = []
    for call in (model, program):
        torch.manual_seed(4)
        results.append(call(pictures(8)))
    assert_same([results[1]], [results[0]])


def test_fake_tensors_pass_through_training_with_drop_path():
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = create_model("convnextv2_atto", drop_path_rate=0.5, **SMALL)
    with FakeTensorMode(allow_non_fake_inputs=True):
        result = model(torch.empty(4, 3, 64, 64))
        result.sum().backward()
    assert result.shape == (4, 10)
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())


# ---- what cannot be done is said


@NAMES
@pytest.mark.parametrize("inside", ["itself", "a part", "pre-training"])
def test_torch_jit_script_is_refused_in_one_line(name, inside):
    model = create_model(name, **SMALL)
    if inside == "a part":
        model = nn.Sequential(model, nn.Linear(10, 2))
    elif inside == "pre-training":
        model = FCMAE(model, decoder_dim=8)
    with pytest.raises(UserError, match=r"^torch\.jit\.script .*torch\.jit\.trace.*torch\.export.*torch\.compile.*$"):
        torch.jit.script(model)


def test_wrong_pictures_are_refused_in_a_symbolic_trace_too():
    program = torch.fx.symbolic_trace(create_model("convnextv2_atto", **SMALL))
    with pytest.raises(UserError, match=r"\(B, 3, H, W\), got \(2, 1, 64, 64\)"):
        program(torch.zeros(2, 1, 64, 64))


# ---- as a part of larger things


class Pyramid(nn.Module):
    """What torchvision's detectors take: maps by name, and `out_channels`."""

    def __init__(self, body, channels):
        super().__init__()
        self.body, self.out_channels = body, 16
        self.fpn = FeaturePyramidNetwork(channels, 16)

    def forward(self, images):
        return self.fpn(self.body(images))


@NAMES
def test_torchvisions_detector_trains_on_it(name, pair, assert_same):
    boxes = torch.tensor([[4.0, 5.0, 40.0, 44.0], [20.0, 20.0, 60.0, 50.0]], dtype=torch.float64)
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in range(2)]
    losses = []
    for model in pair(name):
        torch.manual_seed(1)
        body = create_feature_extractor(model.train(), {f"stages.{stage}": str(stage) for stage in range(4)})
        detector = FasterRCNN(
            Pyramid(body, list(SMALL["dims"])).double(),
            num_classes=3,
            min_size=64,
            max_size=64,
            rpn_anchor_generator=AnchorGenerator(((16,), (32,), (48,), (64,)), ((0.5, 1.0, 2.0),) * 4),
        ).double()
        torch.manual_seed(2)
        found = detector(list(pictures()), targets)
        sum(found.values()).backward()
        first = next(p for n, p in model.named_parameters() if n in ("downsample_layers.0.0.weight", "stem.0.weight"))
        losses.append([*found.values(), first.grad])
    assert_same(*losses)


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@NAMES
def test_data_parallel_wrappers_compute_the_same(name, pair, one_process, assert_same):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    plain = pair(name)[0]
    expected = plain(pictures())
    expected.square().sum().backward()
    replicated = nn.parallel.DistributedDataParallel(pair(name)[0])
    sharded = pair(name)[0]
    mesh = init_device_mesh("cpu", (1,))
    for stage in sharded.stages:
        fully_shard(stage, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    for model in (replicated, sharded):
        result = model(pictures())
        result.square().sum().backward()
        assert_same([result], [expected])
        for parameter, reference in zip(model.parameters(), plain.parameters(), strict=True):
            gradient = parameter.grad
            assert_same([gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient], [reference.grad])
        with torch.no_grad():
            assert_same([model(pictures())], [expected])


@NAMES
def test_hooks_on_state_dicts_are_called(name):
    model, called = create_model(name, **SMALL), []
    model.stages[1].register_state_dict_post_hook(lambda *_: called.append("saved"))
    model.stages[1].register_load_state_dict_pre_hook(lambda *_: called.append("loading"))
    model.load_state_dict(model.state_dict())
    assert called == ["saved", "loading"]


@NAMES
def test_names_of_parameters_are_the_official_ones(name):
    model = create_model(name, **SMALL)
    heads = {key.rpartition(".")[0] for key in model.state_dict() if key.startswith("stages.1.1.")}
    expected = {f"stages.1.1.{part}" for part in ("dwconv", "norm", "pwconv1", "pwconv2")}
    assert heads == expected | ({"stages.1.1.grn"} if model.has_grn else {"stages.1.1"})
