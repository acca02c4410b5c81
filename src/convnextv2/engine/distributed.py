"""One process or many: rank, device, and values over all processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from convnextv2.errors import ConvNeXtV2Error, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """This process among `world_size`, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def mean(self, values: list[float]) -> list[float]:
        """Return the average of each value over all processes."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return (tensor / self.world_size).tolist()

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, on every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, decide: Callable[[], T]) -> T:
        """Return what the main process decides, on every process; an error of ours there is raised on all."""
        outcome: list[Any] = [None]
        if self.is_main:
            try:
                outcome = [decide()]
            except ConvNeXtV2Error as error:
                outcome = [error]
        if self.world_size > 1:
            dist.broadcast_object_list(outcome)
        if isinstance(outcome[0], ConvNeXtV2Error):
            raise outcome[0]
        return outcome[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Copy the main process's buffers to all: running statistics differ, as each process has its own images."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        if self.world_size > 1:
            dist.barrier()

    def local_share(self, amount: int) -> int:
        """Return this process's share of something that the processes of one machine divide, at least 1."""
        return max(1, amount // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))

    def close(self) -> None:
        """Close the group of processes, if there is one."""
        if dist.is_initialized():
            dist.destroy_process_group()


def init(device: str = "auto") -> DistributedContext:
    """Return this process's context: in the process group under `torchrun`, otherwise of one process.

    device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    chosen = _device(device, local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world)
    return DistributedContext(rank, world, chosen)


def _device(name: str, local_rank: int) -> torch.device:
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
    if number and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(f"--device {name}: each of several processes takes a GPU of its own; use --device cuda")
    index = int(number) if number else local_rank
    if index >= count:
        raise UserError(
            f"--device {name}: this machine has {count} GPUs, numbered from 0; number {index} does not exist"
        )
    return torch.device("cuda", index)
