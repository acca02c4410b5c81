"""Other projects' layouts: their names, their shapes, and the same outputs."""

import gzip
import re
import warnings
import zipfile
from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
from timm.models.convnext import checkpoint_filter_fn
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
)

from convnextv2.errors import LoadError, Notice
from convnextv2.models import SIZES, EncoderConfig, create_model
from convnextv2.models.create import encoder_shapes
from convnextv2.records import Preprocessing
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.weights import kinds
from convnextv2.weights.foreign import read_foreign
from convnextv2.weights.init import fill_backbone, fill_encoder
from convnextv2.weights.layouts.layout import canonical
from convnextv2.weights.layouts.official import NAMES
from convnextv2.weights.layouts.recognise import LAYOUTS, recognise, writer
from convnextv2.weights.load import read
from convnextv2.weights.model_file import ModelInfo

SMALL = ["convnextv2_atto", "convnext_atto"]
LARGE = [name for name in SIZES if name not in SMALL]
EVERY = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
LAYOUT_OF = {"minkowski": True, "birder": True, "torchvision": False, "transformers-dinov3": False}  # has GRN
WITHOUT_HEAD = ("transformers-dinov3",)
WITHOUT_NORM = ("minkowski", "timm-features")
V2 = [name for name, size in SIZES.items() if size.grn]
IMAGES = (1, 3, 64, 64)


def randomise(model):
    """Fresh values for all parameters: GRN's zeros would hide errors."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.ndim > 1 and parameter.shape[:3] != (1, 1, 1):
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            else:
                parameter.normal_(0.5, 0.2)
    return model.eval()


def transformers_model(name, eps=1e-6):
    size = SIZES[name]
    config, model = (
        (ConvNextV2Config, ConvNextV2ForImageClassification)
        if size.grn
        else (ConvNextConfig, ConvNextForImageClassification)
    )
    # The final norm's epsilon is layer_norm_eps here, 1e-12 by default; all others are fixed at 1e-6.
    made = config(depths=list(size.depths), hidden_sizes=list(size.dims), num_labels=10, layer_norm_eps=eps)
    return randomise(model(made))


def peer_of(layout, name):
    if layout == "timm":
        return randomise(timm.create_model(name, num_classes=10))
    return transformers_model(name)


def filled(file):
    model = create_model(file.info.architecture.name, num_classes=len(file.info.classes))
    model.load_state_dict(file.tensors)
    return model.eval()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("layout", ["timm", "transformers"])
def test_a_peers_weights_give_its_outputs_and_go_back_bitwise(layout, name, tmp_path):
    peer = peer_of(layout, name)
    theirs = peer.state_dict()
    found = read_foreign(tmp_path / "file", theirs)
    assert (found.info.architecture.name, found.info.layout, len(found.info.classes)) == (name, layout, 10)
    ours, images = filled(found), torch.randn(IMAGES)
    with torch.no_grad():
        expected = peer(images) if layout == "timm" else peer(images).logits
        assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
    back = writer(layout, name).write(ours.state_dict())
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", SIZES)
def test_the_official_shapes_are_those_of_our_model(name):
    with torch.device("meta"):
        model = create_model(name, num_classes=7, in_chans=5, stem_stride=2)
        autoencoder = FCMAE(
            create_model(name, num_classes=0, in_chans=5, stem_stride=2), decoder_dim=24, decoder_depth=2
        )
    config = EncoderConfig.named(name, in_chans=5, stem_stride=2)
    assert encoder_shapes(config, 7) == {n: tuple(tensor.shape) for n, tensor in model.state_dict().items()}
    info = ModelInfo(
        kind="fcmae",
        architecture=config,
        preprocessing=Preprocessing.for_channels(5),
        image_size=64,
        options={"decoder_dim": 24, "decoder_depth": 2},
    )
    assert kinds.shapes(info) == {n: tuple(tensor.shape) for n, tensor in autoencoder.state_dict().items()}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("layout", [layout.name for layout in LAYOUTS])
def test_there_and_back_is_the_same_bit_by_bit(layout, name, tmp_path):
    size = SIZES[name]
    own = randomise(create_model(name, num_classes=10)).state_dict()
    if size.grn is not LAYOUT_OF.get(layout, size.grn):
        pytest.skip("of the other version alone")
    if layout in WITHOUT_HEAD:
        own = {key: tensor for key, tensor in own.items() if not key.startswith("head.")}
    if layout in WITHOUT_NORM:
        own = {key: tensor for key, tensor in own.items() if not key.startswith(("norm.", "head."))}
    written = writer(layout, name).write(own)
    again = recognise(written, tmp_path)
    assert again.layout.name == layout
    assert again.unknown == ()
    assert again.tensors.keys() == own.keys()
    assert all(torch.equal(again.tensors[key], own[key]) for key in own)


def mmpretrain_by_hand(own):
    """A state dict as mmpretrain has it, written from its model's attributes, apart from our table."""
    renamed = {"dwconv": "depthwise_conv", "pwconv1": "pointwise_conv1", "pwconv2": "pointwise_conv2"}
    theirs = {}
    for name, tensor in own.items():
        place, _, leaf = name.rpartition(".")
        *place, part = place.split(".")
        if part == "head":
            theirs[f"head.fc.{leaf}"] = tensor
        elif place == []:
            assert part == "norm"
            theirs[f"backbone.norm3.{leaf}"] = tensor
        else:
            value = tensor.reshape(-1) if part == "grn" else tensor
            theirs[".".join(["backbone", *place, renamed.get(part, part), leaf])] = value
    return theirs


