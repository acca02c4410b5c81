"""timm's models behind our interface: the same numbers as timm's own, and what does not fit is said in one line."""

import subprocess
import sys

import pytest
import timm
import torch
from timm.layers.drop import DropPath
from timm.optim import param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

from convnextv2.errors import UserError
from convnextv2.models import ConvNeXt, EncoderConfig, TimmConfig, build_backbone
from convnextv2.models.timm_backbone import TimmBackbone, lr_scales
from convnextv2.weights.init import ArchitectureRequest

VIT, SWIN, RESNET, CONVNEXT = "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet18", "convnext_atto"
SIZED = (VIT, SWIN)  # their parameters depend on the size of the pictures
FAMILIES = pytest.mark.parametrize("name", [VIT, SWIN, RESNET, CONVNEXT])
SMALL = pytest.mark.parametrize("name", [VIT, RESNET, CONVNEXT])


def backbone(name, in_chans=3, **options):
    return TimmBackbone(TimmConfig(name=f"timm:{name}", in_chans=in_chans), **options)


def bare(name, size, **arguments):
    return timm.create_model(name, num_classes=5, **({"img_size": size} if name in SIZED else {}), **arguments)


def with_names(groups, model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]}


@pytest.mark.parametrize(("name", "size"), [(VIT, 64), (VIT, 96), (SWIN, 64), (SWIN, 96), (RESNET, 64), (CONVNEXT, 64)])
@torch.no_grad()
def test_logits_and_features_are_those_of_the_bare_model(name, size, randomise):
    model = randomise(backbone(name, num_classes=5, image_size=size)).eval()
    reference = bare(name, size).eval()
    weights = model.state_dict()
    assert list(weights) == [f"net.{key}" for key in reference.state_dict()]
    reference.load_state_dict({key.removeprefix("net."): value for key, value in weights.items()})
    images = torch.randn(2, 3, size, size)
    logits, features = model(images), model.pooled_features(images)
    assert torch.equal(logits, reference(images))
    assert features.shape == (2, model.num_features)
    assert torch.equal(model.net.get_classifier()(features), logits)
    assert model.ignored == ()


@SMALL
def test_the_model_starts_as_timm_starts_it(name):
    torch.manual_seed(7)
    model = backbone(name, num_classes=5, image_size=64)
    torch.manual_seed(7)
    reference = bare(name, 64).state_dict()
    assert all(torch.equal(value, reference[key]) for key, value in model.net.state_dict().items())
    assert all(module.training for module in model.modules())


@FAMILIES
def test_a_gradient_reaches_every_parameter(name, randomise):
    model = randomise(backbone(name, num_classes=5, image_size=64))
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", [VIT, "ghostnet_050"])  # GhostNet's head is wider than its last feature map
@torch.no_grad()
def test_without_classes_the_model_gives_pooled_features(name, randomise):
    model = randomise(backbone(name, num_classes=0, in_chans=1, image_size=64)).eval()
    images = torch.randn(2, 1, 64, 64)
    features = model(images)
    assert features.shape == (2, model.num_features)
    assert torch.equal(features, model.pooled_features(images))


@torch.no_grad()
def test_without_a_size_the_model_is_built_as_timm_builds_it():
    assert backbone(VIT, num_classes=5).eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 5)


@pytest.mark.parametrize("name", [SWIN, RESNET])  # timm's own rates: 0.1 and 0
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_drop_path_is_the_one_asked_for(name, rate):
    model = backbone(name, num_classes=5, image_size=64, drop_path_rate=rate)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert max(rates, default=0.0) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("name", "rate", "ignored"),
    [
        ("ghostnet_050", 0.1, ("drop_path_rate",)),
        ("ghostnet_050", 0.0, ()),
        ("poolformer_s12", 0.1, ()),  # refuses an unknown argument with a sentence of its own
    ],
)
def test_what_the_model_has_no_place_for_is_told(name, rate, ignored):
    assert backbone(name, num_classes=5, image_size=64, drop_path_rate=rate).ignored == ignored


@pytest.mark.parametrize("name", [VIT, RESNET, "deit_tiny_distilled_patch16_224"])  # the last has two heads
@torch.no_grad()
def test_head_init_scale_scales_the_logits_and_nothing_else(name):
    models = []
    for scale in (1.0, 0.25):
        torch.manual_seed(3)
        models.append(backbone(name, num_classes=5, image_size=64, head_init_scale=scale).eval())
    images = torch.randn(2, 3, 64, 64)
    full, scaled = models
    assert torch.equal(full.pooled_features(images), scaled.pooled_features(images))
    torch.testing.assert_close(scaled(images), 0.25 * full(images))


@torch.no_grad()
def test_of_a_head_with_a_hidden_layer_only_the_last_map_is_scaled():
    heads = []
    for scale in (1.0, 0.25):
        torch.manual_seed(3)
        heads.append(backbone("caformer_s18", num_classes=5, image_size=64, head_init_scale=scale).classifiers()[0])
    assert torch.equal(heads[0].fc1.weight, heads[1].fc1.weight)
    assert torch.equal(0.25 * heads[0].fc2.weight, heads[1].fc2.weight)


