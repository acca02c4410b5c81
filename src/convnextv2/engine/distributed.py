"""One process or many: rank, device, and values over all processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

from convnextv2.engine import signals
from convnextv2.engine.launcher import Launch, read_launch
from convnextv2.engine.rendezvous import meet_all, wait_for
from convnextv2.errors import ConvNeXtV2Error, RunFailedError, UserError
from convnextv2.text import one_line

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """This process among `world_size`, and its device.

    local_world_size: processes on this machine.  minutes: how long processes wait for each other.
    store: of the group that `init` made; None for one process alone, and in a group that the caller made.
    """

    rank: int
    world_size: int
    device: torch.device
    local_world_size: int = 1
    minutes: float = 30.0
    store: Store | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    @contextmanager
    def awaiting(self, what: str) -> Iterator[None]:
        """Inside, an error of the communication is a RunFailedError that names what was awaited."""
        try:
            yield
        except RuntimeError as error:
            if self.world_size == 1 or isinstance(error, ConvNeXtV2Error) or not _of_communication(error):
                raise
            raise RunFailedError(
                f"process {self.rank} of {self.world_size} lost the others while it waited for {what}: one of them "
                f"ended, and says why itself, or took longer than --timeout {self.minutes:g} (minutes) "
                f"({one_line(error, 100)})"
            ) from error

    def mean(self, values: list[float]) -> list[float]:
        """Return the average of each value over all processes."""
        if self.world_size == 1:
            return values
        with self.awaiting("the loss of all"):
            tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
            dist.all_reduce(tensor)
            return (tensor / self.world_size).tolist()

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, on every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with self.awaiting("the results of all"):
            dist.all_gather_object(values, value)
        return values

    def gather_each(self, compute: Callable[[], T]) -> list[T]:
        """Return what every process computes by itself, on every process; an error of ours on one is raised on all.

        A signal that stops the run ends the computation at once, and `signals.Interrupted` is raised on all.
        """
        result: tuple[T | Any, ConvNeXtV2Error | None, int | None]
        try:
            with signals.interruptible():
                result = compute(), None, None
        except ConvNeXtV2Error as error:
            result = None, error, None
        except signals.Interrupted as stop:
            result = None, None, stop.signal
        everyone: list[Any] = self.gather(result)
        for _, error, stop in everyone:
            if error is not None:
                error.everywhere = True
                raise error
            if stop is not None:
                raise signals.Interrupted(stop)
        return [value for value, _, _ in everyone]

    def broadcast(self, decide: Callable[[], T]) -> T:
        """Return what the main process decides, on every process; an error of ours there is raised on all."""
        outcome: list[Any] = [None]
        if self.is_main:
            try:
                outcome = [decide()]
            except ConvNeXtV2Error as error:
                outcome = [error]
        if self.world_size > 1:
            with self.awaiting("what the first process decides"):
                dist.broadcast_object_list(outcome)
        if isinstance(outcome[0], ConvNeXtV2Error):
            outcome[0].everywhere = True
            raise outcome[0]
        return outcome[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Copy the main process's buffers to all: running statistics differ, as each process has its own images."""
        if self.world_size > 1:
            with self.awaiting("the model's buffers"):
                for buffer in model.buffers():
                    dist.broadcast(buffer, 0)

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        if self.world_size > 1:
            with self.awaiting("all to come this far"):
                dist.barrier()

    def meet(self, what: str) -> None:
        """Wait until every process has called this with the same words, for what may take long and differ: listing.

        what: what each has done then, as "listed the images"; used once. Tells after a while which processes are
        awaited, and raises RunFailedError that names them after `minutes`.
        """
        if self.store is None:
            self.barrier()
            return
        store, is_first = self.store, not any(self.store.check([f"{what}/{rank}"]) for rank in range(self.rank))
        store.set(f"{what}/{self.rank}", "")
        wait_for(
            range(self.world_size),
            lambda rank: store.check([f"{what}/{rank}"]),
            what,
            self.world_size,
            self.minutes,
            tell=is_first,
        )

    def local_share(self, amount: int) -> int:
        """Return this process's share of something that the processes of one machine divide, at least 1."""
        return max(1, amount // self.local_world_size)

    def close(self) -> None:
        """Close the group of processes that `init` made; one that the caller made is left as it is."""
        if self.store is not None and dist.is_initialized():
            dist.destroy_process_group()


def init(device: str = "auto", *, minutes: float = 30.0) -> DistributedContext:
    """Return this process's context: of one process, or in a process group.

    If the caller has made a process group, it is joined by its own rank, and stays as it is. Otherwise one is made of
    the processes that were started together, by torchrun or srun (see `launcher.read_launch`).

    device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...  minutes: how long processes wait for each
    other, in a group that is made here.

    Raises UserError if the device does not exist, or is that of another process, too; RunFailedError if the processes
    do not find each other.
    """
    if dist.is_initialized():
        return _joined(device)
    launch = read_launch()
    chosen = device_of(device, launch)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if launch.world_size == 1:
        return DistributedContext(0, 1, chosen)
    store = meet_all(launch, minutes)
    context = DistributedContext(launch.rank, launch.world_size, chosen, launch.local_world_size, minutes, store)
    _own_gpu(context)
    with context.awaiting("the group of processes"):
        dist.init_process_group(
            "nccl" if chosen.type == "cuda" else "gloo",
            store=store,
            rank=launch.rank,
            world_size=launch.world_size,
            timeout=timedelta(minutes=minutes),
        )
    return context


def device_of(name: str, launch: Launch | None = None) -> torch.device:
    """Return the device that a name stands for, for this process.

    name: as for `init`.  launch: this process among others it works with; None for one that works alone.

    Of several processes on a machine each takes the GPU of its local rank. Where fewer are visible than there are
    processes, each has been given its own (SLURM's `--gpus-per-task=1`, submitit), and they are taken in turn.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UserError(f"--device {name}: no such device; use auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if not torch.cuda.is_available():
        raise UserError(f"--device {name}: torch finds no GPU here; use --device cpu")
    if number and launch is not None and launch.world_size > 1:
        raise UserError(f"--device {name}: each of several processes takes a GPU of its own; use --device cuda")
    if int(number or 0) >= count:
        raise UserError(
            f"--device {name}: this machine has {count} GPUs, numbered from 0; number {number} does not exist"
        )
    if number:
        return torch.device("cuda", int(number))
    local_rank = _local_rank(torch.cuda.current_device()) if launch is None else launch.local_rank
    return torch.device("cuda", local_rank % count)


def _joined(device: str) -> DistributedContext:
    """The context in a group that the caller made: its rank, and its device if it has set one."""
    rank, world = dist.get_rank(), dist.get_world_size()
    chosen = device_of(device, Launch(rank, world, _local_rank(rank)))
    if chosen.type == "cuda":
        current = torch.cuda.current_device()
        chosen = torch.device("cuda", current) if current else chosen  # 0 is also what nobody has set
        torch.cuda.set_device(chosen)
    elif dist.get_backend() == "nccl":
        raise UserError(f"--device {device}: the caller's process group is one of GPUs (nccl); use --device cuda")
    context = DistributedContext(rank, world, chosen)
    hosts = context.gather(socket.gethostname())
    return DistributedContext(rank, world, chosen, hosts.count(socket.gethostname()))


def _local_rank(default: int) -> int:
    """This process's number on its machine, if its launcher says."""
    found = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or ""
    return int(found) if found.isdigit() else default


def _own_gpu(context: DistributedContext) -> None:
    """Raise UserError if two processes of this machine have taken the same GPU."""
    if context.device.type != "cuda" or context.store is None:
        return
    gpu = getattr(torch.cuda.get_device_properties(context.device), "uuid", None)
    if gpu is not None and context.store.add(f"{socket.gethostname()}/{gpu}", 1) > 1:
        raise UserError(
            f"process {context.rank} would share a GPU with another one: this machine shows {torch.cuda.device_count()}"
            f" to {context.local_world_size} processes; start one for each (torchrun --nproc-per-node), or let the "
            "scheduler give each its own"
        )


def _of_communication(error: RuntimeError) -> bool:
    words = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in words or "nccl" in words or "by peer" in words
