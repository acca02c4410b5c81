"""Weights in, weights out for the tools that people use, bit by bit."""

import resource
import warnings

import pytest
import timm
import torch
from safetensors import safe_open
from small_run import SMALL, SMALL_CLASSIFIER
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

import convnextv2
from convnextv2.errors import LoadError, UserError
from convnextv2.models import create_model
from convnextv2.verbs.convert import convert
from convnextv2.weights.foreign import tensors_of
from convnextv2.weights.load import read
from convnextv2.weights.model_file import read_model_file

ENDINGS = {"official": "out.pt", "timm": "out.safetensors", "transformers": "out", "mmpretrain": "out.pth"}
ENDINGS |= {"convnextv2": "own.safetensors", "minkowski": "sparse.pt"}


def random_file(path, name="convnextv2_atto", **options):
    """An official file with random weights everywhere."""
    model = create_model(name, num_classes=10, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.1, 0.2)
    torch.save({"model": model.state_dict()}, path)
    return model


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "model.pt"
    return path, random_file(path)


@pytest.fixture(scope="module")
def run(picture_folder, tmp_path_factory):
    settings = SMALL_CLASSIFIER | {"stem_stride": 4, "image_size": 64}
    return convnextv2.classify(picture_folder, tmp_path_factory.mktemp("run") / "run", **settings, epochs=1).run