@pytest.mark.parametrize(
    ("name", "layers", "first", "last"),
    [
        (VIT, 13, "net.pos_embed", ["net.head.weight"]),
        (RESNET, 9, "net.conv1.weight", ["net.fc.weight"]),
        (CONVNEXT, 13, "net.stem.0.weight", ["net.head.fc.weight", "net.head.norm.weight"]),
        (SWIN, 13, "net.patch_embed.proj.weight", ["net.head.fc.weight"]),
    ],
)
def test_lr_scales_are_those_of_timm(name, layers, first, last):
    model = backbone(name, num_classes=5, image_size=64)
    scales = lr_scales(model, 0.7)
    assert scales == with_names(param_groups_layer_decay(model.net, layer_decay=0.7), model)
    assert list(scales) == [key for key, _ in model.named_parameters()]
    assert min(scales.values()) == scales[first] == pytest.approx(0.7**layers)
    assert all(scales[key] == 1.0 for key in last)


def test_without_layers_there_is_no_layer_decay():
    model = backbone("pit_ti_224", num_classes=5, image_size=64)
    with pytest.raises(UserError, match=r"layers of timm:pit_ti_224 .*: give layer_decay=1$"):
        lr_scales(model, 0.9)
    assert lr_scales(model, 1.0) == {name: 1.0 for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_base_patch16_225", {}, "'vit_base_patch16_225'; did you mean .*timm:vit_base_patch16_224"),
        ("vit_tiny_p", {}, "did you mean timm:vit_tiny_patch16_"),
        ("", {}, "''; did you mean timm:"),
        ("hf-hub:timm/resnet18.a1_in1k", {}, "is named timm:NAME, got 'timm:hf-hub:timm/resnet18.a1_in1k'"),
        ("resnet18.a1_in1k", {}, r"trained weights \(a1_in1k\).* give model='timm:resnet18'$"),
        ("crossvit_tiny_240", {}, r"3 channels and 64x64 pixels \(timm: .*tensor.*\); .* image_size=240"),
        ("vit_tiny_patch16_224", {"image_size": 8}, r"8x8 pixels \(timm: .+\); .* image_size=224"),
        ("resnet18", {"num_classes": -1}, "num_classes must be 0 .* got -1"),
        ("resnet18", {"in_chans": 0}, "in_chans must be at least 1, got 0"),
        ("resnet18", {"image_size": 0}, "image_size must be at least 1, got 0"),
        ("resnet18", {"drop_path_rate": 1.0}, "drop_path_rate must be .* below 1, got 1.0"),
    ],
)
def test_wrong_options_give_one_clear_line(name, options, message):
    with pytest.raises(UserError, match=message) as error:
        backbone(name, **{"num_classes": 5, "image_size": 64} | options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (3, 64, 64), (2, 64, 64, 3)])
@pytest.mark.parametrize("call", ["__call__", "pooled_features"])
def test_wrong_pictures_give_one_clear_line(shape, call):
    model = backbone("ghostnet_050", num_classes=5)
    with pytest.raises(UserError, match=r"^images must be \(B, 3, H, W\), got \([\d, ]+\)$"):
        getattr(model, call)(torch.zeros(shape))


def test_without_timm_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError) as error:
        backbone("resnet50", num_classes=5, image_size=64)
    assert str(error.value) == "model timm:resnet50 needs timm: pip install 'convnextv2[timm]'"


def test_timm_is_not_imported_before_it_is_needed():
    code = (
        "import sys; from convnextv2.models import EncoderConfig, build_backbone;"
        "import convnextv2.models.timm_backbone;"
        "config = EncoderConfig.named('convnextv2_atto', depths=(1, 1, 1, 1), dims=(8, 8, 8, 8));"
        "build_backbone(config, num_classes=3, image_size=64);"
        "print('timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_backbone_is_ours_or_theirs_by_its_configuration():
    shape = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "in_chans": 1, "stem_stride": 2}
    config = EncoderConfig.named("convnextv2_atto", **shape)
    ours = build_backbone(config, image_size=32, num_classes=3, drop_path_rate=0.5, head_init_scale=0.0)
    assert isinstance(ours, ConvNeXt)
    assert (ours.config, ours.num_classes, ours.in_chans, ours.stem_stride) == (config, 3, 1, 2)
    assert (ours.depths, ours.dims) == ((1, 1, 2, 1), (8, 16, 24, 32))
    assert isinstance(ours.head, nn.Linear)
    assert not ours.head.weight.any()
    assert ours.get_submodule("stages.3.0").drop_path_rate == 0.5

    config = TimmConfig(name=f"timm:{VIT}", in_chans=1)
    theirs = build_backbone(config, image_size=32, num_classes=3, drop_path_rate=0.5, head_init_scale=0.0)
    assert isinstance(theirs, TimmBackbone)
    assert (theirs.config, theirs.num_classes, theirs.in_chans, theirs.name) == (config, 3, 1, VIT)
    assert not theirs.net.head.weight.any()
    assert theirs.net.blocks[-1].drop_path1.drop_prob == 0.5
    assert theirs(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm:resnet18", {"stem_stride": 2}, "stem_stride=2 .*timm:resnet18 .*: leave it out$"),
        ("timm:resnet18", {"depths": (1, 1, 1, 1)}, r"depths=\(1, 1, 1, 1\) .*timm:resnet18 .*: leave it out$"),
        ("timm:resnet18", {"dims": (8, 8, 8, 8)}, r"dims=\(8, 8, 8, 8\) .*timm:resnet18 .*: leave it out$"),
        ("resnet18", {}, "no model is called 'resnet18'"),
    ],
)
def test_an_architecture_that_the_model_does_not_have_is_refused(name, options, message):
    with pytest.raises(UserError, match=message) as error:
        ArchitectureRequest(model=name, **options).resolve()
    assert "\n" not in str(error.value)
