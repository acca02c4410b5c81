"""Files that runs write, read again whatever the task."""

import json

import pytest
import torch
from small_run import SMALL, SMALL_CLASSIFIER

from convnextv2 import classify, load, load_pretrained, pretrain
from convnextv2.errors import LoadError, UserError
from convnextv2.tasks.classify.load import load_classifier
from convnextv2.weights.files import load_tensors, save_tensors
from convnextv2.weights.load import read
from convnextv2.weights.model_file import find_weights, read_model_file, write_encoder


@pytest.fixture(scope="module")
def runs(picture_folder, tmp_path_factory):
    """A pre-training and a classifier of the same shape."""
    folder = tmp_path_factory.mktemp("runs")
    one = pretrain(picture_folder, folder / "pretrained", **SMALL, epochs=1).run
    return {"pretrained": one, "classifier": classify(picture_folder, folder / "run", **SMALL_CLASSIFIER, epochs=2).run}


@pytest.mark.parametrize("kind", ["pretrained", "classifier"])
@pytest.mark.parametrize("half", [True, False])
def test_an_encoder_alone_starts_a_classifier(picture_folder, tmp_path, runs, kind, half):
    whole = read_model_file(runs[kind])
    written = write_encoder(runs[kind], tmp_path / "encoder.safetensors", half=half)
    assert written.info.kind == "encoder"
    assert (written.info.architecture, written.info.image_size) == (whole.info.architecture, whole.info.image_size)
    expected = {name: tensor for name, tensor in whole.encoder().items() if not name.startswith("head.")}
    assert written.encoder().keys() == expected.keys()
    for name, tensor in written.encoder().items():
        assert torch.equal(tensor, expected[name].half() if half else expected[name])
    run = classify(picture_folder, tmp_path / "run", init=written.path, batch_size=8, epochs=1).run
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
        read_model_file(tmp_path / "other.safetensors")
    save_tensors(tmp_path / "old.safetensors", {"x": torch.zeros(1)}, {"format": "convnextv2.encoder.1"})
    with pytest.raises(LoadError, match=r"does not say what it holds \('preprocessing'\)"):
        read_model_file(tmp_path / "old.safetensors")


@pytest.mark.parametrize("kind", ["pretrained", "classifier"])
@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
@pytest.mark.parametrize("use", [read, load, load_pretrained, load_classifier])
def test_a_file_with_a_hash_but_other_tensors_is_refused_in_one_line(kind, change, use, runs, tmp_path):
    """A hash tells of damage, not of a program that wrote something else."""
    tensors, metadata = load_tensors(find_weights(runs[kind]))
    name = {"pretrained": "decoder.0.pwconv1.bias", "classifier": "ema/stages.0.0.pwconv1.bias"}[kind]
    changed = {name: torch.zeros(7)} if change == "of another shape" else {f"{name}s": torch.zeros(7)}
    tensors |= {} if change == "missing" else changed
    if change == "missing":
        del tensors[name]
    save_tensors(tmp_path / "changed.safetensors", tensors, metadata)
    with pytest.raises(LoadError, match=rf"does not fill the model: {change}: {name.removeprefix('ema/')}") as caught:
        use(tmp_path / "changed.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"encoder": "[" * 100_000},
        {"encoder": '{"model": "convnextv2_atto"}'},
        {"encoder": "[]"},
        {"image_size": "large"},
        {"preprocessing": "[0.5]"},
        {"classes": "7"},
        {"fcmae": "{}"},
        {"depths": [10**9] * 4},
        {"dims": [8, 8]},
        {"in_chans": 0},
        {"model": None},
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused_in_one_line(values, runs, tmp_path):
    tensors, metadata = load_tensors(find_weights(runs["pretrained"]))
    encoder = json.loads(metadata["encoder"])
    if values.keys() <= encoder.keys():
        values = {"encoder": json.dumps(encoder | values)}
    metadata |= values
    save_tensors(tmp_path / "changed.safetensors", tensors, metadata)
    with pytest.raises(LoadError, match=r"does not say what it holds \(.+\): it is of another version") as caught:
        read(tmp_path / "changed.safetensors")
    assert len(str(caught.value)) < 600
