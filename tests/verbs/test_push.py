"""A model for the hub: what is sent, what must be said first, and what a dry run shows."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from mean_colour.run import build
from PIL import Image
from small_run import SMALL, SMALL_CLASSIFIER, same

import convnextv2
from convnextv2.errors import RunFailedError, UserError
from convnextv2.models import create_model
from convnextv2.models.config import EncoderConfig
from convnextv2.records import Preprocessing
from convnextv2.verbs.push import push
from convnextv2.weights.files import save_tensors
from convnextv2.weights.load import read
from convnextv2.weights.model_file import ModelInfo, write_encoder


@pytest.fixture(scope="module")
def run(picture_folder, tmp_path_factory):
    return convnextv2.classify(picture_folder, tmp_path_factory.mktemp("run") / "run", **SMALL_CLASSIFIER, epochs=1).run


class Hub:
    """Stands in for the hub: keeps what it is sent in a folder."""

    kept = Path()
    refuses = False

    def create_repo(self, repository, *, private, exist_ok):
        assert exist_ok
        self.private = private
        return f"https://hub.example/{repository}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        if Hub.refuses:
            raise ConnectionError("401 Client Error\nnot logged in")
        for path in folder_path.iterdir():
            (Hub.kept / path.name).write_bytes(path.read_bytes())


@pytest.fixture
def hub(monkeypatch, tmp_path):
    Hub.kept, Hub.refuses = tmp_path / "kept", False
    Hub.kept.mkdir()
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return Hub


def test_what_is_sent_loads_again(run, hub):
    done = push(run, "someone/cats", licence="apache-2.0")
    assert done.address == "https://hub.example/someone/cats"
    assert set(done.files) == {"README.md", "config.json", "model.safetensors"}
    config = json.loads((hub.kept / "config.json").read_text())
    assert config["classes"] == ["cats", "dogs"]
    assert config["licence"] == "apache-2.0"
    assert "top1" in config["scores"]["val"]["average"]
    loaded, own = convnextv2.load(hub.kept), convnextv2.load(run)
    assert (loaded.classes, loaded.licence, loaded.image_size) == (own.classes, "apache-2.0", own.image_size)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.model(images), own.model(images))


def test_the_card_says_what_it_is(run):
    card = push(run, "someone/cats", licence="Apache-2.0", dry_run=True).card
    head, _, body = card.removeprefix("---\n").partition("---\n")
    assert "license: apache-2.0\nlibrary_name: convnextv2\npipeline_tag: image-classification\n" in head
    assert 'predictor = convnextv2.load("hf:someone/cats").predictor()\n' in body
    assert "logits = predictor(image[None])  # (1, 2)\n" in body
    assert "trained to classify 2 classes." in body
    assert "- fcmae" not in head
    assert "| images | weights | top-1 |" in body
    assert "| val | average | " in body
    assert body.rstrip().endswith("cats, dogs")
    assert huggingface_hub.ModelCard(card).data.license == "apache-2.0"


def test_the_card_says_what_came_before(picture_folder, tmp_path):
    first = convnextv2.pretrain(picture_folder, tmp_path / "first", **SMALL, epochs=1).run
    run = convnextv2.classify(
        picture_folder, tmp_path / "run", init=first, epochs=1, batch_size=8, workers=0, precision="fp32"
    ).run
    card = push(run, "someone/cats", licence="mit", dry_run=True).card
    assert f"| before that | masked pre-training on {picture_folder.name} |" in card
    assert "tags:\n- convnextv2\n- fcmae\n---" in card
    pushed = push(first, "someone/blobs", licence="mit", dry_run=True).card
    assert ", a masked autoencoder with its decoder." in pushed
    assert "tags:\n- convnextv2\n- fcmae\n---" in pushed
    assert "pipeline_tag: image-feature-extraction\n" in pushed
    assert ".predictor()  # its encoder\n" in pushed
    assert "features = predictor.pooled_features(image[None])  # (1, 16)\n" in pushed
    assert "logits" not in pushed


def test_a_model_of_a_task_from_outside(hub, tmp_path):
    architecture = EncoderConfig.named("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), stem_stride=1)
    info = ModelInfo(
        kind="mean-colour",
        architecture=architecture,
        preprocessing=Preprocessing.for_channels(3),
        image_size=32,
        options={"hidden": 8},
    )
    save_tensors(tmp_path / "model.safetensors", build(info).state_dict(), info.to_metadata())
    card = push(tmp_path, to="someone/colours", licence="mit").card
    assert "for images of 32 pixels, a model of kind mean-colour.\n" in card
    assert "- fcmae" not in card
    assert "pipeline_tag" not in card
    assert "logits" not in card
    assert same(read(hub.kept).tensors, read(tmp_path).tensors)
    code = card.partition("```python\n")[2].partition("```")[0]
    Image.new("RGB", (40, 40), (200, 30, 90)).save(tmp_path / "image.jpg")
    code = code.replace("hf:someone/colours", str(hub.kept)).replace("image.jpg", str(tmp_path / "image.jpg"))
    said = {}
    exec(code, said)  # it does what it says
    assert len(said["prediction"].colour) == 3
    assert said["features"].shape == (1, 16)


def test_the_snippet_of_every_card_runs(run, hub, tmp_path):
    Image.new("RGB", (40, 40), (200, 30, 90)).save(tmp_path / "image.jpg")
    write_encoder(run, tmp_path / "encoder.safetensors")
    for source, name, shape in ((run, "logits", (1, 2)), (tmp_path / "encoder.safetensors", "features", (1, 16))):
        card = push(source, "someone/cats", licence="mit").card
        code = card.partition("```python\n")[2].partition("```")[0]
        code = code.replace("hf:someone/cats", str(hub.kept)).replace("image.jpg", str(tmp_path / "image.jpg"))
        said = {}
        exec(code, said)
        assert said[name].shape == shape


def test_a_dry_run_sends_nothing(run, hub, command):
    done = push(run, "someone/cats", licence="mit", dry_run=True)
    assert done.address == ""
    assert not list(hub.kept.iterdir())
    shown = command("push", run, "--to", "someone/cats", "--license", "mit", "--dry-run")
    assert shown.returncode == 0
    assert "nothing was sent to someone/cats" in shown.stdout
    assert "license: mit" in shown.stdout


def test_a_licence_must_be_said_and_cannot_be_changed(run, tmp_path):
    with pytest.raises(UserError, match=r"licence='apache-2.0', cc-by-nc-4.0"):
        push(run, "someone/cats", dry_run=True)
    with pytest.raises(UserError, match=r"give an identifier"):
        push(run, "someone/cats", licence="all rights: mine", dry_run=True)
    published = tmp_path / "convnextv2_atto_1k_224_fcmae.pt"
    torch.save({"model": create_model("convnextv2_atto", num_classes=0).state_dict()}, published)
    with pytest.warns(UserWarning, match="not for commercial use"):
        card = push(published, "someone/atto", dry_run=True).card
    assert "license: cc-by-nc-4.0" in card
    with (
        pytest.warns(UserWarning, match="commercial"),
        pytest.raises(UserError, match=r"made from some under CC-BY-NC-4.0: give"),
    ):
        push(published, "someone/atto", licence="apache-2.0", dry_run=True)


def test_a_refusal_is_one_line(run, hub):
    Hub.refuses = True
    with pytest.raises(RunFailedError, match=r"did not take someone/cats: 401 Client Error not logged in; log in with"):
        push(run, "someone/cats", licence="mit")


@pytest.mark.parametrize("name", ["cats", "someone/cats/dogs", "https://hub.example/a/b", ""])
def test_a_wrong_name_is_refused(name, run):
    with pytest.raises(UserError, match=r"give OWNER/NAME"):
        push(run, name, licence="mit", dry_run=True)


@pytest.mark.parametrize(
    ("history", "said"), [(None, "not recorded"), ((), "random weights")], ids=["unknown", "from scratch"]
)
def test_the_card_says_what_is_known_of_the_past(tmp_path, history, said):
    shape = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "stem_stride": 1, "in_chans": 1}
    info = ModelInfo(
        kind="encoder",
        architecture=EncoderConfig.named("convnextv2_atto", **shape),
        preprocessing=Preprocessing.for_channels(1),
        image_size=32,
        trained_from=history,
    )
    encoder = create_model("convnextv2_atto", num_classes=0, **shape)
    save_tensors(tmp_path / "model.safetensors", encoder.state_dict(), info.to_metadata())
    card = push(tmp_path, to="someone/encoder", licence="mit", dry_run=True).card
    assert f"| before that | {said} |" in card
    assert "| input | 1 channel, " in card
