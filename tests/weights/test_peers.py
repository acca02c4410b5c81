"""Features and logits equal to those of the libraries whose files are read, in float64."""

import pytest
import timm
import torch
import torchvision
from parity import TOLERANCE, difference, randomise
from torchvision.models.convnext import CNBlockConfig
from transformers import (
    ConvNextBackbone,
    ConvNextConfig,
    ConvNextV2Backbone,
    ConvNextV2Config,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
)

import convnextv2
from convnextv2.errors import Notice
from convnextv2.models import create_model
from convnextv2.records import Preprocessing
from convnextv2.weights.foreign import read_foreign
from convnextv2.weights.layouts.recognise import LAYOUTS
from convnextv2.weights.load import LicenceNotice, read
from convnextv2.weights.sources import hub
from convnextv2.weights.sources.published import PUBLISHED

DEPTHS, DIMS = (1, 1, 2, 1), (8, 16, 24, 32)
SHAPE = {"depths": list(DEPTHS), "hidden_sizes": list(DIMS)}
LAYOUT = {layout.name: layout for layout in LAYOUTS}
EXACT = TOLERANCE[torch.float64]


def images(size=64):
    return torch.randn(2, 3, size, size, dtype=torch.float64)


def ours(held):
    model = create_model(
        held.info.architecture.name,
        num_classes=len(held.info.classes),
        depths=held.info.architecture.depths,
        dims=held.info.architecture.dims,
    ).double()
    model.load_state_dict(held.tensors)
    return model.eval()


def torchvision_of(depths=DEPTHS, dims=DIMS):
    after = (*dims[1:], None)
    stages = [CNBlockConfig(*stage) for stage in zip(dims, after, depths, strict=True)]
    return randomise(torchvision.models.ConvNeXt(stages, num_classes=5)).double().eval()


@pytest.fixture
def dinov3(tmp_path):
    """A folder as transformers saves it, and its model."""
    model = randomise(DINOv3ConvNextModel(DINOv3ConvNextConfig(**SHAPE))).double().eval()
    model.save_pretrained(tmp_path / "dinov3")
    return tmp_path / "dinov3", model


def test_dinov3_of_transformers(dinov3):
    folder, peer = dinov3
    with pytest.warns(LicenceNotice, match="under dinov3-license: commercial use is allowed; what is made from them"):
        held = read(folder)
    assert (held.info.kind, held.info.layout, held.info.licence) == ("encoder", "transformers-dinov3", "dinov3-license")
    assert (held.info.preprocessing, held.info.crop_pct) == (Preprocessing(), 1.0)
    x = images()
    with torch.no_grad():
        expected = peer(x)
        assert difference(ours(held)(x), expected.pooler_output) <= EXACT
    written = LAYOUT["transformers-dinov3"].write(held.tensors)
    assert written.keys() == peer.state_dict().keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in peer.state_dict().items())


@pytest.mark.parametrize("tag", ["dinov3_lvd1689m", "eupe_lvd1689m"])
def test_distilled_encoders_of_timm(tag, tmp_path):
    """Its names and what its tags say; the published weights themselves are given to those who ask."""
    config = timm.get_pretrained_cfg(f"convnext_tiny.{tag}")
    assert config.license == PUBLISHED[f"convnext_tiny.{tag}"].licence
    peer = timm.create_model(f"convnext_tiny.{tag}", depths=DEPTHS, dims=DIMS, num_classes=0)
    peer = randomise(peer).double().eval()
    from timm.models import save_for_hf

    save_for_hf(peer, tmp_path / "folder", safe_serialization=True)
    with pytest.warns(LicenceNotice, match=config.license):
        held = read(tmp_path / "folder")
    assert (held.info.kind, held.info.licence, held.info.crop_pct) == ("encoder", config.license, 1.0)
    x = images()
    with torch.no_grad():
        assert difference(ours(held)(x), peer(x)) <= EXACT


def test_the_official_file_of_dinov3_gives_the_features_of_transformers(dinov3, tmp_path):
    _, peer = dinov3
    official = dict(LAYOUT["transformers-dinov3"].read(peer.state_dict())[0])
    official |= {f"norms.3.{leaf}": official[f"norm.{leaf}"] for leaf in ("weight", "bias")}
    torch.save(official, tmp_path / "file.pth")
    held = read(tmp_path / "file.pth")
    assert held.info.licence.startswith("unknown; DINOv3's weights are under dinov3-license")
    x = images()
    with torch.no_grad():
        assert difference(ours(held)(x), peer(x).pooler_output) <= EXACT


