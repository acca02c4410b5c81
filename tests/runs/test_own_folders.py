"""Users' own folders are never removed, and nothing is written through a link."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from small_run import SMALL, run_losses, same, saved_weights

from convnextv2 import load, pretrain
from convnextv2.engine import state
from convnextv2.engine.optim import adamw
from convnextv2.engine.state import LoopState
from convnextv2.errors import UserError
from convnextv2.report import write_report
from convnextv2.weights.files import checkpoint_of, checkpoints_in

OWN = (
    "step-best-of-mine",
    "step-00000002-keep",
    "step-2",
    "step-000000002",
    "Step-00000002",
    "step-00000009.bak",
    "notes",
)
CONFIG = {"run": "this one"}


@pytest.fixture
def trained():
    model = torch.nn.Linear(3, 4)
    optimizer = adamw(model, lr=0.1, weight_decay=0.05, betas=(0.9, 0.95))
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def save(folder, trained, *steps, config=CONFIG, **options):
    for step in steps:
        state.save(folder, *trained, LoopState(step, 0.0), {}, config=config, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_folders_of_other_names_stay_and_do_not_disturb_which_steps_exist(tmp_path, trained):
    folder = tmp_path / "checkpoints"
    for name in OWN:
        (folder / name).mkdir(parents=True)
        (folder / name / "thesis.tex").write_text("precious")
    (folder / "step-00000003").symlink_to(folder / "notes")
    save(folder, trained, 1, 2, 4, 5)
    assert checkpoints_in(folder) == ["step-00000004", "step-00000005"]
    assert names(folder) == sorted([*OWN, "step-00000003", "step-00000004", "step-00000005", "latest"])
    assert all((folder / name / "thesis.tex").read_text() == "precious" for name in OWN)


def test_a_folder_with_the_name_of_a_checkpoint_stays_unless_it_is_one_of_this_run(tmp_path, trained):
    folder = tmp_path / "checkpoints"
    save(tmp_path / "other" / "checkpoints", trained, 1, 7, config={"run": "another"})
    save(folder, trained, 3)
    shutil.copytree(tmp_path / "other" / "checkpoints" / "step-00000001", folder / "step-00000001")
    (folder / "step-00000002").mkdir()
    (folder / "step-00000002" / "model.safetensors").write_text("mine")
    (folder / "step-00000003" / "notes.txt").write_text("a good one")
    save(folder, trained, 4, 5, 6)
    kept = [f"step-0000000{step}" for step in (1, 2, 3, 5, 6)]
    assert names(folder) == sorted([*kept, "latest"])


def test_what_stands_in_the_way_of_a_checkpoint_is_kept_under_another_name(tmp_path, trained):
    folder, said = tmp_path / "checkpoints", []
    for step in (1, 2):
        (folder / f"step-0000000{step}").mkdir(parents=True)
        (folder / f"step-0000000{step}" / "thesis.tex").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("precious")
    (folder / "step-00000003").symlink_to(tmp_path / "elsewhere")
    save(folder, trained, 1, 2, 3, tell=said.append)
    assert checkpoint_of(tmp_path) == folder / "step-00000003"
    assert not (folder / "step-00000003").is_symlink()
    assert sorted(path.read_text() for path in folder.glob("step-0000000?-kept-*/thesis.tex")) == ["precious"] * 2
    assert (tmp_path / "elsewhere" / "file").read_text() == "precious"
    assert [
        f"step-0000000{step} was no checkpoint of this run: it is kept as" in line for step, line in enumerate(said, 1)
    ] == [True] * 3


def test_only_partial_files_of_ours_are_tidied(tmp_path, trained):
    folder = tmp_path / "checkpoints"
    save(folder, trained, 1)
    own = [".step-00000004.partial", ".step-00000004.0123456789ab.partial"]
    theirs = [".mine.partial", ".step-4.partial", "step-00000004.partial", ".step-00000004.partial.bak"]
    for name in (*own, *theirs):
        (folder / name).mkdir()
    (folder / ".latest.0123456789ab.partial").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("precious")
    (folder / ".step-00000005.partial").symlink_to(tmp_path / "elsewhere")
    state.repair(folder)
    assert names(folder) == sorted([*theirs, ".step-00000005.partial", "step-00000001", "latest"])
    assert (tmp_path / "elsewhere" / "file").read_text() == "precious"


@pytest.fixture(scope="module")
def finished(picture_folder, tmp_path_factory):
    return pretrain(picture_folder, tmp_path_factory.mktemp("run") / "run", **SMALL, epochs=1).run


FILES = (".lock", "log.txt", "metrics.jsonl", "config.json", "report.html", "checkpoints/latest")
FOLDERS = ("checkpoints", "pictures", "tensorboard")


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_run_with_a_link_in_it_is_not_resumed(name, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    victim = tmp_path / "victim"
    (run / name).rename(victim) if (run / name).exists() else victim.mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (run / name).symlink_to(victim)
    with pytest.raises(UserError, match=rf"{name} is a link to {victim}, and a run writes only into its own folder"):
        pretrain(out=run, resume=True)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("name", [".lock", "log.txt", "checkpoints", "tensorboard", ".config.json.partial"])
@pytest.mark.parametrize("to", ["a file", "a folder", "nothing"])
def test_a_new_folder_with_a_link_in_it_is_not_used(name, to, picture_folder, tmp_path):
    run, victim = tmp_path / "run", tmp_path / "victim"
    run.mkdir()
    if to == "a file":
        victim.write_text("precious")
    elif to == "a folder":
        victim.mkdir()
        (victim / ".step-00000001.partial").write_text("precious")
    (run / name).symlink_to(victim)
    if name == ".config.json.partial":  # a name that is not used: nothing is written through it
        pretrain(picture_folder, run, **SMALL, epochs=1)
    else:
        with pytest.raises(UserError, match=r"is a link to .*victim|is not empty"):
            pretrain(picture_folder, run, **SMALL, epochs=1)
    assert victim.exists() == (to != "nothing")
    if to == "a file":
        assert victim.read_text() == "precious"
    if to == "a folder":
        assert [path.read_text() for path in victim.iterdir()] == ["precious"]


@pytest.mark.parametrize("name", [".lock", "log.txt", "metrics.jsonl", "checkpoints"])
def test_what_is_neither_file_nor_folder_does_not_hang_a_run(name, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(UserError, match=rf"{name} is no (file|folder)"):
        pretrain(out=run, resume=True)


def test_the_page_replaces_a_link_and_does_not_follow_it(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (run / "report.html").unlink()
    (run / "report.html").symlink_to(victim)
    assert "<html" in write_report(run).read_text()
    assert victim.read_text() == "precious"
    assert not (run / "report.html").is_symlink()


def test_the_folder_itself_may_be_a_link_to_another_disk(picture_folder, finished, tmp_path):
    (tmp_path / "disk" / "run").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=1)
    pretrain(out=tmp_path / "run", resume=True)
    assert same(saved_weights(tmp_path / "disk" / "run"), saved_weights(finished))


def test_a_hard_linked_copy_of_a_run_leaves_the_first_as_it_was(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    subprocess.run(["cp", "-al", run, tmp_path / "copy"], check=True)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    pretrain(out=tmp_path / "copy", resume=True)
    assert (tmp_path / "copy" / "log.txt").read_bytes() != before[run / "log.txt"]
    assert {path: path.read_bytes() for path in before} == before
    assert run_losses(tmp_path / "copy") == run_losses(run)


@pytest.mark.parametrize("pointer", ["../../elsewhere", "/etc", "step-00000005/../../../elsewhere"])
def test_the_newest_checkpoint_never_lies_outside(pointer, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(run / "checkpoints" / "step-00000005", tmp_path / "elsewhere")
    (run / "checkpoints" / "latest").write_text(pointer)
    with pytest.raises(UserError, match="latest is damaged: it names no checkpoint"):
        load(run)
    (run / "checkpoints" / "latest").write_text("step-00000005")
    shutil.rmtree(run / "checkpoints" / "step-00000005")
    (run / "checkpoints" / "step-00000005").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="latest names step-00000005, which is a link and no folder"):
        load(run)


def test_two_processes_find_other_names_for_their_partial_files(tmp_path):
    from convnextv2.atomic import partial_name

    assert len({partial_name(tmp_path / "model.safetensors") for _ in range(100)}) == 100
    assert partial_name(Path("x" * 250)).name < "x" * 250
