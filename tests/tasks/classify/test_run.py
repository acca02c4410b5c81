"""Whole runs of a classifier: what is promised of every one of them."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_run import SMALL, SMALL_CLASSIFIER, run_losses, same, saved_weights

from convnextv2 import classify, pretrain
from convnextv2.errors import RunFailedError, StoppedError, UserError
from convnextv2.inference.reader import ImageReader
from convnextv2.tasks.classify.load import load_classifier
from convnextv2.weights.files import checkpoint_of, load_tensors
from convnextv2.weights.model_file import read_model_file

CLOTHES = Path(__file__).parents[4] / "shared" / "data" / "clothing_small_160"
EVERYTHING = {"mixup": 0.8, "cutmix": 1.0, "rand_augment": 9.0, "erasing": 0.25, "drop_path": 0.2, "layer_decay": 0.8}


@pytest.fixture(scope="module")
def uninterrupted(picture_folder, tmp_path_factory):
    """16 steps (4 epochs) with all augmentation and averaging on, which nothing disturbs."""
    run = tmp_path_factory.mktemp("run") / "whole"
    classify(picture_folder, run, **SMALL_CLASSIFIER | EVERYTHING, epochs=4)
    return run


@pytest.fixture(scope="module")
def pretrained(picture_folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("pretrained") / "run"
    pretrain(picture_folder, run, **SMALL, epochs=1)
    return run


def evaluated(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["phase"] == "eval"]


def test_a_run_leaves_all_that_is_promised(uninterrupted):
    run = uninterrupted
    config = json.loads((run / "config.json").read_text())
    assert (config["data"]["pictures"], config["data"]["validation_pictures"]) == (32, 8)
    assert config["settings"]["recipe"] == "small-data"
    assert config["data"]["pictures_by_class"] == {"cats": 16, "dogs": 16}
    assert sorted(run_losses(run)) == list(range(1, 17))
    found = evaluated(run)
    assert [line["step"] for line in found] == [4, 8, 12, 16]
    assert {"top1", "ema_top1", "mean_class", "auroc", "ece"} <= found[0].keys()
    best = max(found, key=lambda line: line["ema_top1"])
    assert checkpoint_of(run, "best").name == f"step-{best['step']:08d}"
    scores = json.loads((run / "scores.json").read_text())
    assert scores["step"] == best["step"]
    assert scores["val"]["average"]["top1"] == best["ema_top1"]
    assert scores["val"]["plain"]["top1"] == best["top1"]
    names = {
        path.stem.split("-", 2)[-1] if path.stem.startswith("step") else path.stem for path in run.glob("pictures/*")
    }
    assert {"confusion-matrix", "training-pictures"} <= names
    assert (run / "report.html").read_text().count("<svg") >= 2


def test_the_classifier_is_built_again_from_its_file_alone(uninterrupted):
    plain, average = (
        load_classifier(uninterrupted, weights=weights, checkpoint="latest") for weights in ("plain", "average")
    )
    assert average.classes == ("cats", "dogs")
    assert average.image_size == 32
    assert not average.model.training
    assert average.averaged
    assert not plain.averaged
    tensors, _ = load_tensors(average.file)
    assert torch.equal(plain.model.head.weight, tensors["head.weight"])
    assert torch.equal(average.model.head.weight, tensors["ema/head.weight"])
    assert not same(plain.model.state_dict(), average.model.state_dict())


@pytest.mark.parametrize("changes", [{"workers": 0}, {"workers": 2}, {"cache": False}, {"log_every": 7}])
def test_how_a_run_is_fed_or_watched_changes_no_bit(picture_folder, tmp_path, uninterrupted, changes):
    classify(picture_folder, tmp_path / "run", **SMALL_CLASSIFIER | EVERYTHING | changes, epochs=4)
    assert same(saved_weights(tmp_path / "run"), saved_weights(uninterrupted))


@pytest.mark.parametrize("step", [3, 8])
def test_stopped_and_resumed_is_bitwise_the_same(picture_folder, tmp_path, uninterrupted, monkeypatch, step):
    """In the middle of an epoch, and in a step after which the run evaluates."""
    from convnextv2.tasks.classify.task import ClassifyTask

    run, real = tmp_path / "run", ClassifyTask.step
    settings = SMALL_CLASSIFIER | EVERYTHING

    def interrupt(self, model, batch):
        if len(run_losses(run)) == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifyTask, "step", interrupt)
        with pytest.raises(StoppedError, match=rf"SIGTERM; saved .*step-{step:08d}; continue with resume"):
            classify(picture_folder, run, **settings, epochs=4)
    classify(out=run, resume=True)
    assert_nothing_shows(run, uninterrupted)


def assert_nothing_shows(run, uninterrupted):
    """That a run was interrupted shows in nothing that it leaves."""
    assert same(saved_weights(run), saved_weights(uninterrupted))
    assert run_losses(run) == run_losses(uninterrupted)
    timeless = [
        [{name: value for name, value in line.items() if name != "time"} for line in evaluated(one)]
        for one in (run, uninterrupted)
    ]
    assert timeless[0] == timeless[1]
    assert checkpoint_of(run, "best").name == checkpoint_of(uninterrupted, "best").name
    assert (run / "scores.json").read_text() == (uninterrupted / "scores.json").read_text()


@pytest.mark.parametrize(
    ("number", "error", "says"),
    [
        (signal.SIGTERM, StoppedError, r"stopped by SIGTERM; saved .*step-00000004; continue with resume"),
        (
            signal.SIGKILL,
            RunFailedError,
            r"worker 1 of 1, .*SIGKILL while it read .*png.*; saved .*step-00000004; contin",
        ),
    ],
    ids=["stopped", "worker killed"],
)
def test_ended_in_an_evaluation_it_is_at_once_and_made_up_for(
    picture_folder, tmp_path, uninterrupted, monkeypatch, number, error, says
):
    """The process that reads hangs, as on a slow disk, and the run is stopped; or it is killed itself."""
    run, transform, began = tmp_path / "run", ImageReader._transform, tmp_path / "began"

    def hang(self, image):
        if multiprocessing.parent_process() and len(run_losses(run)) == 4 and not began.exists():
            began.write_text(str(time.time()))
            os.kill(os.getppid() if number == signal.SIGTERM else os.getpid(), number)
            time.sleep(60)
        return transform(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(ImageReader, "_transform", hang)
        patch.setattr("convnextv2.inference.reader.worker_count", lambda workers, batches: 1)
        with pytest.raises(error, match=says):
            classify(picture_folder, run, **SMALL_CLASSIFIER | EVERYTHING, epochs=4)
        assert time.time() - float(began.read_text()) < 10, "it waited for the reader"
    assert not evaluated(run)
    classify(out=run, resume=True)
    assert_nothing_shows(run, uninterrupted)


def test_resumed_before_anything_was_saved_it_starts_from_the_same_weights(picture_folder, tmp_path, pretrained):
    settings = SMALL_CLASSIFIER | {"init": pretrained, "epochs": 1}
    whole = classify(picture_folder, tmp_path / "whole", **settings).run
    broken = classify(picture_folder, tmp_path / "broken", **settings).run
    shutil.rmtree(broken / "checkpoints")  # as if killed in its first steps
    classify(out=broken, resume=True)
    assert same(saved_weights(broken), saved_weights(whole))


def test_a_config_alone_starts_the_run_again(tmp_path, uninterrupted):
    classify(out=tmp_path / "again", config=uninterrupted / "config.json")
    assert same(saved_weights(tmp_path / "again"), saved_weights(uninterrupted))


def test_a_config_of_another_verb_is_refused(tmp_path, pretrained):
    with pytest.raises(UserError, match="is of a run of `convnextv2 pretrain`, not of classify"):
        classify(out=tmp_path / "run", config=pretrained / "config.json")


def test_pretrained_weights_are_taken_over_with_their_shape(picture_folder, tmp_path, pretrained):
    settings = {"batch_size": 8, "precision": "fp32", "lr": 1e-12, "weight_decay": 0.0, "ema": 0.0, "epochs": 1}
    run = classify(picture_folder, tmp_path / "run", init=pretrained, **settings).run
    config = json.loads((run / "config.json").read_text())["settings"]
    assert [config[name] for name in ("dims", "stem_stride", "image_size")] == [[8, 8, 16, 16], 1, 32]
    assert config["layer_decay"] < 1
    before, after = saved_weights(pretrained), saved_weights(run)
    for name, tensor in after.items():
        if not name.startswith("head"):
            torch.testing.assert_close(tensor, before[f"encoder.{name}"], rtol=0, atol=1e-9)
    history = read_model_file(run).info.trained_from
    assert [step.format for step in history] == ["convnextv2.fcmae.1"]


def test_a_config_gives_what_was_named_and_works_the_rest_out_again(picture_folder, tmp_path):
    named = {"lr": 1e-4, "mixup": 0.3, "epochs": 2}
    first = classify(picture_folder, tmp_path / "first", **SMALL_CLASSIFIER | named).run
    config = first / "config.json"
    other = shutil.copytree(picture_folder, tmp_path / "other")
    again = classify(other, tmp_path / "again", config=config).run
    small = classify(out=tmp_path / "small", config=config, image_size=24, label_fraction=0.5, minutes=1e-6).run
    found = [json.loads((run / "config.json").read_text())["settings"] for run in (again, small)]
    assert [(s["lr"], s["mixup"]) for s in found] == [(1e-4, 0.3)] * 2
    assert [s["epochs"] for s in found] == [2, 0.5]
    assert found[1]["image_size"] == 24


def test_a_log_line_of_several_steps_survives_a_stop(picture_folder, tmp_path, monkeypatch):
    from convnextv2.tasks.classify.task import ClassifyTask

    settings = SMALL_CLASSIFIER | {"log_every": 5, "epochs": 4}
    whole = classify(picture_folder, tmp_path / "whole", **settings).run
    real, steps = ClassifyTask.step, []

    def interrupt(self, model, batch):
        steps.append(1)
        if len(steps) == 3 + 12:  # twelve more measure the speed
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifyTask, "step", interrupt)
        with pytest.raises(StoppedError):
            classify(picture_folder, tmp_path / "run", **settings)
    classify(out=tmp_path / "run", resume=True)
    assert sorted(run_losses(whole)) == [5, 10, 15, 16]
    assert run_losses(tmp_path / "run") == run_losses(whole)


def test_patience_survives_a_stop(picture_folder, tmp_path, monkeypatch):
    from convnextv2.tasks.classify.task import ClassifyTask

    settings = SMALL_CLASSIFIER | {"lr": 1e-12, "epochs": 40, "eval_epochs": 1, "patience": 3}
    real = ClassifyTask.step

    def interrupt(self, model, batch):
        if len(run_losses(tmp_path / "run")) == 9:  # after two evaluations, one of them without a new best
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifyTask, "step", interrupt)
        with pytest.raises(StoppedError):
            classify(picture_folder, tmp_path / "run", **settings)
    classify(out=tmp_path / "run", resume=True)
    assert [line["step"] for line in evaluated(tmp_path / "run")] == [4, 8, 12, 16]


def test_batch_norm_and_indices_are_what_the_file_gives_back(picture_folder, tmp_path):
    """Measuring a run moves no running statistics; averages of a model with index buffers judge as they are saved."""
    pytest.importorskip("timm")
    common = {"image_size": 32, "batch_size": 8, "precision": "fp32", "epochs": 1, "drop_path": 0.0}
    runs = [classify(picture_folder, tmp_path / n, model="timm:test_resnet", **common).run for n in ("a", "b")]
    assert same(*(saved_weights(run) for run in runs))
    swin = classify(picture_folder, tmp_path / "swin", model="timm:swin_tiny_patch4_window7_224", **common).run
    scores = json.loads((swin / "scores.json").read_text())["val"]["average"]
    assert evaluated(swin)[-1]["ema_loss"] == pytest.approx(scores["loss"], rel=1e-5)


def test_what_is_mixed_needs_a_partner(picture_folder, tmp_path):
    settings = SMALL_CLASSIFIER | {"mixup": 0.8, "batch_size": 7}
    with pytest.raises(UserError, match="each process must work on 2 images at a time, as they are mixed"):
        classify(picture_folder, tmp_path / "run", **settings, micro_batch=1)


def test_patience_ends_a_run_that_gets_no_better(picture_folder, tmp_path):
    settings = SMALL_CLASSIFIER | {"lr": 1e-12, "epochs": 40, "eval_epochs": 1, "patience": 2}
    run = classify(picture_folder, tmp_path / "run", **settings).run
    log = (run / "log.txt").read_text()
    assert "no better for 2 evaluations: the run ends here (patience)" in log
    assert [line["step"] for line in evaluated(run)] == [4, 8, 12]
    assert checkpoint_of(run).name == "step-00000012"
    classify(out=run, resume=True)  # ended: nothing is left to do
    assert checkpoint_of(run).name == "step-00000012"
    with pytest.raises(UserError, match="patience needs images to validate with"):
        classify(picture_folder, tmp_path / "none", **settings, val_fraction=0)


def test_several_labels_a_picture(picture_folder, tmp_path):
    rows = [
        f"{path},{'cat' if path.parent.name == 'cats' else 'dog'}{';even' if int(path.stem) % 4 < 2 else ''}"
        for path in sorted(picture_folder.rglob("*.png"))
    ]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *rows]))
    run = classify(
        table, tmp_path / "run", **SMALL_CLASSIFIER | {"class_weights": "balanced", "mixup": 0.5}, epochs=2
    ).run
    assert {"map", "auroc", "ema_map"} <= evaluated(run)[0].keys()
    assert load_classifier(run).info.multi_label
    assert load_classifier(run).classes == ("cat", "dog", "even")
    assert json.loads((run / "config.json").read_text())["settings"]["multi_label"]
    assert "mAP" in (run / "report.html").read_text()
    with pytest.raises(UserError, match="balanced_sampling draws images by their one class"):
        classify(table, tmp_path / "other", **SMALL_CLASSIFIER, balanced_sampling=True)


def test_resume_needs_the_labels_the_run_began_with(picture_folder, tmp_path):
    pictures = sorted(picture_folder.rglob("*.png"))
    table = tmp_path / "labels.csv"
    rows = [f"{path},{path.parent.name}" for path in pictures]
    table.write_text("\n".join(["path,label", *rows]))
    run = classify(table, tmp_path / "run", **SMALL_CLASSIFIER | {"val_fraction": 0}, epochs=1).run
    swapped = [f"{path},{pictures[-1 - number].parent.name}" for number, path in enumerate(pictures)]
    table.write_text("\n".join(["path,label", *swapped]))
    with pytest.raises(UserError, match="or their labels, are not those the run began with"):
        classify(out=run, resume=True)


def test_unbalanced_classes(picture_folder, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(picture_folder, folder)
    for path in sorted(folder.glob("cats/*"))[5:]:
        path.unlink()
    for number, changes in enumerate(({"class_weights": "balanced"}, {"balanced_sampling": True}, {})):
        classify(folder, tmp_path / f"run{number}", **SMALL_CLASSIFIER | changes, epochs=1)
    weights = [saved_weights(tmp_path / f"run{number}") for number in range(3)]
    assert not same(weights[0], weights[2])
    assert not same(weights[1], weights[2])


def test_v1_trains_and_grey_and_without_validation(picture_folder, tmp_path):
    changes = {"model": "convnext_atto", "in_chans": 1, "precision": "bf16", "val_fraction": 0.0}
    run = classify(picture_folder, tmp_path / "run", **SMALL_CLASSIFIER | changes, epochs=1).run
    assert saved_weights(run)["stages.0.0.gamma"].shape == (8,)
    assert not evaluated(run)
    assert not (run / "scores.json").exists()


def test_a_model_of_timm_trains_and_comes_back(picture_folder, tmp_path):
    pytest.importorskip("timm")
    settings = {"model": "timm:test_vit", "image_size": 32, "batch_size": 8, "precision": "fp32", "layer_decay": 0.8}
    run = classify(picture_folder, tmp_path / "run", **settings, epochs=1).run
    found = load_classifier(run)
    assert found.model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    again = classify(picture_folder, tmp_path / "again", init=run, batch_size=8, epochs=1).run
    with pytest.raises(UserError, match=r"model timm:test_vit there, convnextv2_atto asked for\. Leave out model"):
        classify(picture_folder, tmp_path / "wrong", init=run, model="convnextv2_atto", batch_size=8)
    with pytest.raises(UserError, match=r"pos_embed .*Leave out image_size=48: those weights are for 32 pixels"):
        classify(picture_folder, tmp_path / "wrong", init=run, image_size=48, batch_size=8)
    assert json.loads((again / "config.json").read_text())["settings"]["model"] == "timm:test_vit"


def test_a_wrong_init_says_what_differs_and_what_to_type(picture_folder, tmp_path, pretrained):
    def line(**settings):
        with pytest.raises(UserError) as error:
            classify(picture_folder, tmp_path / "run", **{"batch_size": 8, "init": pretrained} | settings)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()
        return str(error.value)

    text = line(model="convnextv2_tiny")
    assert "dims 8/8/16/16 there, 96/192/384/768 asked for" in text
    assert "Leave out model" in text
    assert "inflate='0,1': give 1 numbers from 0 to 2, one for each channel" in line(in_chans=1, inflate="0,1")
    assert "inflate='twice': give repeat, mean" in line(in_chans=1, inflate="twice")
    assert "model convnextv2_atto there, convnext_atto asked for" in line(
        model="convnext_atto", dims=(8, 8, 16, 16), depths=(1, 1, 1, 1)
    )
    assert "no run and no file at" in line(init=tmp_path / "nothing")
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04 not ours")
    assert "weights.pt is not whole, or was written by torch before 1.6" in line(init=tmp_path / "weights.pt")
    (tmp_path / "empty").mkdir()
    assert "empty holds no checkpoint yet" in line(init=tmp_path / "empty")
    shutil.copy(pretrained / "checkpoints" / "latest", tmp_path / "text.safetensors")
    assert "is neither readable safetensors nor a file of torch.save" in line(init=tmp_path / "text.safetensors")


def test_another_stem_is_adapted_and_the_log_says_so(picture_folder, tmp_path, pretrained):
    settings = {"init": pretrained, "epochs": 1, "batch_size": 8, "image_size": 64, "workers": 0}
    run = classify(picture_folder, tmp_path / "run", in_chans=1, stem_stride=2, **settings).run
    log = (run / "log.txt").read_text()
    assert "stem inflated from 3 channels to 1 (repeat); stem resampled from stride 1 to 2" in log
    found = load_classifier(run)
    assert (found.model.in_chans, found.model.stem_stride, len(found.preprocessing.mean)) == (1, 2, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 64}, "32 training images make zero steps with a batch of 64"),
        ({"recipe": "in1k", "batch_size": None}, "zero steps with a batch of 1024: use recipe='small-data'"),
        ({"recipe": "in22k"}, "not published for atto"),
        ({"model": "convnextv3"}, "no model is called|no recipe for"),
        ({"multi_label": True, "balanced_sampling": True}, "use class_weights='balanced'"),
        ({"smoothing": 1.0}, "smoothing=1.0: give 0 or more and below 1"),
        ({"val_fraction": 1.0}, "val_fraction=1"),
        ({"learning_rate": 1}, "classify has no setting 'learning_rate'"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing_behind(picture_folder, tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        classify(picture_folder, tmp_path / "run", **SMALL_CLASSIFIER | changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_unreadable_validation_pictures_are_told_of(picture_folder, tmp_path):
    for number, path in enumerate(sorted(picture_folder.rglob("*.png"))):
        target = tmp_path / "data" / ("val" if number % 4 == 0 else "train") / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes()[: 60 if number == 0 else None])
    run = classify(tmp_path / "data", tmp_path / "run", **SMALL_CLASSIFIER, epochs=1).run
    log = (run / "log.txt").read_text()
    assert "skipped val cats/01.png: " in log
    assert "1 of 10 val images could not be read and are not in the scores" in log
    assert json.loads((run / "scores.json").read_text())["unreadable"] == {"val": 1}


def small_set(folder: Path, source: Path, classes, pictures):
    """A folder with train/ and val/ of a few pictures of some classes."""
    for name in classes:
        for number, path in enumerate(sorted((source / name).glob("*"))[: pictures + 2]):
            target = folder / ("train" if number < pictures else "val") / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return folder


def test_the_chain_of_the_paper(tmp_path, picture_folder):
    """FCMAE, then many classes, then fewer of them at growing resolution, each from the weights of the one before."""
    source, few = (CLOTHES / "train", ["dress", "hat"]) if CLOTHES.is_dir() else (picture_folder, ["cats", "dogs"])
    many = sorted(path.name for path in source.iterdir())
    first, second = small_set(tmp_path / "many", source, many, 6), small_set(tmp_path / "few", source, few, 6)
    shape = {name: SMALL[name] for name in ("depths", "dims", "stem_stride")}
    small = {"batch_size": 4, "precision": "fp32", "workers": 0, "epochs": 1}
    fcmae = pretrain(first / "train", tmp_path / "fcmae", model="convnextv2_nano", image_size=32, **shape, **small).run
    in22k = classify(first, tmp_path / "in22k", init=fcmae, recipe="in22k", **small).run
    at32 = classify(second, tmp_path / "at32", init=in22k, recipe="in22k-to-in1k", **small).run
    at48 = classify(second, tmp_path / "at48", init=at32, recipe="in22k-to-in1k", image_size=48, **small).run
    assert "a new head for" in (in22k / "log.txt").read_text()
    assert (f"its head of {len(many)} classes is left out" in (at32 / "log.txt").read_text()) == (many != few)
    assert "head included, as the classes are the same" in (at48 / "log.txt").read_text()
    found = load_classifier(at48)
    assert (found.image_size, list(found.classes)) == (48, few)
    history = read_model_file(at48).info.trained_from
    assert [step.trained_on for step in history] == ["train", "many", "few"]


@pytest.mark.slow
@pytest.mark.parametrize("real", [True, False])
def test_it_overfits_32_pictures(tmp_path, picture_folder, real):
    """To 100 %, with the recipe as it is: real photographs of ten classes where they are at hand."""
    if real and not CLOTHES.is_dir():
        pytest.skip(f"{CLOTHES} is not here")
    source = CLOTHES / "train" if real else picture_folder
    pictures = [path for each in sorted(source.iterdir()) for path in sorted(each.glob("*"))[: 4 if real else 16]][:32]
    for path in pictures:
        for split in ("train", "val"):
            target = tmp_path / "pictures" / split / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shape = {"depths": (2, 2, 2, 2), "dims": (16, 32, 64, 128), "stem_stride": 2, "image_size": 64}
    run = classify(tmp_path / "pictures", tmp_path / "run", **shape).run
    assert json.loads((run / "config.json").read_text())["data"]["pictures"] == 32
    assert evaluated(run)[-1]["top1"] == 1.0
    assert evaluated(run)[-1]["ema_top1"] == 1.0


def as_flags(settings):
    flags = []
    for name, value in settings.items():
        flags += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    return flags


@pytest.mark.slow
def test_kills_at_random_moments_change_no_bit(picture_folder, tmp_path, command):
    """SIGKILL while it trains, evaluates or saves (every step is saved); the best checkpoint is the same, too."""
    run = tmp_path / "run"
    settings = SMALL_CLASSIFIER | EVERYTHING | {"epochs": 15}
    uninterrupted = classify(picture_folder, tmp_path / "whole", **settings).run
    settings["checkpoint_every"] = 1
    line = [sys.executable, "-m", "convnextv2", "classify", "--data", picture_folder, "--out", run, *as_flags(settings)]
    rng, reached = random.Random(0), []
    for _ in range(4):
        with subprocess.Popen(
            [*map(str, line), "--auto-resume"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        ) as process:
            before = len(run_losses(run))
            while process.poll() is None and len(run_losses(run)) <= before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            os.killpg(process.pid, signal.SIGKILL)
        reached.append(len(run_losses(run)))
    finished = command("classify", "--out", run, "--resume")
    assert finished.returncode == 0, finished.stderr
    assert same(saved_weights(run), saved_weights(uninterrupted)), reached
    assert run_losses(run) == run_losses(uninterrupted)
    assert checkpoint_of(run, "best").name == checkpoint_of(uninterrupted, "best").name
    assert reached[2] < 60, "the kills came too late to prove anything"


@pytest.mark.slow
def test_two_processes_follow_one(picture_folder, tmp_path, command):
    """torchrun with two gloo processes: the same batches, losses and scores. Without mixing: each mixes its own."""
    settings = SMALL_CLASSIFIER | {"drop_path": 0.0, "mixup": 0.0, "cutmix": 0.0}
    one = classify(picture_folder, tmp_path / "one", **settings, epochs=4).run
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    arguments = [
        "classify",
        "--data",
        picture_folder,
        "--out",
        tmp_path / "two",
        "--epochs",
        4,
        "--device",
        "cpu",
        *as_flags(settings),
    ]
    done = command(*arguments, launcher=launcher)
    assert done.returncode == 0, done.stderr
    expected, found = run_losses(one), run_losses(tmp_path / "two")
    assert sorted(found) == list(range(1, 17))
    assert max(abs(found[step] / expected[step] - 1) for step in found) <= 1e-5
    for a, b in zip(evaluated(one), evaluated(tmp_path / "two"), strict=True):
        assert a["top1"] == b["top1"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    one_scores, two_scores = (json.loads((run / "scores.json").read_text()) for run in (one, tmp_path / "two"))
    assert one_scores["val"]["average"]["top1"] == two_scores["val"]["average"]["top1"]
    assert one_scores["val"]["plain"]["loss"] == pytest.approx(two_scores["val"]["plain"]["loss"], rel=1e-5)