@pytest.mark.parametrize("name", ["dinov3_convnext_tiny_pretrain_lvd1689m-21b726bb.pth", "timm", "facebook"])
def test_dinov3_fetched_by_hand_is_known_by_its_name(name, tmp_path, monkeypatch):
    own = create_model("convnext_tiny", num_classes=0).state_dict()
    file = tmp_path / name
    if name == "timm":
        file = tmp_path / "convnext_tiny.dinov3_lvd1689m" / "pytorch_model.bin"
        own = LAYOUT["timm"].write(own)
    elif name == "facebook":
        file = tmp_path / "dinov3-convnext-tiny-pretrain-lvd1689m" / "pytorch_model.bin"
        own = LAYOUT["transformers-dinov3"].write(own)
    file.parent.mkdir(exist_ok=True)
    torch.save(own, file)
    with pytest.warns(LicenceNotice, match="dinov3-license"):
        held = read(file if name.endswith(".pth") else file.parent)
    if name == "timm":  # the same by its name, from where the hub's library has it
        monkeypatch.setattr(hub, "fetch_folder", lambda source: {f"hf:timm/{file.parent.name}": file.parent}[source])
        with pytest.warns(LicenceNotice, match="dinov3-license"):
            assert read("convnext_tiny.dinov3_lvd1689m").info == held.info
    info = held.info
    assert (info.published, info.trained_on) == ("convnext_tiny.dinov3_lvd1689m", "LVD-1689M")
    assert (info.licence, info.image_size, info.crop_pct) == ("dinov3-license", 256, 1.0)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_backbones_of_transformers(version, tmp_path):
    config, backbone = (ConvNextConfig, ConvNextBackbone) if version == "v1" else (ConvNextV2Config, ConvNextV2Backbone)
    stages = [f"stage{number}" for number in (1, 2, 3, 4)]
    peer = randomise(backbone(config(**SHAPE, out_features=stages, layer_norm_eps=1e-6))).double().eval()
    with pytest.warns(Notice, match=r"8 other tensors are left out: hidden_states_norms\.stage1"):
        held = read_foreign(tmp_path / "file", peer.state_dict())
    x = images()
    with torch.no_grad():
        maps = ours(held).feature_maps(x)
        for found, expected, norm in zip(maps, peer(x).feature_maps, peer.hidden_states_norms.values(), strict=True):
            assert difference(norm(found.contiguous()), expected) <= EXACT


@pytest.mark.parametrize("how", ["list", "hook", "getter"])
@pytest.mark.parametrize("name", ["convnextv2_atto", "convnextv2_tiny", "convnext_tiny"])
def test_feature_extraction_of_timm(name, how, tmp_path):
    if how == "list":
        peer = timm.create_model(name, depths=DEPTHS, dims=DIMS, features_only=True)
    else:
        peer = timm.create_model(name, depths=DEPTHS, dims=DIMS, features_only=True, feature_cls=how)
    peer = randomise(peer).double().eval()
    held = read_foreign(tmp_path / "file", peer.state_dict())
    assert (held.info.kind, held.info.architecture.name) == ("encoder", name)
    x = images()
    with torch.no_grad():
        for found, expected in zip(ours(held).feature_maps(x), peer(x), strict=True):
            assert difference(found, expected) <= EXACT


def test_torchvision_gives_the_same_logits_and_back_the_same_file(tmp_path):
    peer = torchvision_of()
    held = read_foreign(tmp_path / "file", peer.state_dict())
    assert (held.info.layout, len(held.info.classes), held.info.licence) == ("torchvision", 5, "unknown")
    x = images()
    with torch.no_grad():
        assert difference(ours(held)(x), peer(x)) <= EXACT
    back = LAYOUT["torchvision"].write(held.tensors)
    assert back.keys() == peer.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in peer.state_dict().items())


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_every_size_of_torchvision_is_known(size, tmp_path):
    with torch.device("meta"):
        names = getattr(torchvision.models, f"convnext_{size}")().state_dict()
    held = read_foreign(tmp_path / "file", {name: torch.ones(1).expand(t.shape) for name, t in names.items()})
    assert (held.info.architecture.name, held.info.layout) == (f"convnext_{size}", "torchvision")


def test_pre_training_goes_on_from_dinov3(dinov3, picture_folder, tmp_path):
    """And says in its own file from what, and under which licence."""
    folder, peer = dinov3
    with pytest.warns(LicenceNotice, match="dinov3-license"):
        done = convnextv2.pretrain(
            picture_folder,
            tmp_path / "run",
            init=folder,
            image_size=64,
            epochs=1,
            batch_size=8,
            decoder_dim=16,
            workers=0,
            precision="fp32",
            lr=1e-12,
        )
    with pytest.warns(LicenceNotice, match="dinov3-license"):
        held = read(done.run)
    assert (held.info.kind, held.info.architecture.name) == ("fcmae", "convnext_atto")
    assert held.info.licence == "dinov3-license"
    assert held.info.trained_from is not None
    assert held.info.trained_from[-1].format == "convnextv2.encoder.1"
    assert "encoder from" in (done.run / "log.txt").read_text()
    assert "licence of these weights: dinov3-license" in (done.run / "log.txt").read_text()
    with pytest.warns(LicenceNotice, match="dinov3-license"):
        encoder = convnextv2.load(done.run).model
    x = images().float()
    with torch.no_grad():  # a rate that changes nothing: it began where DINOv3 ended
        assert (
            difference(encoder.feature_maps(x)[-1], peer.float()(x, output_hidden_states=True).hidden_states[-1]) < 1e-5
        )