@pytest.mark.parametrize("convolutions", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_mmpretrain_as_written_by_hand(name, convolutions, tmp_path):
    """Its pointwise layers are linear, or 1x1 convolutions with linear_pw_conv=False."""
    own = randomise(create_model(name, num_classes=10)).state_dict()
    theirs = mmpretrain_by_hand(own)
    assert "backbone.stages.2.5.pointwise_conv2.weight" in theirs
    assert writer("mmpretrain", name).write(own).keys() == theirs.keys()
    if convolutions:
        theirs = {key: t[:, :, None, None] if "pointwise" in key and t.ndim == 2 else t for key, t in theirs.items()}
    found = read_foreign(tmp_path / "file.pth", theirs)
    assert (found.info.architecture.name, found.info.layout) == (name, "mmpretrain")
    assert found.tensors.keys() == own.keys()
    assert all(torch.equal(found.tensors[key], own[key]) for key in own)


def birder_by_hand(own):
    """A state dict as birder 0.8.4 has it: in a later stage the downsampling is number 0 and blocks begin at 1."""
    parts = {"dwconv": 0, "norm": 2, "pwconv1": 3, "grn": 5, "pwconv2": 6}
    theirs = {}
    for name, tensor in own.items():
        words = name.split(".")
        if words[0] == "stages":
            stage, block = int(words[1]), int(words[2])
            place = f"body.stage{stage + 1}.{block if stage == 0 else block + 1}.block.{parts[words[3]]}"
        elif words[0] == "downsample_layers":
            place = f"stem.{words[2]}" if words[1] == "0" else f"body.stage{int(words[1]) + 1}.0.{words[2]}"
        else:
            place = {"norm": "features.1", "head": "classifier"}[words[0]]
        theirs[f"{place}.{words[-1]}"] = tensor
    return theirs


@pytest.mark.parametrize("name", [pytest.param(p, marks=pytest.mark.slow) if p != SMALL[0] else p for p in V2])
def test_birder_as_written_by_hand(name, tmp_path):
    own = randomise(create_model(name, num_classes=10)).state_dict()
    said = {"class_to_idx": {f"bird {row}": row for row in range(10)}, "birder_version": "0.8.4"}
    said |= {"rgb_stats": {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}}
    said |= {"signature": {"inputs": [{"data_shape": [0, 3, 256, 256]}], "outputs": []}}
    torch.save({"state": birder_by_hand(own), "task": "image_classification", **said}, tmp_path / "birder.pt")
    found = read(tmp_path / "birder.pt")
    assert (found.info.architecture.name, found.info.layout) == (name, "birder")
    assert (found.info.classes[:2], found.info.image_size) == (("bird 0", "bird 1"), 256)
    assert found.info.preprocessing == Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert found.tensors.keys() == own.keys()
    assert all(torch.equal(found.tensors[key], own[key]) for key in own)


def test_birders_masked_autoencoder_becomes_ours(tmp_path):
    own = FCMAE(create_model("convnextv2_atto", num_classes=0), decoder_dim=24).state_dict()
    encoder = {name.removeprefix("encoder."): t for name, t in own.items() if name.startswith("encoder.")}
    theirs = {f"encoder.{name}": tensor for name, tensor in birder_by_hand(encoder).items()}
    parts = {"dwconv": 0, "norm": 2, "pwconv1": 3, "grn": 5, "pwconv2": 6}
    for name, tensor in own.items():
        if name.startswith("decoder."):
            _, block, part, leaf = name.split(".")
            theirs[f"decoder.{block}.block.{parts[part]}.{leaf}"] = tensor
        elif not name.startswith("encoder."):
            theirs[name] = tensor
    found = read_foreign(tmp_path / "file", theirs)
    assert (found.info.kind, found.info.layout) == ("fcmae", "birder")
    assert found.tensors.keys() == own.keys()
    assert all(torch.equal(found.tensors[name], own[name]) for name in own)


@pytest.mark.slow
def test_birders_own_model_gives_the_same_outputs(tmp_path):
    registry = pytest.importorskip("birder.model_registry").registry
    peer = randomise(registry.net_factory("convnext_v2_atto", 10))
    found = read_foreign(tmp_path / "file", peer.state_dict())
    ours, images = filled(found), torch.randn(IMAGES)
    with torch.no_grad():
        expected = peer(images)
        assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_every_name_of_the_official_layout_has_one_in_each_other():
    """By the tables of names alone, so that no name is forgotten where a test model has none of it."""
    grn = {f"stages.{{s}}.{{b}}.grn.{part}" for part in ("gamma", "beta")}
    for layout in LAYOUTS:
        has = {official for official, _ in layout.pairs}
        if layout.name == "torchvision":  # its numbers are computed, stage by stage
            has = {re.sub(r"(stages\.)\d", r"\1{s}", re.sub(r"(layers\.)[1-3]", r"\1{k}", name)) for name in has}
        left = set(NAMES) - has
        if layout.name in ("torchvision", "transformers-dinov3"):  # of V1 alone
            assert left == grn | ({"head.{leaf}"} if layout.name in WITHOUT_HEAD else set())
        elif layout.name == "timm-features":
            assert left == {"norm.{leaf}", "head.{leaf}"}
        elif layout.name == "minkowski":  # no V1, no final norm, no head; the others one by one
            assert left == {
                "stages.{s}.{b}.dwconv.{leaf}",
                "stages.{s}.{b}.gamma",
                "norm.{leaf}",
                "head.{leaf}",
                "downsample_layers.{k}.{j}.{leaf}",
            }
        else:
            missing = {"downsample_layers.0.{j}.{leaf}"} if layout.name == "transformers" else set()
            assert left == ({"stages.{s}.{b}.gamma"} if layout.name == "birder" else missing)  # it is of V2 alone


@pytest.mark.parametrize("shape", [(8,), (1, 8), (1, 1, 1, 8), (1, 8, 1, 1), (1, 1, 1, 1, 1, 8)])
def test_grn_comes_in_any_number_of_axes(shape):
    values = torch.arange(8.0)
    found = canonical("stages.0.0.grn.gamma", values.reshape(shape))
    assert found.shape == (1, 1, 1, 8)
    assert torch.equal(found.flatten(), values)


@pytest.mark.parametrize("layout", ["official", "timm", "transformers", "mmpretrain", "birder"])
@pytest.mark.parametrize("axes", [(-1,), (1, -1), (1, 1, 1, -1), (1, -1, 1, 1), (1, 1, 1, 1, 1, -1)])
def test_a_whole_file_may_have_grn_in_any_number_of_axes(layout, axes, tmp_path):
    own = randomise(create_model("convnextv2_atto", num_classes=3)).state_dict()
    theirs = writer(layout, "convnextv2_atto").write(own)
    changed = {n: t.reshape(axes) if "grn" in n or ".block.5." in n else t for n, t in theirs.items()}
    assert sum(changed[name].ndim == len(axes) for name in theirs if theirs[name].numel() > 3) > 20
    torch.save(changed, tmp_path / "file.pt")
    found = read(tmp_path / "file.pt")
    assert found.info.layout == layout
    assert all(torch.equal(found.tensors[name], own[name]) for name in own)


@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_weights_that_do_not_fit_leave_the_model_as_it_was(kind, tmp_path):
    shape = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    torch.save(create_model("convnextv2_atto", num_classes=2, **shape).state_dict(), tmp_path / "file.pt")
    held = read(tmp_path / "file.pt")
    model = create_model("convnextv2_atto", num_classes=2, depths=(1, 1, 1, 1), dims=(8, 8, 16, 24))
    target, fill = model, partial(fill_backbone, init=held, classes=("a", "b"))
    if kind == "autoencoder":
        target, fill = FCMAE(model, decoder_dim=8), partial(fill_encoder, init=held)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(LoadError, match=r"of another shape: .*stages.3.0.dwconv.weight"):
        fill(target)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize(
    ("classes", "head"), [(("caf\u00e9", "a"), True), (("cafe\u0301", "a"), True), (("a", "caf\u00e9"), False)]
)
def test_a_head_is_of_the_same_classes_in_either_unicode_form(classes, head, tmp_path):
    trained, model = (create_model("convnextv2_atto", num_classes=2, depths=(1, 1, 1, 1)) for _ in range(2))
    torch.save(trained.state_dict(), tmp_path / "file.pt")
    held = read(tmp_path / "file.pt")
    held = replace(held, info=replace(held.info, classes=("cafe\u0301", "a")))
    assert ("head included" in fill_backbone(model, held, classes)) == head
    assert torch.equal(model.head.weight, trained.head.weight) == head


def test_grn_of_two_long_axes_is_left_for_the_error():
    assert canonical("stages.0.0.grn.beta", torch.zeros(2, 4)).shape == (2, 4)


WRAPPERS = [
    "",
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
    "net.module._orig_mod.",
    "student.backbone.",
    "ema_model.module.",
]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("layout", ["official", "timm", "transformers", "mmpretrain", "birder"])
def test_wrappers_are_taken_off(wrapper, layout, tmp_path):
    own = create_model("convnextv2_atto", num_classes=2, depths=(1, 1, 1, 1)).state_dict()
    found = recognise({wrapper + n: t for n, t in writer(layout, "convnextv2_atto").write(own).items()}, tmp_path)
    assert found.tensors.keys() == own.keys()
    assert (found.unknown, found.left_out) == ((), ())


@pytest.mark.parametrize("wrapper", ["backbone.", "module.backbone.", "model.image_encoder.trunk."])
def test_of_a_detector_the_encoder_is_taken_and_the_rest_is_counted(wrapper, tmp_path):
    own = create_model("convnextv2_atto", num_classes=0, depths=(1, 1, 1, 1)).state_dict()
    encoder = {n: t for n, t in own.items() if not n.startswith("norm.")}
    norms = {f"{wrapper}norm{stage}.{leaf}": torch.ones(8) for stage in range(4) for leaf in ("weight", "bias")}
    others = {f"neck.{i}.conv.weight": torch.ones(1) for i in range(500)} | norms | {"n_averaged": torch.tensor(3)}
    with pytest.warns(Notice, match=r"the encoder below .* is taken; 509 other tensors are left out: "):
        held = read_foreign(tmp_path / "file", {wrapper + n: t for n, t in encoder.items()} | others)
    assert held.info.kind == "encoder"
    assert all(torch.equal(held.tensors[name], tensor) for name, tensor in encoder.items())
    missing = {wrapper + n: t for n, t in encoder.items() if n != "stages.2.0.pwconv1.bias"} | others
    named = re.escape(f"{wrapper}stages.2.0.pwconv1.bias")
    with pytest.raises(LoadError, match=f"missing: {named}"), warnings.catch_warnings(action="ignore"):
        read_foreign(tmp_path / "file", missing)


def test_an_average_goes_before_its_student(tmp_path):
    own = create_model("convnextv2_atto", num_classes=0, depths=(1, 1, 1, 1)).state_dict()
    both = {f"student.{n}": t for n, t in own.items()} | {f"teacher.{n}": t + 1 for n, t in own.items()}
    found = recognise(both, tmp_path)
    assert found.prefix == "teacher."
    assert len(found.left_out) == len(own)


def test_a_file_without_any_weight_is_refused(tmp_path):
    own = create_model("convnextv2_atto", num_classes=2, depths=(1, 1, 1, 1)).state_dict()
    with pytest.raises(LoadError, match=r"every weight in .* is zero"):
        read_foreign(tmp_path / "file", {name: torch.zeros_like(tensor) for name, tensor in own.items()})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html><head><title>404</title>", "a web page, not weights"),
        (gzip.compress(b"weights", mtime=0), "a compressed archive: unpack it"),
    ],
    ids=["lfs", "html", "gzip"],
)
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_what_is_found_in_place_of_weights_is_named(content, said, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError, match=said):
        read(tmp_path / name)


