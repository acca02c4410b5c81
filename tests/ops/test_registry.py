"""Which implementation a call takes, and an implementation from outside the package."""

import pytest
import torch
import torch.nn.functional as F

from convnextv2 import ops
from convnextv2.errors import UserError
from convnextv2.models import create_model

calls: list[tuple[int, ...]] = []


@torch.library.custom_op("tests_of_convnextv2::depthwise_twice_halved", mutates_args=())
def custom(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Another way to say the same: half the weight, twice."""
    half = F.conv2d(x.permute(0, 3, 1, 2), weight / 2, bias / 2, padding=weight.shape[-1] // 2, groups=len(weight))
    return (2 * half).permute(0, 2, 3, 1).contiguous()


@custom.register_fake
def _(x, weight, bias):
    return torch.empty_like(x)


def third(x, weight, bias):
    calls.append(tuple(x.shape))
    return custom(x, weight, bias)


def accepts(x, weight, bias):
    return None if x.shape[-1] % 8 == 0 else "takes channels in eights only"


@pytest.fixture
def mine():
    """The third implementation of the depthwise convolution, from here."""
    calls.clear()
    with ops.registered("depthwise", "mine", accepts, third, compiled=custom):
        yield


def inputs(channels):
    return torch.randn(2, 9, 8, channels), torch.randn(channels, 1, 7, 7), torch.randn(channels)


def test_an_implementation_from_outside_is_taken_where_it_accepts(mine):
    for channels, taken in ((8, 1), (12, 0)):
        calls.clear()
        with torch.no_grad():
            y = ops.depthwise(*inputs(channels))
        assert y.shape == (2, 9, 8, channels)
        assert len(calls) == taken
    assert ops.explain("depthwise", *inputs(8)).splitlines()[0] == "mine: taken"
    lines = ops.explain("depthwise", *inputs(12)).splitlines()
    assert lines[0] == "mine: takes channels in eights only"
    assert [line for line in lines if line.endswith(": taken")] == ["fused: taken"]
    with torch.no_grad():
        assert "fused: no gradients are recorded" in ops.explain("depthwise", *inputs(12))
        assert "reference: taken" in ops.explain("depthwise", *inputs(12))


def test_a_whole_model_takes_it_and_gives_the_same(mine):
    model = create_model("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 12), num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        y = model(images)
        assert [shape[-1] for shape in calls] == [8, 8, 16]
        with ops.force():
            torch.testing.assert_close(y, model(images), rtol=1e-4, atol=1e-5)
        assert len(calls) == 3


def test_a_test_forces_one_by_operation_and_name(mine):
    arguments = inputs(12)
    with torch.no_grad(), ops.force("mine", op="depthwise"):
        y = ops.depthwise(*arguments)
        assert len(calls) == 1
        assert ops.explain("depthwise", *arguments).splitlines() == [
            "mine: taken", "fused: mine is forced", "reference: mine is forced"
        ]  # fmt: skip
        with ops.force("reference", op="depthwise"):
            torch.testing.assert_close(ops.depthwise(*arguments), y, rtol=1e-4, atol=1e-4)
        assert len(calls) == 1


def nodes_of(function, *arguments):
    """What torch.compile sees of a function."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(function, backend=backend, fullgraph=True)(*arguments)
    return [str(node.target) for graph in graphs for node in graph.graph.nodes]


def test_torch_compile_sees_it_as_one_operator(mine):
    assert any("depthwise_twice_halved" in node for node in nodes_of(ops.depthwise, *inputs(8)))
    assert not any("depthwise_twice_halved" in node for node in nodes_of(ops.depthwise, *inputs(12)))
    compiled = torch.compile(ops.depthwise, backend="aot_eager", fullgraph=True)
    arguments = inputs(8)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*arguments), ops.depthwise(*arguments))


def test_an_export_is_plain_torch():
    model = create_model("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=3).eval()
    with ops.registered("depthwise", "mine", accepts, third, compiled=custom):
        program = torch.export.export(model, (torch.randn(2, 3, 64, 64),))
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [name for name in names if "convnextv2" in name]
    assert any("conv" in name for name in names)


def test_compiled_training_has_the_gradients_of_eager_training():
    model = create_model("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=3).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    found = []
    torch._dynamo.reset()
    for call in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        call(images).square().sum().backward()
        found.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in found[0].items():
        assert (gradient - found[1][name]).abs().max() <= 1e-9 * max(float(gradient.abs().max()), 1e-12), name


def test_force_ends_with_its_block_even_after_an_error():
    def fail():
        with ops.force("reference"), ops.force("fused"):
            assert "fused: taken" in ops.explain("depthwise", *inputs(4))
            raise RuntimeError("inside")

    for outer in ("reference", "fused"):
        with ops.force(outer):
            with pytest.raises(RuntimeError, match="inside"):
                fail()
            assert f"{outer}: taken" in ops.explain("depthwise", *inputs(4))
    assert "fused: taken" in ops.explain("depthwise", *inputs(4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.register("depthwize", "a", accepts, third), "no operation 'depthwize'.*did you mean depthwise"),
        (lambda: ops.register("depthwise", "fused", accepts, third), "already has an implementation 'fused'"),
        (lambda: ops.unregister("depthwise", "reference"), "reference of operation 'depthwise' cannot be removed"),
        (lambda: ops.unregister("depthwise", "triton"), "no implementation 'triton'; known are fused, reference"),
        (lambda: ops.force("triton").__enter__(), "no operation has an implementation 'triton'"),
        (lambda: ops.force("fused", op="gelu_gr").__enter__(), "no operation 'gelu_gr'.*did you mean gelu_grn"),
        (lambda: ops.explain("dept"), "no operation 'dept'"),
    ],
)
def test_an_unknown_name_gets_one_line_with_the_known_ones(call, message):
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_every_operation_has_a_reference_that_accepts_every_call():
    for name, implementations in ops.operations().items():
        assert implementations[-1] == "reference", name
