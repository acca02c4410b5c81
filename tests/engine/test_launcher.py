"""How a process learns what started it, by the variables that launchers set; and which device it takes."""

import pytest
import torch

from convnextv2.engine import distributed
from convnextv2.engine.launcher import Launch, first_node, is_first, read_launch, restarts
from convnextv2.errors import UserError

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1",
    "MASTER_ADDR": "node1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0",
}  # fmt: skip
BATCH = {  # what a batch script has, and every task of srun in it
    "ENVIRONMENT": "BATCH", "SLURM_JOB_ID": "200505", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "gpu[003-004]", "SLURM_TASKS_PER_NODE": "4(x2)",
}  # fmt: skip
SRUN = BATCH | {
    "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NODELIST": "gpu[003-004]",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}  # fmt: skip


def test_a_process_alone():
    assert read_launch({}) == Launch()
    assert read_launch({"RANK": "0", "WORLD_SIZE": "1"}) == Launch()


def test_torchrun_and_what_sets_its_variables():
    assert read_launch(TORCHRUN) == Launch(5, 8, 1, 4, "node1", 29500, "torchrun")
    assert read_launch(TORCHRUN | SRUN) == read_launch(TORCHRUN), "torchrun inside srun"
    of_submitit = {name: TORCHRUN[name] for name in [*list(TORCHRUN)[:4], "MASTER_ADDR", "MASTER_PORT"]}
    assert read_launch(SRUN | of_submitit) == Launch(5, 8, 1, 4, "node1", 29500, "the environment")
    # Kubeflow's older operator: one process a pod
    pods = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456", "PET_NNODES": "2"}
    assert read_launch(pods) == Launch(1, 2, 0, 1, "job-master-0", 23456, "the environment")
    assert restarts(TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2"}) == 2


def test_a_task_of_srun():
    assert read_launch(SRUN) == Launch(5, 8, 1, 4, "gpu003", 12_000 + 200507 % 20_000, "srun")
    assert read_launch(SRUN | {"MASTER_ADDR": "ib3", "MASTER_PORT": "7"}).address == "ib3"
    assert read_launch(SRUN | {"MASTER_ADDR": "ib3", "MASTER_PORT": "7"}).port == 7
    few = {name: SRUN[name] for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_LAUNCH_NODE_IPADDR")}
    assert read_launch(few) == Launch(5, 8, 1, 1, "10.0.0.1", 12_000, "srun")
    assert read_launch(SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) == Launch(), (
        "srun -n1 in a larger job"
    )


def test_a_batch_script_without_srun_is_one_process():
    assert read_launch(BATCH) == Launch()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu003", "gpu003"), ("gpu[003-007,9],login", "gpu003"), ("a,b", "a"), ("rack[2-3]n[08,10]", "rack2n08"),
        ("gpu[10,20,25]", "gpu10"), ("n[1-2].cluster,x", "n1.cluster"), ("", ""),
    ],
)  # fmt: skip
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "ranks go from 0"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR and MASTER_PORT must say where"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a"}, "^MASTER_PORT must say where"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE is 'two', where a whole number"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "set MASTER_ADDR to the node of the first task"),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "0"}, "put `torchrun -m` before"),
    ],
)
def test_what_makes_no_sense_is_named(environment, says):
    with pytest.raises(UserError, match=says):
        read_launch(environment)
    assert is_first(environment) in (True, False)  # and an error can still be said


def test_who_speaks_for_all():
    assert is_first({})
    assert is_first(SRUN | {"SLURM_PROCID": "0"})
    assert not is_first(SRUN)
    assert not is_first(TORCHRUN)
    assert is_first(BATCH)
    assert is_first({"SLURM_PROCID": "3"})


@pytest.mark.parametrize(
    ("count", "local_rank", "taken"),
    [(8, 3, 3), (1, 3, 0), (1, 0, 0), (2, 3, 1), (2, 2, 0)],
    ids=["all are seen", "one a task", "the first", "two a task", "two a task, the third"],
)
def test_each_process_takes_a_gpu_it_sees(gpus, count, local_rank, taken):
    gpus(count)
    for name in ("auto", "cuda"):
        launch = Launch(local_rank, 8, local_rank, 4)
        assert distributed.device_of(name, launch) == torch.device("cuda", taken)


def test_a_device_is_chosen_or_refused(gpus, monkeypatch):
    gpus(2, chosen=1)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert distributed.device_of("cuda:1") == torch.device("cuda", 1)
    assert distributed.device_of("auto") == torch.device("cuda", 1), "the one that the caller has set"
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert distributed.device_of("auto") == torch.device("cuda", 0)
    assert distributed.device_of("cpu", Launch(1, 2)) == torch.device("cpu")
    with pytest.raises(UserError, match="2 GPUs, numbered from 0; number 2 does not exist"):
        distributed.device_of("cuda:2")
    with pytest.raises(UserError, match="each of several processes takes a GPU of its own"):
        distributed.device_of("cuda:1", Launch(1, 2))
    with pytest.raises(UserError, match="no such device"):
        distributed.device_of("tpu")
    gpus(0)
    assert distributed.device_of("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="torch finds no GPU here"):
        distributed.device_of("cuda")
