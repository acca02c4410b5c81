"""Several processes, of gloo on loopback: they find each other, wait for each other, and miss each other."""

import multiprocessing
import os
import re
import signal
import socket
import time

import pytest
import torch
import torch.distributed as dist

from convnextv2.engine import distributed
from convnextv2.errors import ConvNeXtV2Error, RunFailedError, UserError


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def together(work, count=2, **variables):
    """Run `work(rank)` in processes started as by a launcher; returns what each returned, or its error of ours."""
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **variables}
    fork, ends = multiprocessing.get_context("fork"), []

    def run(rank, end):
        os.environ.update({name: value.format(rank=rank) for name, value in environment.items()})
        try:
            end.send(work(rank))
        except ConvNeXtV2Error as error:
            end.send(error)
        finally:
            end.close()
            os._exit(0)

    for rank in range(count):
        here, there = fork.Pipe(duplex=False)
        process = fork.Process(target=run, args=(rank, there))
        process.start()
        there.close()
        ends.append((here, process))
    found = []
    for here, process in ends:
        try:
            found.append(here.recv() if here.poll(60) else "hangs")
        except EOFError:
            found.append("died")
        process.kill()
        process.join()
    return found


BY_TORCH = {"RANK": "{rank}", "WORLD_SIZE": "2", "LOCAL_RANK": "{rank}", "LOCAL_WORLD_SIZE": "2"}
BY_SRUN = {"SLURM_PROCID": "{rank}", "SLURM_NTASKS": "2", "SLURM_LOCALID": "{rank}", "SLURM_TASKS_PER_NODE": "2"}


@pytest.mark.parametrize("launcher", [BY_TORCH, BY_SRUN], ids=["torchrun", "srun"])
def test_they_find_each_other_and_share_values_twice_in_a_row(launcher):
    def work(rank):
        found = []
        for again in range(2):
            context = distributed.init("cpu")
            assert (context.rank, context.world_size, context.local_share(8)) == (rank, 2, 4)
            found += [context.mean([rank + again, 1.0]), context.gather(rank), context.broadcast(lambda: "first")]
            found.append(context.gather_each(lambda: rank * 10))
            context.close()
            assert not dist.is_initialized()
        return found

    expected = [[0.5, 1.0], [0, 1], "first", [0, 10], [1.5, 1.0], [0, 1], "first", [0, 10]]
    assert together(work, **launcher) == [expected] * 2


def test_an_error_on_one_is_an_error_on_all_and_said_once():
    def work(rank):
        context = distributed.init("cpu")

        def fail():
            if rank == 1:
                raise RunFailedError("the disk of the second is full")

        try:
            context.gather_each(fail)
        except RunFailedError as error:
            return str(error), error.everywhere

    assert together(work, **BY_TORCH) == [("the disk of the second is full", True)] * 2


def test_a_process_that_dies_is_missed_at_once():
    def work(rank):
        context = distributed.init("cpu")
        context.mean([1.0])
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        context.mean([1.0])

    first, second = together(work, **BY_TORCH)
    assert second == "died"
    assert isinstance(first, RunFailedError)
    assert re.match(
        r"process 0 of 2 lost the others while it waited for the loss of all: .*--timeout 30", first.args[0]
    )


def test_a_late_process_is_named_and_so_is_the_setting():
    def work(rank):
        context = distributed.init("cpu", minutes=0.05)
        if rank == 1:
            time.sleep(5)
            return
        context.meet("listed the images")

    assert str(together(work, **BY_TORCH)[0]) == (
        "of 2 processes, rank 1 has not yet listed the images, after 0.05 minutes; give more with timeout"
    )


def test_processes_that_never_come_are_named():
    def work(rank):
        distributed.init("cpu", minutes=0.05)

    (alone,) = together(work, count=1, **BY_TORCH)
    assert re.match("of 2 processes, rank 1 has not yet started, after 0.05 minutes", str(alone))
    (lost,) = together(work, count=1, **BY_TORCH | {"RANK": "1"})
    assert re.match(r"process 1 of 2 cannot meet the others at 127.0.0.1:\d+, where rank 0 must be", str(lost))


def test_a_group_that_the_caller_made_is_joined_and_left_standing():
    def work(rank):
        dist.init_process_group("gloo", rank=1 - rank, world_size=2)  # not the rank of the environment
        context = distributed.init("auto")
        assert context.rank == dist.get_rank() == 1 - rank
        assert (context.world_size, context.device, context.local_share(8)) == (2, torch.device("cpu"), 4)
        context.meet("listed the images")
        found = context.gather(context.rank)
        context.close()
        assert dist.is_initialized()
        dist.barrier()
        return found

    assert together(work, **BY_TORCH) == [[0, 1]] * 2


def test_in_a_callers_group_its_own_choice_of_a_gpu_counts(gpus, monkeypatch):
    monkeypatch.setattr(dist, "get_rank", lambda: 5)
    monkeypatch.setattr(dist, "get_world_size", lambda: 8)
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    monkeypatch.setattr(distributed.DistributedContext, "gather", lambda self, value: ["here"] * 4 + [value] * 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    gpus(4)
    assert distributed._joined("auto").device == torch.device("cuda", 1)
    assert distributed._joined("auto").local_world_size == 4
    gpus(4, chosen=3)
    assert distributed._joined("auto").device == torch.device("cuda", 3)
    monkeypatch.setenv("LOCAL_RANK", "2")
    gpus(4)
    assert distributed._joined("auto").device == torch.device("cuda", 2)
    with pytest.raises(UserError, match="the caller's process group is one of GPUs"):
        distributed._joined("cpu")


def test_two_processes_on_one_gpu_are_refused(monkeypatch):
    class Properties:
        uuid = "GPU-1"

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    store, cuda = dist.HashStore(), torch.device("cuda", 0)
    distributed._own_gpu(distributed.DistributedContext(0, 2, cuda, 2, store=store))
    with pytest.raises(UserError, match=r"process 1 would share a GPU .*shows 1 to 2 processes; start one for each"):
        distributed._own_gpu(distributed.DistributedContext(1, 2, cuda, 2, store=store))