def test_archives_of_other_kinds_are_named(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # newer torch wants other ways
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "script.pt")
    with pytest.raises(LoadError, match=r"script.pt is a TorchScript program .*torch.jit.load"):
        read(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("best.pt", b"weights" * 100)
    with pytest.raises(LoadError, match=r"an archive with 'best.pt' in it: unpack it"):
        read(tmp_path / "model.zip")


def test_the_usual_epsilon_of_transformers_is_close_enough(tmp_path):
    """Published folders leave it at 1e-12, where the model's is 1e-6."""
    peer = transformers_model("convnextv2_atto", eps=1e-12)
    ours, images = filled(read_foreign(tmp_path / "file", peer.state_dict())), torch.randn(IMAGES)
    with torch.no_grad():
        expected = peer(images).logits
        assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", EVERY)
def test_timm_reads_the_official_file_that_we_read_and_gives_the_same(name, tmp_path):
    """timm's own reader of official files is the judge of ours, in outputs."""
    torch.save({"model": randomise(create_model(name, num_classes=10)).state_dict()}, tmp_path / "official.pt")
    peer = timm.create_model(name, num_classes=10).eval()
    peer.load_state_dict(checkpoint_filter_fn(torch.load(tmp_path / "official.pt"), peer))
    ours, images = filled(read(tmp_path / "official.pt")), torch.randn(IMAGES)
    with torch.no_grad():
        expected = peer(images)
        assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("layout", ["timm", "transformers", "minkowski", "mmpretrain", "birder"])
@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape", "of another type"])
def test_one_wrong_tensor_is_named_in_the_words_of_its_layout(layout, change, tmp_path):
    own = create_model("convnextv2_atto", num_classes=10).state_dict()
    if layout == "minkowski":
        own = {key: tensor for key, tensor in own.items() if not key.startswith(("norm.", "head."))}
    theirs = writer(layout, "convnextv2_atto").write(own)
    name = writer(layout, "convnextv2_atto").named("stages.2.3.pwconv1.bias")
    if change == "missing":
        del theirs[name]
    elif change == "unexpected":
        name = f"{name}s"
        theirs[name] = torch.zeros(3)
    else:
        theirs[name] = torch.zeros(7) if change == "of another shape" else theirs[name].long()
    with pytest.raises(LoadError, match=rf"does not fill the model: {change}: {name}") as caught:
        read_foreign(tmp_path / "file", theirs)
    kinds = {"missing", "unexpected", "of another shape", "of another type"}
    assert all(f"{other}:" not in str(caught.value) for other in kinds - {change})


@pytest.mark.parametrize("convolutions", [True, False])
def test_a_size_of_timm_without_a_name_of_ours_goes_back_bitwise(convolutions, tmp_path):
    name = "convnextv2_atto" if convolutions else "convnextv2_tiny"
    peer = randomise(timm.create_model(name, num_classes=10, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)))
    found = read_foreign(tmp_path / "file", peer.state_dict())
    assert (found.info.architecture.name, found.info.architecture.dims) == (name, (8, 16, 24, 32))
    back = writer("timm", found.info.architecture.name).write(found.tensors)
    assert back.keys() == peer.state_dict().keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in peer.state_dict().items())


def test_old_files_of_transformers_have_gamma_and_beta(tmp_path):
    theirs = transformers_model("convnextv2_atto").state_dict()
    old = {
        name.replace("grn.weight", "grn.gamma").replace("grn.bias", "grn.beta"): value for name, value in theirs.items()
    }
    assert old.keys() != theirs.keys()
    a, b = read_foreign(tmp_path / "file", old), read_foreign(tmp_path / "file", theirs)
    assert all(torch.equal(a.tensors[name], b.tensors[name]) for name in b.tensors)


def test_an_encoder_of_pre_training_alone_gets_its_final_norm(tmp_path):
    own = randomise(create_model("convnextv2_atto", num_classes=0)).state_dict()
    bare = {name: tensor for name, tensor in own.items() if not name.startswith("norm.")}
    found = read_foreign(tmp_path / "file", {**bare, **{n: t.reshape(1, -1) for n, t in bare.items() if ".grn." in n}})
    assert found.info.classes == ()
    assert len(found.tensors) == len(own)
    assert found.tensors["norm.weight"].eq(1).all()
    assert found.tensors["norm.bias"].eq(0).all()
    assert all(torch.equal(found.tensors[name], own[name]) for name in bare)
