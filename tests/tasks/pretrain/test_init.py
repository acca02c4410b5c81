"""Pre-training that goes on from weights that exist."""

import json
import shutil

import pytest
import torch
from small_run import SMALL, same, saved_weights

from convnextv2 import classify, load_pretrained, pretrain
from convnextv2.errors import UserError
from convnextv2.records import Preprocessing
from convnextv2.weights.files import load_tensors, save_tensors
from convnextv2.weights.foreign import UNKNOWN_LICENCE
from convnextv2.weights.model_file import read_model_file

SETTINGS = {name: SMALL[name] for name in ("batch_size", "precision", "workers", "pictures")}


@pytest.fixture(scope="module")
def run(picture_folder, tmp_path_factory):
    return pretrain(picture_folder, tmp_path_factory.mktemp("first") / "run", **SMALL, epochs=1).run


@pytest.fixture(scope="module")
def official(run, tmp_path_factory):
    """The encoder alone, as the official repository publishes it: no final norm, GRN of two axes, a pickle."""
    file = tmp_path_factory.mktemp("official") / "encoder.pt"
    encoder = read_model_file(run).encoder()
    kept = {name: tensor for name, tensor in encoder.items() if not name.startswith("norm.")}
    torch.save({"model": {n: t.reshape(1, -1) if ".grn." in n else t for n, t in kept.items()}}, file)
    return file


def start(picture_folder, out, **settings):
    """A run whose steps are too small to be seen, so that it ends with what it began with."""
    return pretrain(picture_folder, out, epochs=1, lr=1e-30, weight_decay=0.0, **SETTINGS, **settings)


def unmoved(a, b):
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], rtol=0, atol=1e-20) for name in a)


def test_it_begins_with_encoder_and_decoder_of_a_run(picture_folder, run, tmp_path):
    again = start(picture_folder, tmp_path / "run", init=run).run
    assert f"encoder and decoder from {read_model_file(run).path}" in (again / "log.txt").read_text()
    assert unmoved(saved_weights(again), saved_weights(run))
    info = read_model_file(again).info
    assert [step.trained_on for step in info.trained_from] == [picture_folder.name]
    assert info.options["decoder_dim"] == 16


def test_it_begins_with_an_encoder_alone(picture_folder, run, official, tmp_path):
    again = start(picture_folder, tmp_path / "run", init=official, image_size=32, decoder_dim=24).run
    assert "a new decoder" in (again / "log.txt").read_text()
    before, after = saved_weights(run), saved_weights(again)
    encoder = [name for name in before if name.startswith("encoder.") and not name.startswith("encoder.norm.")]
    assert len(encoder) > 50
    assert unmoved({name: after[name] for name in encoder}, {name: before[name] for name in encoder})
    found = read_model_file(again)
    assert found.info.licence == UNKNOWN_LICENCE
    assert found.info.architecture.dims == (8, 8, 16, 16)
    assert load_pretrained(again).model.proj.out_channels == 24


def test_a_classifier_gives_its_encoder(picture_folder, run, tmp_path):
    trained = classify(picture_folder, tmp_path / "classifier", init=run, epochs=1, batch_size=8, workers=0).run
    again = start(picture_folder, tmp_path / "run", init=trained).run
    expected, found = read_model_file(trained).encoder(), read_model_file(again).encoder()
    assert unmoved(found, {name: tensor for name, tensor in expected.items() if not name.startswith("head.")})


def test_another_stem_is_adapted(picture_folder, run, tmp_path):
    again = start(picture_folder, tmp_path / "run", init=run, stem_stride=2, image_size=64, in_chans=1).run
    log = (again / "log.txt").read_text()
    assert "its decoder is of another shape and left out" in log
    assert "stem inflated from 3 channels to 1 (repeat); stem resampled from stride 1 to 2" in log


def test_pictures_become_input_as_the_weights_are_used_to(picture_folder, run, tmp_path):
    """Also where a run goes on that began with them."""
    tensors, metadata = load_tensors(read_model_file(run).path)
    metadata["preprocessing"] = json.dumps({"mean": [0.1] * 3, "std": [0.9] * 3})
    save_tensors(tmp_path / "other.safetensors", tensors, metadata)
    first = start(picture_folder, tmp_path / "first", init=tmp_path / "other.safetensors", checkpoint_every=1).run
    assert read_model_file(first).info.preprocessing == Preprocessing((0.1,) * 3, (0.9,) * 3)
    plain = start(picture_folder, tmp_path / "plain", init=run).run
    losses = [json.loads((each / "metrics.jsonl").read_text().splitlines()[0])["loss"] for each in (first, plain)]
    assert losses[0] != losses[1]
    latest = first / "checkpoints" / "latest"
    latest.write_text(sorted(path.name for path in latest.parent.iterdir() if path.is_dir())[0])
    whole = saved_weights(first)
    pretrain(picture_folder, first, resume=True)
    assert same(saved_weights(first), whole)
    assert read_model_file(first).info.preprocessing == Preprocessing((0.1,) * 3, (0.9,) * 3)


def test_it_goes_on_after_a_stop_bit_by_bit(picture_folder, official, tmp_path):
    settings = {"init": official, "image_size": 32, "decoder_dim": 16, "checkpoint_every": 1, **SETTINGS}
    whole = pretrain(picture_folder, tmp_path / "whole", epochs=2, **settings).run
    part = tmp_path / "part"
    pretrain(picture_folder, part, epochs=2, **settings)
    latest = part / "checkpoints" / "latest"
    earlier = sorted(path.name for path in latest.parent.iterdir() if path.is_dir())[0]
    latest.write_text(earlier)
    pretrain(picture_folder, part, resume=True)
    assert same(saved_weights(part), saved_weights(whole))
    assert read_model_file(part).info.trained_from == read_model_file(whole).info.trained_from


def test_a_run_that_saved_nothing_begins_again_with_the_same_weights_only(picture_folder, official, tmp_path):
    out, file = tmp_path / "run", tmp_path / "encoder.pt"
    file.write_bytes(official.read_bytes())
    start(picture_folder, out, init=file, image_size=32, decoder_dim=16)
    shutil.rmtree(out / "checkpoints")
    content = torch.load(file)
    torch.save({"model": {name: tensor + 1 for name, tensor in content["model"].items()}}, file)
    with pytest.raises(UserError, match=r"resume: .*encoder.pt is not what the run began with"):
        pretrain(picture_folder, out, resume=True)
    file.write_bytes(official.read_bytes())
    pretrain(picture_folder, out, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "convnextv2_tiny"}, r"dims 8/8/16/16 there, 96/192/384/768 asked for. Leave out model"),
        ({"image_size": 44}, r"image_size=44 does not fit the mask patch of 8 pixels .* use image_size=48"),
        ({"init": "nothing"}, r"no run and no file at nothing"),
        ({"init": "convnextv2_atto.fcmea"}, r"no published weights are called .* did you mean convnextv2_atto.fcmae"),
        ({"init": "hf:nowhere"}, r"hf:nowhere is not a repository of the hub: give hf:OWNER/NAME"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message, picture_folder, run, tmp_path):
    with pytest.raises(UserError, match=message):
        start(picture_folder, tmp_path / "run", **{"init": run, **settings})
