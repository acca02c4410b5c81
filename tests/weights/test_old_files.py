"""Every file that an earlier version wrote still loads, and gives what it gave (see fixtures/v0/README.md)."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from fixtures.v0 import measure
from small_run import same

from convnextv2 import classify, convert, pretrain
from convnextv2.report import write_report
from convnextv2.tasks.classify.settings import ClassifySettings
from convnextv2.tasks.pretrain.settings import PretrainSettings
from convnextv2.weights.files import checkpoint_of, load_tensors

FILES = Path(__file__).parents[1] / "fixtures" / "v0"
EXPECTED = json.loads((FILES / "expected.json").read_text())
TRAIN = {"pretrain": pretrain, "classify": classify}


def check(found, expected):
    """Everything equal, but the numbers of `outputs` and `scores` only up to 1e-5 of their largest."""
    found, expected = dict(found), dict(expected)
    pairs = [(torch.tensor(found.pop("outputs")), torch.tensor(expected.pop("outputs")))]
    scores = [sides.pop("scores", {}) for sides in (found, expected)]
    assert scores[0].keys() == scores[1].keys()
    for kind in scores[1]:
        assert scores[0][kind].keys() == scores[1][kind].keys()
        pairs.append(tuple(torch.tensor([side[kind][name] for name in scores[1][kind]]) for side in scores))
    assert found == expected
    for here, there in pairs:
        close(here, there)


def close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.fixture
def run(tmp_path):
    """Copies one of the stopped runs, with its images, to where it never was."""

    def copied(name):
        shutil.copytree(FILES / "images", tmp_path / "images")
        target = shutil.copytree(FILES / name, tmp_path / name)
        config = target / "config.json"
        config.write_text(config.read_text().replace("/fixture", str(tmp_path)))
        return target

    return copied


@pytest.fixture
def timm_file(tmp_path):
    return measure.timm_file(FILES, tmp_path / "timm.safetensors")


@pytest.mark.parametrize("name", [name for name in EXPECTED["load"] if name != "timm"])
def test_load_gives_the_same_outputs(name):
    check(measure.outputs(FILES / name), EXPECTED["load"][name])


def test_load_gives_the_same_outputs_of_a_model_of_timm(timm_file):
    check(measure.outputs(timm_file), EXPECTED["load"]["timm"])


@pytest.mark.parametrize("name", EXPECTED["load plain"])
def test_load_gives_the_same_outputs_without_the_average(name):
    expected = EXPECTED["load plain"][name]
    assert expected["outputs"] != EXPECTED["load"][name]["outputs"]
    check(measure.outputs(FILES / name, "plain"), expected)


@pytest.mark.parametrize("name", EXPECTED["reconstruct"])
def test_a_masked_autoencoder_predicts_the_same(name):
    check(measure.reconstruction(FILES / name), EXPECTED["reconstruct"][name])


@pytest.mark.parametrize("name", EXPECTED["images"])
def test_evaluate_and_predict_give_the_same(name):
    check(measure.said_of_images(FILES / name, FILES), EXPECTED["images"][name])


@pytest.mark.parametrize("what", EXPECTED["convert"])
def test_convert_writes_the_same(what, tmp_path):
    name, layout = what.split()
    assert measure.converted(convert, FILES / name, layout, tmp_path) == EXPECTED["convert"][what]


def check_finished(run, name, *, from_the_start=False):
    """A run that ended as the uninterrupted one of the earlier version: on the same processor bit by bit.

    On others its losses, and the weights up to 1e-5 of the largest. Not those of a run from the start: AdamW makes of
    gradients that are only rounding steps of the usual size, so they drift apart.
    """
    expected = EXPECTED["runs"][name]
    pointers = {path.name: path.read_text() for path in (run / "checkpoints").iterdir() if path.is_file()}
    assert pointers == expected["checkpoints"]
    tensors, _ = load_tensors(checkpoint_of(run) / "model.safetensors")
    losses, wanted = measure.losses(run), expected["losses"]
    assert losses.keys() == wanted.keys()
    final, _ = load_tensors(FILES / f"{name}-final.safetensors")
    assert measure.tensors_hash(final) == expected["weights"]
    if measure.processor() == EXPECTED["processor"]:
        optimizer, _ = load_tensors(checkpoint_of(run) / "optimizer.safetensors")
        assert losses == wanted
        assert same(tensors, final)
        assert measure.tensors_hash(optimizer) == expected["optimizer"]
    assert tensors.keys() == final.keys()
    if not from_the_start:
        close(*(torch.cat([side[tensor].flatten() for tensor in final]) for side in (tensors, final)))
    close(torch.tensor([losses[step] for step in wanted]), torch.tensor(list(wanted.values())))


@pytest.mark.parametrize("name", TRAIN)
def test_a_stopped_run_is_resumed_as_if_it_had_not_been(name, run):
    folder = run(name)
    stopped = int(checkpoint_of(folder).name.removeprefix("step-"))
    assert stopped < measure.FINISHED[name]
    assert len(measure.losses(folder)) == stopped
    TRAIN[name](out=folder, resume=True)
    assert len(measure.losses(folder)) == measure.FINISHED[name]
    check_finished(folder, name)


@pytest.mark.parametrize("name", TRAIN)
def test_the_config_of_a_run_starts_it_again(name, run, tmp_path):
    folder = run(name)
    again = TRAIN[name](out=tmp_path / "again", config=folder / "config.json").run
    check_finished(again, name, from_the_start=True)
    before, after = (json.loads((path / "config.json").read_text())["settings"] for path in (folder, again))
    defaults = {"pretrain": PretrainSettings, "classify": ClassifySettings}[name]()
    newer = {each: getattr(defaults, each) for each in after.keys() - before.keys()}  # what this version added
    newer |= {"min_valid": 0.5} if name == "pretrain" else {}  # which the masked autoencoder resolves
    assert {**after, "out": before["out"]} == before | newer


@pytest.mark.parametrize("name", TRAIN)
def test_a_run_gets_its_page(name, run):
    folder = run(name)
    page = write_report(folder).read_text(encoding="utf-8")
    for part in ("Stopped", "<svg", "Loss", "convnextv2_atto", f"--out {folder}", "--resume"):
        assert part in page
