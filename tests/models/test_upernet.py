"""UPerNet beside transformers' with the same weights, and beside the paper's size and cost."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convnextv2.errors import UserError
from convnextv2.models import ConvNeXt
from convnextv2.models.config import EncoderConfig
from convnextv2.models.upernet import UPerNet

SMALL = {"name": "convnextv2_atto", "depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}


def randomised(model):
    """All weights and running statistics random, so that no term is zero or one."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(
                    torch.rand_like(tensor) + 0.5 if name.endswith("running_var") else torch.randn_like(tensor)
                )
                tensor.mul_(0.3 if tensor.ndim > 1 else 1)
    return model


def of_transformers(ours):
    """transformers' model with the weights of ours."""
    transformers = pytest.importorskip("transformers")
    config = ours.encoder.config
    backbone = transformers.ConvNextV2Config(
        depths=list(config.depths), hidden_sizes=list(config.dims), out_features=[f"stage{k}" for k in range(1, 5)],
        layer_norm_eps=1e-6,
    )  # fmt: skip
    theirs = transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(
            backbone_config=backbone,
            hidden_size=ours.head.classifier.in_channels,
            num_labels=ours.num_classes,
            auxiliary_channels=ours.auxiliary.classifier.in_channels,
            auxiliary_in_channels=config.dims[2],
        )
    )
    theirs.load_state_dict(renamed(ours.state_dict()))
    return theirs.eval()


def renamed(tensors):
    """Names of transformers for those of ours; the tensors of GRN and of 1x1 convolutions have other shapes there."""
    found = {}
    for name, value in tensors.items():
        if name.startswith(("encoder.norm.", "encoder.head.")):
            continue
        if name.startswith("encoder.downsample_layers.0."):
            layer = {"0": "patch_embeddings", "1": "layernorm"}[name.split(".")[3]]
            name = f"backbone.embeddings.{layer}.{name.rsplit('.', 1)[1]}"
        elif name.startswith("encoder.downsample_layers."):
            _, _, stage, layer, kind = name.split(".")
            name = f"backbone.encoder.stages.{stage}.downsampling_layer.{layer}.{kind}"
        elif name.startswith("encoder.stages."):
            _, _, stage, block, rest = name.split(".", 4)
            rest = (
                rest.replace("norm.", "layernorm.").replace("grn.gamma", "grn.weight").replace("grn.beta", "grn.bias")
            )
            name = f"backbone.encoder.stages.{stage}.layers.{block}.{rest}"
        elif name.startswith("norms."):
            _, number, kind = name.split(".")
            name = f"backbone.hidden_states_norms.stage{int(number) + 1}.{kind}"
        else:
            name = name.replace("head.pooling.scales.", "decode_head.psp_modules.")
            name = name.replace("head.pooling.bottleneck.", "decode_head.bottleneck.")
            name = name.replace("head.laterals.", "decode_head.lateral_convs.")
            name = name.replace("head.outputs.", "decode_head.fpn_convs.").replace(
                "head.fuse.", "decode_head.fpn_bottleneck."
            )
            name = name.replace("head.classifier.", "decode_head.classifier.")
            name = name.replace("auxiliary.convolution.", "auxiliary_head.convs.0.")
            name = name.replace("auxiliary.classifier.", "auxiliary_head.classifier.")
            for own, other in ((".0.weight", ".conv.weight"), (".1.", ".batch_norm.")):
                head, found_at, tail = name.rpartition(own)
                if found_at and "classifier" not in name and (own != ".1." or "." not in tail):
                    name = head + other + tail
                    break
            name = name.replace("psp_modules.", "psp_modules.", 1)
            if "psp_modules" in name:
                first, number, rest = name.split("psp_modules.")[0], *name.split("psp_modules.")[1].split(".", 1)
                name = f"{first}psp_modules.{number}.1.{rest}"
        found[name] = value
    return found


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (70, 101)])
def test_logits_are_those_of_transformers(size):
    torch.manual_seed(0)
    ours = randomised(UPerNet(ConvNeXt(EncoderConfig(**SMALL), num_classes=0), 7, head_dim=24)).eval()
    theirs = of_transformers(ours)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        found = F.interpolate(ours(images).logits, size, mode="bilinear", align_corners=False)
        expected = theirs(images).logits
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_auxiliary_head_is_that_of_transformers_and_only_trains():
    torch.manual_seed(0)
    ours = randomised(UPerNet(ConvNeXt(EncoderConfig(**SMALL), num_classes=0), 7, head_dim=24, dropout=0.0))
    theirs = of_transformers(ours)
    images = torch.randn(2, 3, 64, 64)
    assert ours.eval()(images).auxiliary is None
    ours.train()
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        expected = theirs.auxiliary_head(theirs.backbone(images).feature_maps)
        found = ours(images).auxiliary
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("size", "parameters", "multiply_adds"), [("base", 122, 1170), ("large", 235, 1573), ("huge", 707, 3272)]
)
def test_size_and_cost_are_the_papers(size, parameters, multiply_adds):
    """Table 7: millions of parameters, and thousand millions of multiply-adds at 512 x 2048, rounded as there."""
    with torch.device("meta"):
        model = UPerNet(ConvNeXt(EncoderConfig.named(f"convnextv2_{size}"), num_classes=0), 150).eval()
    unused = ("encoder.norm.", "encoder.head.")
    counted = sum(value.numel() for name, value in model.named_parameters() if not name.startswith(unused))
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    model(torch.zeros(1, 3, 512, 2048, device="meta"))
    depths, dims = model.encoder.depths, model.encoder.dims
    for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        total += depth * 2 * 4 * dim * dim * (512 // 4 // 2**stage) * (2048 // 4 // 2**stage)  # the blocks' linear maps
    assert abs(counted / 1e6 - parameters) <= 0.5
    assert abs(total / 1e9 - multiply_adds) <= 1


def test_groups_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    model = UPerNet(ConvNeXt(EncoderConfig(**SMALL), num_classes=0), 3, head_dim=64, dropout=0.0, head_norm="group")
    images = torch.randn(3, 3, 64, 64)
    together, alone = model(images), model(images[1:2])
    assert torch.allclose(together.logits[1:2], alone.logits, atol=1e-6)
    assert torch.allclose(together.auxiliary[1:2], alone.auxiliary, atol=1e-6)


def test_one_class_is_none():
    with pytest.raises(UserError, match="two classes or more, got 1"):
        UPerNet(ConvNeXt(EncoderConfig(**SMALL), num_classes=0), 1)
