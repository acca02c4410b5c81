"""Damaged and mixed-up runs: refused with the name of the part and what to type, or resumed bit for bit.

`benchmarks/kills.py` does the same hundreds of times at random.
"""

import contextlib
import json
import os
import shutil
import signal

import pytest
from safetensors import safe_open
from small_run import SMALL, run_losses, same, saved_weights

from convnextv2 import load, pretrain
from convnextv2.errors import LoadError, Notice, StoppedError, UserError
from convnextv2.tasks.pretrain.task import PretrainTask
from convnextv2.weights.files import checkpoint_of, load_tensors, save_tensors

NEWEST, OLDER = "step-00000007", "step-00000005"
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@pytest.fixture(scope="module")
def runs(picture_folder, tmp_path_factory):
    """A finished run; the same one stopped after step 7 with a checkpoint of step 5; another one stopped there."""
    folder, step = tmp_path_factory.mktemp("runs"), PretrainTask.step
    pretrain(picture_folder, folder / "whole", **SMALL, epochs=2)
    for name, seed in (("stopped", 0), ("other", 1)):
        log = folder / name / "metrics.jsonl"

        def interrupt(self, model, batch, log=log):
            if log.exists() and log.read_text().count("\n") == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, model, batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PretrainTask, "step", interrupt)
            with pytest.raises(StoppedError):
                pretrain(picture_folder, folder / name, **SMALL, epochs=2, checkpoint_every=5, seed=seed)
    return folder


@pytest.fixture
def run(runs, tmp_path):
    return shutil.copytree(runs / "stopped", tmp_path / "run")


def flip(content):
    changed = bytearray(content)
    changed[len(changed) * 2 // 3] ^= 4
    return bytes(changed)


DAMAGES = {
    "flipped": flip,
    "cut": lambda content: content[: len(content) * 2 // 3],
    "zeros": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
    "appended": lambda content: content + b"x",
}


def refused(run, part, *, whole=True):
    """The one line with which a run is refused; its checkpoints, settings and log are as they were."""

    def content():
        names = ("log.txt", "report.html", "config.json")
        found = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name not in names}
        with contextlib.suppress(ValueError):
            found[run] = json.loads((run / "config.json").read_bytes())
        return found

    before = content()
    with pytest.raises(UserError) as caught:
        pretrain(out=run, resume=True)
    said = str(caught.value)
    assert part in said
    assert "\n" not in said
    assert content() == before
    if whole:
        assert f"{OLDER} is whole: to go on from there, `echo {OLDER} > {run}/checkpoints/latest`" in said
    return said


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", [MODEL, OPTIMIZER, STATE])
def test_a_damaged_part_is_named_and_so_is_the_checkpoint_that_is_whole(run, part, damage):
    path = run / "checkpoints" / NEWEST / part
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    refused(run, f"{NEWEST}/{part}")


@pytest.mark.parametrize("part", [MODEL, OPTIMIZER, STATE])
def test_a_missing_part_is_named(run, part):
    (run / "checkpoints" / NEWEST / part).unlink()
    refused(run, f"{NEWEST}/{part}")


@pytest.mark.parametrize("part", [MODEL, OPTIMIZER, STATE])
def test_a_part_of_another_step_is_refused(run, part):
    shutil.copy(run / "checkpoints" / OLDER / part, run / "checkpoints" / NEWEST / part)
    said = refused(run, f"{NEWEST}/{part}")
    assert "is of step 5, and the rest of step-00000007 is not" in said
    if part == MODEL:
        with pytest.raises(LoadError, match=rf"is of step 5: it is not what {NEWEST} was saved with"):
            load(run)


@pytest.mark.parametrize("part", [MODEL, OPTIMIZER, STATE])
def test_a_part_of_another_run_is_refused(run, runs, part):
    shutil.copy(runs / "other" / "checkpoints" / NEWEST / part, run / "checkpoints" / NEWEST / part)
    said = refused(run, f"{NEWEST}/{part}")
    assert "does not belong to the rest of step-00000007: it is of another run" in said


@pytest.mark.parametrize("other", ["another step", "another run"])
def test_a_whole_checkpoint_of_another_step_or_run_is_refused(run, runs, other):
    source = {"another step": run / "checkpoints" / OLDER, "another run": runs / "other" / "checkpoints" / NEWEST}[
        other
    ]
    kept = shutil.copytree(source, run.parent / "kept")
    shutil.rmtree(run / "checkpoints" / NEWEST)
    shutil.move(kept, run / "checkpoints" / NEWEST)
    said = refused(run, f"checkpoints/{NEWEST} ")
    assert "all of it is of step 5" in said if other == "another step" else "is of another run than this one" in said


@pytest.mark.parametrize("change", ["no tensors", "missing", "of another shape", "unexpected"])
def test_an_optimiser_file_with_other_tensors_is_refused(run, change):
    """Also where nothing binds it, as in checkpoints of earlier versions: what AdamW needs is known."""
    folder = run / "checkpoints" / NEWEST
    tensors, _ = load_tensors(folder / OPTIMIZER)
    name = "pred.bias/exp_avg"
    value = tensors.pop(name)
    changed = {"of another shape": {name: value[:-1]}, "unexpected": {name: value, "pred.bias/extra": value + 1}}
    tensors = {} if change == "no tensors" else tensors | changed.get(change, {})
    save_tensors(folder / OPTIMIZER, tensors)
    refused(run, f"{NEWEST}/{OPTIMIZER} does not belong to the rest")
    unbind(run)
    said = refused(run, f"{NEWEST}/{OPTIMIZER} does not fill the model")
    assert name in said or change in ("no tensors", "unexpected")


def unbind(run):
    """Make a run look as one of an earlier version: nothing binds its parts."""
    for folder in (run / "checkpoints").glob("step-*"):
        tensors, metadata = load_tensors(folder / MODEL)
        save_tensors(folder / MODEL, tensors, metadata)
        save_tensors(folder / OPTIMIZER, load_tensors(folder / OPTIMIZER)[0])
        state = json.loads((folder / STATE).read_text())
        bound = ("seal", "parts", "run", "config", "logged")
        (folder / STATE).write_text(json.dumps({name: value for name, value in state.items() if name not in bound}))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({n: v for n, v in config.items() if n not in ("seal", "run")}))


