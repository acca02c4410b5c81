"""Files that runs write, read again whatever the task."""

import pytest
import torch
from small_run import SMALL, SMALL_CLASSIFIER

from convnextv2 import classify, pretrain
from convnextv2.checkpoints.files import save_tensors
from convnextv2.checkpoints.own import ENCODER, find_weights, read_own, write_encoder
from convnextv2.errors import LoadError, UserError


@pytest.fixture(scope="module")
def runs(picture_folder, tmp_path_factory):
    """A pre-training and a classifier of the same shape."""
    folder = tmp_path_factory.mktemp("runs")
    one = pretrain(picture_folder, folder / "pretrained", **SMALL, epochs=1).run
    return {"pretrained": one, "classifier": classify(picture_folder, folder / "run", **SMALL_CLASSIFIER, epochs=2).run}


@pytest.mark.parametrize("kind", ["pretrained", "classifier"])
@pytest.mark.parametrize("half", [True, False])
def test_an_encoder_alone_starts_a_classifier(picture_folder, tmp_path, runs, kind, half):
    whole = read_own(runs[kind])
    written = write_encoder(runs[kind], tmp_path / "encoder.safetensors", half=half)
    assert written.format == ENCODER
    assert (written.architecture, written.image_size) == (whole.architecture, whole.image_size)
    expected = {name: tensor for name, tensor in whole.encoder().items() if not name.startswith("head.")}
    assert written.encoder().keys() == expected.keys()
    for name, tensor in written.encoder().items():
        assert torch.equal(tensor, expected[name].half() if half else expected[name])
    run = classify(picture_folder, tmp_path / "run", init=written.file, batch_size=8, epochs=1).run
    assert "a new head for 2 classes" in (run / "log.txt").read_text()


def test_the_best_is_taken_where_there_is_one(runs):
    run = runs["classifier"]
    assert find_weights(run).parent.name == (run / "checkpoints" / "best").read_text()
    assert find_weights(run, "latest").parent.name == (run / "checkpoints" / "latest").read_text()
    assert find_weights(run / "checkpoints" / "step-00000008").name == "model.safetensors"
    assert find_weights(runs["pretrained"]).parent.name == "step-00000005"
    with pytest.raises(UserError, match="has no best checkpoint"):
        find_weights(runs["pretrained"], "best")


def test_what_no_run_wrote_is_refused(tmp_path):
    save_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)}, {"format": "something"})
    with pytest.raises(LoadError, match="its format is something"):
        read_own(tmp_path / "other.safetensors")
    save_tensors(tmp_path / "old.safetensors", {"x": torch.zeros(1)}, {"format": ENCODER})
    with pytest.raises(LoadError, match=r"does not say what it holds \('encoder'\)"):
        read_own(tmp_path / "old.safetensors")