@pytest.mark.parametrize("name", ["convnextv2_atto", "convnext_atto"])
@pytest.mark.parametrize("to", [to for to in ENDINGS if to != "minkowski"])
def test_there_and_back_is_bitwise(to, name, tmp_path):
    random_file(tmp_path / "model.pt", name)
    convert(tmp_path / "model.pt", to, tmp_path / ENDINGS[to])
    convert(tmp_path / ENDINGS[to], "official", tmp_path / "back.pt")
    before, after = (tensors_of(tmp_path / file)[0] for file in ("model.pt", "back.pt"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("to", ["official", "mmpretrain", "minkowski"])
def test_the_same_weights_give_the_same_file(to, tmp_path):
    random_file(tmp_path / "model.pt")
    written = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # minkowski has no head
            convert(tmp_path / "model.pt", to, tmp_path / folder / ENDINGS[to])
        written.append((tmp_path / folder / ENDINGS[to]).read_bytes())
    assert written[0] == written[1]


def test_minkowski_and_back_keeps_the_encoder_bitwise(official, tmp_path):
    path, model = official
    with pytest.warns(UserWarning, match=r"head and final norm of model.pt are left out: minkowski has no place"):
        convert(path, "minkowski", tmp_path / "sparse.pt")
    convert(tmp_path / "sparse.pt", "official", tmp_path / "back.pt")
    after = tensors_of(tmp_path / "back.pt")[0]
    for key, tensor in model.state_dict().items():
        if not key.startswith(("norm.", "head.")):
            assert torch.equal(after[key], tensor)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_timm_loads_its_file(ending, official, tmp_path):
    path, model = official
    file = convert(path, "timm", tmp_path / f"model{ending}")[0]
    peer = timm.create_model("convnextv2_atto", num_classes=10, checkpoint_path=str(file)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(peer(images), model(images), rtol=0, atol=1e-5 * model(images).abs().max().item())


def test_transformers_loads_its_folder(official, tmp_path):
    path, model = official
    convert(path, "transformers", tmp_path / "folder")
    peer, info = AutoModelForImageClassification.from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found, expected = peer.eval()(images).logits, model(images)
        assert torch.allclose(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_a_classifier_keeps_its_classes_and_its_preprocessing_in_transformers(run, tmp_path):
    convert(run, "transformers", tmp_path / "folder")
    peer = AutoModelForImageClassification.from_pretrained(tmp_path / "folder").eval()
    assert peer.config.id2label == {0: "cats", 1: "dogs"}
    processor = AutoImageProcessor.from_pretrained(tmp_path / "folder")
    assert processor.size["shortest_edge"] == 64
    loaded = convnextv2.load(tmp_path / "folder")
    own = convnextv2.load(run)
    assert (loaded.classes, loaded.image_size) == (own.classes, own.image_size) == (("cats", "dogs"), 64)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(images), own.model(images))
        assert torch.allclose(peer(images).logits, own.model(images), rtol=0, atol=1e-5)


def test_an_encoder_alone_becomes_a_model_without_a_head(tmp_path):
    model = create_model("convnextv2_atto", num_classes=0).eval()
    torch.save(model.state_dict(), tmp_path / "encoder.pt")
    convert(tmp_path / "encoder.pt", "transformers", tmp_path / "folder")
    peer, info = AutoModel.from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        assert torch.allclose(peer.eval()(images).pooler_output, expected, rtol=0, atol=1e-5)
    file = convert(tmp_path / "encoder.pt", "timm", tmp_path / "encoder.safetensors")[0]
    timm.create_model("convnextv2_atto", num_classes=0, checkpoint_path=str(file))


def test_the_licence_goes_along(official, tmp_path):
    path, _ = official
    file = path.with_name("convnextv2_atto_1k_224_ema.pt")
    torch.save({"model": create_model("convnextv2_atto").state_dict()}, file)
    with pytest.warns(UserWarning, match=r"under CC-BY-NC-4.0: not for commercial use"):
        convert(file, "timm", tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as opened:
        assert opened.metadata()["licence"] == "CC-BY-NC-4.0"
    with pytest.warns(UserWarning, match=r"not for commercial use"):
        convert(file, "convnextv2", tmp_path / "b.safetensors")
    info = read_model_file(tmp_path / "b.safetensors").info
    assert (info.licence, info.published) == ("CC-BY-NC-4.0", "convnextv2_atto.fcmae_ft_in1k")
    assert info.trained_from is None  # a conversion is no training
    with pytest.warns(UserWarning, match=r"not for commercial use"):
        found = convnextv2.load(file)
    assert (found.image_size, found.crop_pct, found.classes[0], len(set(found.classes))) == (224, 0.875, "tench", 1000)


@pytest.mark.parametrize(
    ("to", "out", "message"),
    [
        ("transformers", "model.safetensors", r"transformers is written to a folder, whose name has no such ending"),
        ("flax", "model.safetensors", r"^to='flax': give convnextv2, official, minkowski, timm, "),
        ("official", "model.safetensors", r"official is written to a name that ends in .pt or .pth"),
        ("timm", "model", r"timm is written to a name that ends in .safetensors"),
        ("timm", "there.pt", r"there.pt exists: name a new out"),
    ],
)
def test_a_wrong_target_is_refused(to, out, message, official, tmp_path):
    (tmp_path / "there.pt").write_text("")
    with pytest.raises(UserError, match=message):
        convert(official[0], to, tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.pt"]


def test_a_folder_may_have_a_dot_in_its_name(official, tmp_path):
    convert(official[0], "transformers", tmp_path / "model-1.0")
    assert convnextv2.load(tmp_path / "model-1.0").layout == "transformers"


def test_a_decoder_goes_along_where_there_is_a_place_for_it(picture_folder, tmp_path):
    run = convnextv2.pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=1).run
    own = read_model_file(run)
    for to, out in (("convnextv2", "own.safetensors"), ("minkowski", "sparse.pt")):
        convert(run, to, tmp_path / out)
        found = read(tmp_path / out)
        assert found.info.kind == "fcmae"
        kept = [name for name in own.tensors if to == "convnextv2" or not name.startswith("encoder.norm.")]
        assert all(torch.equal(found.tensors[name], own.tensors[name]) for name in kept)
    assert convnextv2.load_pretrained(tmp_path / "own.safetensors").model.cell == 8
    assert read_model_file(tmp_path / "own.safetensors").info.trained_on == picture_folder.name
    with pytest.warns(UserWarning, match=r"the decoder of model.safetensors is left out: timm has no place for it"):
        convert(run, "timm", tmp_path / "timm.safetensors")
    assert read(tmp_path / "timm.safetensors").info.kind == "encoder"


@pytest.mark.parametrize(("to", "out"), [pair for pair in ENDINGS.items() if pair[0] != "minkowski"])
def test_a_disk_without_room_is_said_in_one_line_and_nothing_is_left(to, out, official, tmp_path, command):
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))

    (tmp_path / "there").mkdir()
    done = command("convert", official[0], "--to", to, "--out", tmp_path / "there" / out, preexec_fn=little_room)
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list((tmp_path / "there").iterdir()) == []


def test_made_up_names_are_nobodys_classes(picture_folder, tmp_path):
    """A head without names must not pass for one of folders that are called 0 to 9."""
    for number, folder in enumerate(("dogs", "cats")):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / str(number)).symlink_to(picture_folder / folder)
    torch.save(create_model("convnextv2_atto", num_classes=2).state_dict(), tmp_path / "model.pt")
    settings = {"epochs": 1, "batch_size": 8, "workers": 0, "precision": "fp32", "image_size": 32}
    run = convnextv2.classify(tmp_path / "data", tmp_path / "run", init=tmp_path / "model.pt", **settings).run
    assert "its head of 2 classes is left out; a new head for 2 classes" in (run / "log.txt").read_text()


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
def test_one_wrong_tensor_is_named_and_nothing_is_written(change, official, tmp_path):
    tensors = dict(official[1].state_dict())
    name = "stages.2.3.pwconv1.bias"
    if change == "missing":
        del tensors[name]
    elif change == "unexpected":
        name = "stages.2.3.pwconv3.bias"
        tensors[name] = torch.zeros(3)
    else:
        tensors[name] = torch.zeros(7)
    torch.save(tensors, tmp_path / "model.pt")
    with pytest.raises(LoadError, match=rf"does not fill the model: {change}: {name}") as caught:
        convert(tmp_path / "model.pt", "timm", tmp_path / "out.safetensors")
    assert all(other not in str(caught.value) for other in {"missing", "unexpected", "of another shape"} - {change})
    assert not (tmp_path / "out.safetensors").exists()


def test_the_command_writes_and_prints(official, tmp_path, command):
    done = command("convert", official[0], "--to", "timm", "--out", tmp_path / "model.safetensors")
    file, code = done.stdout.splitlines()
    assert (done.returncode, file) == (0, str(tmp_path / "model.safetensors"))
    assert (
        code == f"import timm; model = timm.create_model('convnextv2_atto', num_classes=10, checkpoint_path='{file}')"
    )
    done = command("convert", tmp_path / "nothing.pt", "--to", "timm", "--out", tmp_path / "other.safetensors")
    assert done.returncode == 2
    assert "no run and no file at" in done.stderr


def test_the_zoo_is_listed(command, tmp_path):
    done = command("zoo")
    assert done.returncode == 0
    assert "convnextv2_huge.fcmae_ft_in22k_in1k_512" in done.stdout
    assert "CC-BY-NC-4.0" in done.stdout