@pytest.mark.parametrize("part", [MODEL, OPTIMIZER, STATE])
def test_a_run_of_an_earlier_version_resumes_but_not_with_a_part_of_another_step(run, runs, part):
    unbind(run)
    right = (run / "checkpoints" / NEWEST / part).read_bytes()
    shutil.copy(run / "checkpoints" / OLDER / part, run / "checkpoints" / NEWEST / part)
    assert "is of step 5" in refused(run, f"{NEWEST}/{part}")
    if part == STATE:
        (run / "checkpoints" / NEWEST / part).write_bytes(right)
        pretrain(out=run, resume=True)
        assert same(saved_weights(run), saved_weights(runs / "whole"))


def first_tensor_at(path, place):
    """The name of the tensor that has the byte at this place of a file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    inside = place - 8 - length
    spans = {name: about["data_offsets"] for name, about in header.items() if name != "__metadata__"}
    return next(name for name, (start, end) in spans.items() if start <= inside < end)


@pytest.mark.parametrize("part", [MODEL, OPTIMIZER])
@pytest.mark.parametrize("share", [0.6, 0.8, 0.999])
def test_the_tensor_that_is_damaged_is_named(run, part, share):
    path = run / "checkpoints" / NEWEST / part
    content = bytearray(path.read_bytes())
    place = int(len(content) * share)
    content[place] ^= 1
    path.write_bytes(content)
    name = first_tensor_at(path, place)
    assert f"{part} is damaged (tensor {name}): its content does not match" in refused(run, part)
    if part == MODEL:
        with pytest.raises(LoadError, match=r"is damaged \(tensor "):
            load_tensors(path)


def test_the_tensors_that_a_cut_file_lacks_are_counted(run):
    path = run / "checkpoints" / NEWEST / OPTIMIZER
    with safe_open(path, "pt") as file:
        total = len(list(file.keys()))
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    name = first_tensor_at(path, len(content) - 1)
    assert f"it is cut off: 1 of its {total} tensors are incomplete or missing, {name}" in refused(run, OPTIMIZER)


@pytest.mark.parametrize("damage", ["latest is gone", "best is gone", "partials", "config.json is gone"])
def test_what_can_be_made_good_is(run, runs, damage):
    folder = run / "checkpoints"
    if damage == "partials":
        (folder / ".step-00000009.0123456789ab.partial").mkdir()
        for path in (folder / ".latest.0123456789ab.partial", run / ".metrics.jsonl.0123456789ab.partial"):
            path.write_text("x")
        (run / "pictures" / ".step-1.png.0123456789ab.partial").parent.mkdir(exist_ok=True)
        (run / "pictures" / ".step-1.png.0123456789ab.partial").write_text("x")
    else:
        lost = {"latest is gone": folder / "latest", "best is gone": folder / "best"}
        lost.get(damage, run / "config.json").unlink(missing_ok=True)
    if damage == "config.json is gone":
        with pytest.warns(Notice, match=rf"config\.json was lost: it is restored from {NEWEST}"):
            pretrain(out=run, resume=True)
    else:
        pretrain(out=run, resume=True)
    assert same(saved_weights(run), saved_weights(runs / "whole"))
    assert run_losses(run) == run_losses(runs / "whole")
    assert not [path for path in run.rglob("*") if "partial" in path.name]


def test_a_pointer_of_nonsense_is_named(run):
    for text in ("", "\0\0\0", "../../elsewhere", "step-7", "step-00000007-keep", "step-00000099"):
        (run / "checkpoints" / "latest").write_text(text)
        assert f"write the name of one of ['{OLDER}', '{NEWEST}'] into it" in refused(run, "latest", whole=False)


def test_one_flipped_bit_of_config_json_is_noticed(run):
    path = run / "config.json"
    text = path.read_text()
    lr = json.loads(text)["settings"]["lr"]
    assert f"{lr}".startswith("0.000265")
    path.write_text(text.replace(f'"lr": {lr}', f'"lr": {0.4 + lr}'))
    said = refused(run, "config.json is not as its run wrote it", whole=False)
    assert f"(lr is {0.4 + lr}, was {lr}): remove it, and resume restores it from {NEWEST}" in said
    assert "give other settings as options beside config" in said
    with pytest.raises(UserError, match="is not as its run wrote it"):
        pretrain(out=run.parent / "new", config=path)
    assert not (run.parent / "new").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_config_json_is_restored_once_it_is_removed(run, runs, damage):
    path = run / "config.json"
    text = path.read_bytes()
    path.write_bytes(DAMAGES[damage](text))
    assert f"remove it, and resume restores it from {NEWEST}" in refused(run, "config.json", whole=False)
    if damage == "flipped":
        path.unlink()
        with pytest.warns(Notice):
            pretrain(out=run, resume=True)
        assert path.read_bytes() == text
        assert same(saved_weights(run), saved_weights(runs / "whole"))


def test_the_config_json_of_another_run_is_refused(run, runs):
    shutil.copy(runs / "other" / "config.json", run / "config.json")
    refused(run, f"config.json is of another run than {NEWEST}: remove it, and resume restores", whole=False)


def test_an_edited_config_starts_another_run_once_its_hash_is_out(run, picture_folder):
    shutil.rmtree(run / "checkpoints")
    lines = (run / "config.json").read_text().splitlines()
    lines = [line.replace('"epochs": 2', '"epochs": 1') for line in lines]
    (run / "config.json").write_text("\n".join(lines))
    with pytest.raises(UserError, match="or take out its line 'seal' to start another run from it as it is"):
        pretrain(out=run.parent / "new", config=run / "config.json")
    (run / "config.json").write_text("\n".join(line for line in lines if '"seal"' not in line))
    assert sorted(run_losses(pretrain(out=run.parent / "new", config=run / "config.json").run)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("a torn last line", None),
        (
            "two lines",
            "warning: metrics.jsonl: 2 damaged, lines 2, 4, left out of the curves; the file as it was is kept",
        ),
        ("a number", "warning: metrics.jsonl is not as the run wrote it up to step 7"),
        ("gone", "warning: metrics.jsonl is lost: the curves begin at step 8"),
    ],
)
def test_what_is_lost_of_the_log_is_said_and_the_training_goes_on(run, runs, damage, said):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    before = {line["step"]: line["loss"] for line in map(json.loads, lines)}
    if damage == "a torn last line":
        path.write_text("\n".join(lines) + '\n{"step": 8, "epo')
    elif damage == "two lines":
        lines[1], lines[3] = "\0" * len(lines[1]), lines[3][:-9]
        path.write_text("\n".join(lines) + "\n")
    elif damage == "a number":
        lines[2] = lines[2].replace('"step": 3', '"step": 2')
        path.write_text("\n".join(lines) + "\n")
    else:
        path.unlink()
    harmed = path.read_bytes() if path.exists() else None
    pretrain(out=run, resume=True)
    assert same(saved_weights(run), saved_weights(runs / "whole"))
    log = (run / "log.txt").read_text()
    aside = run / "metrics-damaged-1.jsonl"
    if said is None:
        assert "metrics.jsonl" not in log
        assert run_losses(run) == run_losses(runs / "whole")
        assert not aside.exists()
        return
    assert said in log
    assert (aside.read_bytes() if aside.exists() else None) == harmed
    kept = {"two lines": {1, 3, 5, 6, 7}, "a number": {1, 2, 4, 5, 6, 7}, "gone": set()}[damage]
    found = run_losses(run)
    assert found.keys() == kept | {8, 9, 10}
    assert all(found[step] == before[step] for step in kept - {2})


def test_going_on_from_the_older_checkpoint_as_the_message_says(run, runs):
    (run / "checkpoints" / NEWEST / OPTIMIZER).write_bytes(b"")
    refused(run, OPTIMIZER)
    (run / "checkpoints" / "latest").write_text(f"{OLDER}\n")
    pretrain(out=run, resume=True)
    assert same(saved_weights(run), saved_weights(runs / "whole"))
    assert checkpoint_of(run).name == "step-00000010"


def test_without_another_whole_checkpoint_the_message_says_so(run):
    for name in (OLDER, NEWEST):
        (run / "checkpoints" / name / OPTIMIZER).write_bytes(b"")
    said = refused(run, f"{NEWEST}/{OPTIMIZER}", whole=False)
    assert said.endswith("No other checkpoint of the run is whole: start another run, with out=NEW")
