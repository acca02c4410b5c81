"""What a source names: one rule for reading it and for asking of what kind it is."""

from pathlib import Path

import pytest
import torch
from mean_colour.run import build

from convnextv2.errors import UserError
from convnextv2.models import create_model
from convnextv2.models.config import EncoderConfig
from convnextv2.models.sizes import SIZES
from convnextv2.records import Preprocessing
from convnextv2.weights import load as room
from convnextv2.weights.files import save_tensors
from convnextv2.weights.load import kind_of, read
from convnextv2.weights.model_file import ModelInfo


@pytest.fixture
def pushed(tmp_path):
    """A folder as `push` sends it, of a task that the package does not know."""
    info = ModelInfo(
        kind="mean-colour",
        architecture=EncoderConfig.named("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
        preprocessing=Preprocessing.for_channels(3),
        image_size=32,
        options={"hidden": 8},
    )
    save_tensors(tmp_path / "model.safetensors", build(info).state_dict(), info.to_metadata())
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_pushed_model_is_of_its_own_kind_in_its_folder_and_on_the_hub(pushed, monkeypatch):
    monkeypatch.setattr(room.hub, "fetch_folder", lambda source: pushed)
    for source in (pushed, pushed / "model.safetensors", "hf:someone/colours"):
        assert kind_of(source) == read(source).info.kind == "mean-colour"


def test_a_file_of_others_is_taken_for_a_classifier_without_reading_it(tmp_path, monkeypatch):
    torch.save(create_model("convnextv2_atto", num_classes=0).state_dict(), tmp_path / "a.pth")
    assert kind_of(tmp_path / "a.pth") == "classifier"
    monkeypatch.setattr(room, "fetch", None)  # published weights are not fetched for that
    assert kind_of("convnextv2_atto.fcmae_ft_in1k") == "classifier"


@pytest.mark.parametrize("ask", [kind_of, read])
def test_a_source_that_is_none_says_what_to_type(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run and no file at absent; name the out folder of a run, or a file of"):
        ask("absent")
    Path("run", "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no run and no file at run/model\.safetensors; run is a run: name that"):
        ask("run/model.safetensors")
    with pytest.raises(UserError, match=r"no published weights are called 'convnextv2_tiny\.fcma'; did you mean"):
        ask("convnextv2_tiny.fcma")
    with pytest.raises(UserError) as caught:
        ask("convnextv2_tiny")
    assert str(caught.value) == (
        "convnextv2_tiny names a size and not its weights: give one of convnextv2_tiny.fcmae, "
        "convnextv2_tiny.fcmae_ft_in1k, convnextv2_tiny.fcmae_ft_in22k_in1k, convnextv2_tiny.fcmae_ft_in22k_in1k_384"
    )
    with pytest.raises(UserError, match=r"^convnext_atto names a size, and no weights of it are published: `convnext"):
        ask("convnext_atto")
    for size in SIZES:
        with pytest.raises(UserError, match="names a size"):
            ask(size)
