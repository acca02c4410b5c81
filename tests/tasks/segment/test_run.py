"""Runs of a segmenter on small drawn scenes: train, resume, evaluate, predict."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import NAMES, write_scenes
from small_run import SMALL_CLASSIFIER, run_losses, same, saved_weights

import convnextv2
from convnextv2.cli import main
from convnextv2.errors import RunFailedError, StoppedError, UserError
from convnextv2.weights.files import checkpoint_of, load_tensors

SMALL = SMALL_CLASSIFIER | {"head_dim": 32, "batch_size": 4, "workers": 0, "lr": 3e-3, "log_every": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), {"train": 12, "val": 4, "test": 3})


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return convnextv2.segment(data, out, epochs=30, seed=0, **SMALL).run


def test_it_learns_and_leaves_scores_tables_and_pictures(run):
    scores = json.loads((run / "scores.json").read_text())
    losses = list(run_losses(run).values())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert scores["val"]["plain"]["miou"] > 0.4  # always the most frequent class: 0.25
    assert {"val", "test"} < scores.keys()
    page = (run / "report.html").read_text()
    for text in ("Classes of val", "mean IoU", "brick"):
        assert text in page
    drawn = {file.stem.partition("-")[2] or file.stem for file in (run / "pictures").iterdir()}
    assert any("worst-scenes" in file.name for file in (run / "pictures").iterdir()), drawn


def test_evaluate_and_predict_give_the_same_numbers(run, data, tmp_path, capsys):
    main(["evaluate", "--run", str(run), "--data", str(data), "--split", "val", "--out", str(tmp_path / "scores")])
    said = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert said["miou"] == json.loads((run / "scores.json").read_text())["val"]["plain"]["miou"]
    assert list(said["iou"]) == NAMES
    main(["predict", "--run", str(run), str(data / "val" / "images"), "--out", str(tmp_path / "masks")])
    matrix = np.zeros((3, 3), np.int64)
    for number in range(4):
        mask = np.array(Image.open(tmp_path / "masks" / f"{number:03}.png"))
        truth = np.array(Image.open(data / "val" / "masks" / f"{number:03}.png"))
        assert mask.shape == truth.shape == (40, 48)
        np.add.at(matrix, (truth, mask), 1)
    assert matrix.tolist() == said["confusion"]
    line = json.loads((tmp_path / "masks" / "predictions.jsonl").read_text().splitlines()[0])
    assert sum(line["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert (tmp_path / "masks" / "overlays" / "000.jpg").is_file()


def test_probabilities_on_request(run, data, tmp_path):
    main(
        [
            *("predict", "--run", str(run), str(data / "val" / "images" / "001.png"), "--out", str(tmp_path / "m")),
            *("--probabilities", "--no-overlay", "--scales", "0.75,1", "--mirror"),
        ]
    )
    chances = np.load(tmp_path / "m" / "probabilities" / "001.npy")
    np.testing.assert_allclose(chances.astype(np.float32).sum(0), 1, atol=2e-3)
    assert np.array_equal(chances.argmax(0), np.array(Image.open(tmp_path / "m" / "001.png"))) or (
        (chances.argmax(0) == np.array(Image.open(tmp_path / "m" / "001.png"))).mean() > 0.99
    )
    assert not (tmp_path / "m" / "overlays").exists()


def test_a_stopped_and_resumed_run_is_bit_for_bit(data, tmp_path, monkeypatch):
    from convnextv2.tasks.segment.task import SegmentTask

    whole = convnextv2.segment(data, tmp_path / "whole", epochs=4, **SMALL).run
    part, real = tmp_path / "part", SegmentTask.step

    def interrupt(self, model, batch):
        if len(run_losses(part)) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentTask, "step", interrupt)
        with pytest.raises(StoppedError, match="SIGTERM; saved"):
            convnextv2.segment(data, part, epochs=4, **SMALL)
    convnextv2.segment(out=part, resume=True)
    assert same(saved_weights(whole), saved_weights(part))
    assert run_losses(whole) == run_losses(part)
    assert (whole / "scores.json").read_text() == (part / "scores.json").read_text()


def test_a_frozen_backbone_stays_as_it_is(run, data, tmp_path):
    frozen = convnextv2.segment(data, tmp_path / "f", epochs=1, init=run, freeze=4, **SMALL).run
    before = load_tensors(checkpoint_of(run, "best") / "model.safetensors")[0]
    after = saved_weights(frozen)
    held = [name for name in after if name.startswith("encoder.")]
    assert all(torch.equal(after[name], before[name]) for name in held)
    assert not torch.equal(after["head.classifier.weight"], before["head.classifier.weight"])


def test_a_batch_norm_head_from_an_encoder_of_another_task(data, tmp_path):
    made = convnextv2.segment(data, tmp_path / "b", epochs=1, head_norm="batch", freeze=1, **SMALL).run
    assert convnextv2.load(made).info.kind == "encoder"
    with pytest.raises(UserError, match="needs 2 images at a time"):
        convnextv2.segment(data, tmp_path / "c", epochs=1, head_norm="batch", micro_batch=1, **SMALL)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"freeze": 5}, "freeze=5"),
        ({"min_scale": 2.0, "max_scale": 1.0}, "min_scale"),
        ({"model": "timm:vit_tiny_patch16_224", "image_size": 224}, "maps of strides 16"),
    ],
)
def test_mistakes_are_one_line(data, tmp_path, changes, said):
    if "model" in changes:
        pytest.importorskip("timm")
    settings = {name: value for name, value in SMALL.items() if name not in ("depths", "dims", "stem_stride")}
    with pytest.raises(UserError, match=said):
        convnextv2.segment(data, tmp_path / "x", epochs=1, **(settings | changes))


def test_a_folder_without_masks_and_too_many_faults(tmp_path, data):
    with pytest.raises(UserError, match="segmentation reads train/images and train/masks"):
        convnextv2.segment(tmp_path, tmp_path / "x", epochs=1, **SMALL)
    bad = write_scenes(tmp_path / "bad", {"train": 8}, save=lambda classes, path: path.write_bytes(b"no mask"))
    with pytest.raises(RunFailedError, match="8 of 8 images and masks cannot be used"):
        convnextv2.segment(bad, tmp_path / "y", epochs=1, **SMALL)
