"""A task from outside, with nothing in the package changed: trained, resumed, evaluated, predicted with, reported."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from mean_colour.run import MeanColourTask, mean_colour
from PIL import Image
from small_run import run_losses, same, saved_weights

import convnextv2
from convnextv2.errors import LoadError, StoppedError, UserError
from convnextv2.weights.load import read

SMALL = {
    "model": "convnextv2_atto",
    "depths": (1, 1, 1, 1),
    "dims": (8, 8, 16, 16),
    "stem_stride": 1,
    "image_size": 32,
    "precision": "fp32",
    "workers": 1,
}


@pytest.fixture(scope="module")
def run(picture_folder, tmp_path_factory):
    """A run of 20 steps that nothing disturbs."""
    return mean_colour(picture_folder, tmp_path_factory.mktemp("run") / "whole", **SMALL, epochs=4).run


def test_it_learns(picture_folder, tmp_path):
    found = list(run_losses(mean_colour(picture_folder, tmp_path / "run", **SMALL, epochs=30, lr=3e-3).run).values())
    assert sum(found[-10:]) < 0.6 * sum(found[:10])


def test_stopped_inside_an_epoch_and_resumed_is_bitwise_the_same(run, picture_folder, tmp_path, monkeypatch):
    other, step = tmp_path / "run", MeanColourTask.step

    def interrupt(self, model, batch):
        log = other / "metrics.jsonl"
        if log.exists() and log.read_text().count('"train"') == 6:  # in the seventh step
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MeanColourTask, "step", interrupt)
        with pytest.raises(StoppedError, match="step-00000007"):
            mean_colour(picture_folder, other, **SMALL, epochs=4)
    mean_colour(out=other, resume=True)
    assert same(saved_weights(other), saved_weights(run))
    assert run_losses(other) == run_losses(run)


def test_resumed_without_the_cache_is_bitwise_the_same_for_large_jpegs(tmp_path):
    """A large JPEG is decoded at a fraction of its size, with the cache and without."""
    (tmp_path / "jpegs").mkdir()
    for number in range(16):
        noise = torch.randint(0, 256, (400, 400, 3), generator=torch.Generator().manual_seed(number))
        Image.fromarray(noise.numpy().astype("uint8")).save(tmp_path / "jpegs" / f"{number:02}.jpg")
    runs = {
        cache: mean_colour(tmp_path / "jpegs", tmp_path / str(cache), **SMALL, epochs=2, cache=cache).run
        for cache in (True, False)
    }
    assert "images are kept in memory once they are decoded" in (runs[True] / "log.txt").read_text()
    assert same(saved_weights(runs[True]), saved_weights(runs[False]))


def test_an_unreadable_image_has_its_own_answer(run, picture_folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = next(picture_folder.rglob("*.png"))
    first, second = convnextv2.predict(run, [tmp_path / "bad.png", good])
    assert (first.colour, first.path) == ((), str(tmp_path / "bad.png"))
    assert "not an image" in first.error
    assert len(second.colour) == 3
    with pytest.raises(UserError, match="predict has no setting 'colour'"):
        convnextv2.predict(run, good, colour="red")


def test_it_is_evaluated_and_predicted_with_by_the_public_verbs(run, picture_folder, tmp_path):
    assert 0 < convnextv2.evaluate(run, picture_folder)["mae"] < 0.5
    Image.new("RGB", (40, 40), (200, 30, 90)).save(tmp_path / "plain.png")
    (found,) = convnextv2.predict(run, tmp_path / "plain.png")
    assert found.path == str(tmp_path / "plain.png")
    assert len(found.colour) == 3
    assert all(0 <= value <= 1 for value in found.colour)
    few, many = (
        torch.tensor([each.colour for each in convnextv2.predict(run, picture_folder, batch_size=size)])
        for size in (3, 64)
    )
    torch.testing.assert_close(few, many, rtol=0, atol=1e-5)


def test_its_page_says_what_the_task_says(run):
    page = (run / "report.html").read_text()
    assert "The mean colour by convnextv2_atto" in page
    assert "The colour predicted for the first image." in page
    assert "One is the very colour." in page
    assert "Best validation Closeness" in page
    assert "The mean colour of your own images." in page


def test_its_file_is_checked_whole_and_its_encoder_goes_wherever_an_encoder_goes(run, picture_folder, tmp_path):
    held = read(run)
    assert (held.info.kind, held.info.options) == ("mean-colour", {"hidden": 8})
    assert sorted(held.beside_encoder()) == ["colour.0.bias", "colour.0.weight", "colour.2.bias", "colour.2.weight"]
    loaded = convnextv2.load(run)
    assert loaded.classes == ()
    assert same(loaded.model.state_dict(), held.encoder())
    classifier = convnextv2.classify(picture_folder, tmp_path / "c", init=run, batch_size=8, epochs=1, workers=0).run
    assert read(classifier).info.trained_from[0].format == "convnextv2.mean-colour.1"
    more = mean_colour(picture_folder, tmp_path / "more", init=run, epochs=1, workers=0).run
    assert "encoder and rest from" in (more / "log.txt").read_text()
    with pytest.warns(UserWarning, match="is left out: timm has no place for it"):
        convnextv2.convert(run, "timm", tmp_path / "model.safetensors")
    convnextv2.convert(run, "convnextv2", tmp_path / "same.safetensors")
    assert same(read(tmp_path / "same.safetensors").tensors, held.tensors)


def test_a_file_of_it_that_lacks_a_tensor_is_refused(run, tmp_path):
    held = read(run)
    tensors = {name: tensor for name, tensor in held.tensors.items() if name != "colour.0.bias"}
    type(held)(tmp_path, held.info, tensors, False, "").write(tmp_path / "model.safetensors")
    with pytest.raises(LoadError, match=r"does not fill the model: missing: colour\.0\.bias"):
        read(tmp_path / "model.safetensors")


def test_classes_of_another_kind_of_model_give_its_encoder_no_head(run, tmp_path):
    held = read(run)
    named = type(held)(tmp_path, replace(held.info, classes=("a", "b")), held.tensors, False, "")
    loaded = convnextv2.load(named.write(tmp_path / "model.safetensors").path)
    assert loaded.classes == ()
    assert loaded.model.num_classes == 0
    assert convnextv2.load(tmp_path / "model.safetensors", num_classes=3).model.num_classes == 3


def test_its_mistakes_are_one_line(picture_folder, tmp_path):
    with pytest.raises(UserError, match="hidden"):
        mean_colour(picture_folder, tmp_path / "run", hidden=0)
    with pytest.raises(UserError, match="mean-colour has no setting 'colour'"):
        mean_colour(picture_folder, tmp_path / "run", colour="red")
    assert not (tmp_path / "run").exists()


def test_weights_of_another_shape_beside_a_config(run, picture_folder, tmp_path):
    wide = convnextv2.pretrain(picture_folder, tmp_path / "wide", **SMALL | {"dims": (8, 16, 16, 24)}, epochs=1).run
    started = mean_colour(config=run / "config.json", init=wide, out=tmp_path / "run", epochs=1).run
    assert read(started).info.architecture.dims == (8, 16, 16, 24)


def test_its_settings_are_in_the_config(run):
    config = json.loads((run / "config.json").read_text())
    assert config["verb"] == "mean-colour"
    assert config["settings"]["hidden"] == 8
    assert config["settings"]["dims"] == [8, 8, 16, 16]
    assert torch.isfinite(torch.tensor(list(run_losses(run).values()))).all()
