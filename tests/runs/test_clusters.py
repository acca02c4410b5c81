"""Runs of several processes, started as docs/clusters.md says, as far as one machine can: gloo on loopback."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import SMALL, run_losses, small_flags

from convnextv2 import pretrain
from convnextv2.engine.state import name_of
from convnextv2.weights.files import checkpoint_of

DOCS = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
CLUSTER = re.compile(r"RANK|WORLD_SIZE|MASTER_|SLURM_|PET_|SKYPILOT_|TORCHELASTIC_")

# The command, in which the process of rank 1 does something in its eighth step, once.
SABOTAGE = """
import multiprocessing, os, signal, sys
from pathlib import Path
from convnextv2.cli import main
from convnextv2.engine.launcher import read_launch
from convnextv2.tasks.pretrain.task import PretrainTask

run, marker, step = Path(sys.argv[sys.argv.index("--out") + 1]), Path(__file__).with_name("kill"), PretrainTask.step

def fail(self, model, batch):
    log = run / "metrics.jsonl"
    if read_launch().rank == 1 and marker.exists() and log.exists() and log.read_text().count('"train"') >= 7:
        victim = {"worker": multiprocessing.active_children()[0].pid, "process": os.getpid()}[marker.read_text()]
        marker.unlink()
        os.kill(victim, signal.SIGKILL)
    return step(self, model, batch)

PretrainTask.step = fail
main()
"""


@pytest.fixture(scope="module")
def one(picture_folder, tmp_path_factory):
    """The losses of a run of 20 steps in one process."""
    return run_losses(pretrain(picture_folder, tmp_path_factory.mktemp("run") / "one", **SMALL, epochs=4).run)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def on_nodes(line, each, **variables):
    """Run a command as on two machines, `each(node)` the variables of one; returns (exit code, output) of both."""
    clean = {name: value for name, value in os.environ.items() if not CLUSTER.match(name)}
    clean |= {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}"} | variables
    nodes = [
        subprocess.Popen(
            [*map(str, line)], env=clean | each(node), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for node in range(2)
    ]
    said = [node.communicate(timeout=240)[0] for node in nodes]
    return [(node.returncode, text) for node, text in zip(nodes, said, strict=True)]


def flags(picture_folder, run, **changes):
    given = ["pretrain", "--data", picture_folder, "--out", run, *small_flags(epochs=4, device="cpu", **changes)]
    return list(map(str, given))


def assert_follows(run, one):
    found = run_losses(run)
    assert sorted(found) == list(range(1, 21))
    assert max(abs(found[step] / one[step] - 1) for step in found) <= 1e-5


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_and_torchrun_goes_on_without_resume(picture_folder, tmp_path, one):
    """Two agents that meet at one address, `--max-restarts 1`."""
    run, script = tmp_path / "run", tmp_path / "command.py"
    script.write_text(SABOTAGE)
    (tmp_path / "kill").write_text("process")
    meet = f"127.0.0.1:{free_port()}"
    torchrun = ["torchrun", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", meet]
    line = [*torchrun, "--max-restarts", "1", script, *flags(picture_folder, run)]
    nodes = on_nodes(line, lambda node: {})
    assert [code for code, _ in nodes] == [0, 0], nodes
    log = (run / "log.txt").read_text()
    assert re.search(
        r"failed: process 0 of 2 lost the others while .*; saved .*step-0000000\d; continue with --res", log
    )
    assert "torchrun has started this run again: it goes on from its newest checkpoint" in log
    assert re.search(r"resuming from .*step-0000000\d", log)
    assert_follows(run, one)


@pytest.mark.slow
def test_tasks_of_srun_leave_together_when_a_worker_of_one_dies(picture_folder, tmp_path, one):
    """With SLURM's variables only; then they go on with those that submitit's helper exports."""
    run, script = tmp_path / "run", tmp_path / "command.py"
    script.write_text(SABOTAGE)
    (tmp_path / "kill").write_text("worker")

    def srun(task):
        step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
        return step | {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_STEP_TASKS_PER_NODE": "2"}

    job = {"SLURM_JOB_ID": str(free_port()), "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "localhost"}
    nodes = on_nodes([sys.executable, script, *flags(picture_folder, run)], srun, **job)
    assert [code for code, _ in nodes] == [1, 1], nodes
    lines = [line for _, text in nodes for line in text.splitlines() if line.startswith("convnextv2: ")]
    assert len(lines) == 1, "said once for both"
    assert re.search(r"worker 1 of 1, .* was killed by SIGKILL .*; saved .*; continue with --resume", lines[0])
    assert checkpoint_of(run).name == name_of(max(run_losses(run)))
    assert 7 <= max(run_losses(run)) < 20

    def exported(task):
        return {"RANK": str(task), "WORLD_SIZE": "2", "LOCAL_RANK": str(task), "LOCAL_WORLD_SIZE": "2"} | srun(task)

    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    again = [sys.executable, "-m", "convnextv2", "pretrain", "--out", run, "--resume", "--device", "cpu"]
    nodes = on_nodes(again, exported, **job, **where)
    assert [code for code, _ in nodes] == [0, 0], nodes
    assert_follows(run, one)


def documented(title):
    """The shell command of a section of docs/clusters.md, up to this package's arguments."""
    section = DOCS.split(f"\n## {title}\n")[1].split("\n## ")[0]
    if title == "Kubeflow Trainer v2":
        return re.search(r"command: \[(.*)\]", section)[1].replace(",", "")
    command = re.search(r"^ *(torchrun --nnodes(?:.*\\\n)*.*)$", section, re.MULTILINE)[1]
    return command.split(" pretrain ")[0]


@pytest.mark.slow
@pytest.mark.parametrize("title", ["torchrun", "Kubeflow Trainer v2", "SkyPilot"])
def test_the_documented_command_is_one_run_on_two_nodes(picture_folder, tmp_path, one, title):
    port = str(free_port())

    def node(number):
        pet = {"NNODES": "2", "NODE_RANK": str(number), "NPROC_PER_NODE": "1", "MASTER_ADDR": "127.0.0.1"}
        sky = {"NUM_NODES": "2", "NODE_RANK": str(number), "NUM_GPUS_PER_NODE": "1", "NODE_IPS": "127.0.0.1\n127.0.0.2"}
        return {
            "torchrun": {},
            "Kubeflow Trainer v2": {f"PET_{name}": value for name, value in pet.items()} | {"PET_MASTER_PORT": port},
            "SkyPilot": {f"SKYPILOT_{name}": value for name, value in sky.items()},
        }[title]

    command = documented(title).replace("node1:29500", f"127.0.0.1:{port}").replace("8008", port)
    command = command.replace("--nproc-per-node 8", "--nproc-per-node 1")
    run = tmp_path / "run"
    nodes = on_nodes(["bash", "-c", f'{command} "$@"', "bash", *flags(picture_folder, run)], node)
    assert [code for code, _ in nodes] == [0, 0], nodes
    assert_follows(run, one)
