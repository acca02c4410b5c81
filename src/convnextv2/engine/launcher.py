"""What started this process: by itself, torchrun, or SLURM's srun. Read from the environment; needs no torch."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convnextv2.errors import UserError


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together.

    rank: 0 to world_size - 1.  local_rank: among those of this machine.  local_world_size: how many these are.
    address, port: where the process of rank 0 is reached; None and 0 for one process alone.
    by: the launcher's name; empty for one process alone.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    address: str | None = None
    port: int = 0
    by: str = ""


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return how this process was started, by the variables that launchers set.

    `RANK` and `WORLD_SIZE` (torchrun, submitit's helper, Kubeflow's older operator) come first, then those of a task of
    `srun`, then one process alone. Under `srun` the first node of the step is where the processes meet, at a port that
    follows from the job's number; `MASTER_ADDR` and `MASTER_PORT` have precedence.

    Raises UserError if the variables contradict each other, or say that processes are missing.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return _of_torch(environment)
    tasks = _slurm_tasks(environment)
    if tasks > 1:
        return _of_slurm(environment, tasks)
    nodes = environment.get("PET_NNODES", "1").partition(":")[0]
    if nodes.isdigit() and int(nodes) > 1:
        raise UserError(
            f"PET_NNODES is {nodes}, but this process was not started by torchrun, and each node would train alone: "
            "put `torchrun -m` before `convnextv2`"
        )
    return Launch()


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the process that speaks for all; True if the variables make no sense."""
    return environment.get("RANK", environment.get("SLURM_PROCID", "0")) == "0" or _alone(environment)


def _alone(environment: Mapping[str, str]) -> bool:
    try:
        return read_launch(environment).world_size == 1
    except UserError:
        return True


def restarts(environment: Mapping[str, str] = os.environ) -> int:
    """Return how often torchrun has started this run again (`--max-restarts`)."""
    return _number(environment, "TORCHELASTIC_RESTART_COUNT", 0)


def launcher_started(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return when torchrun was started, in seconds since 1970; None without it, or if the system does not tell.

    It is the parent process, which outlives the processes that it starts again.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        return None
    try:
        fields = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return time.time() - up + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _of_torch(environment: Mapping[str, str]) -> Launch:
    world = _number(environment, "WORLD_SIZE", 1)
    if world > 1 and "RANK" not in environment:
        raise UserError(f"WORLD_SIZE is {world}, but RANK is not set: start the processes with torchrun, or set both")
    rank = _number(environment, "RANK", 0)
    if not 0 <= rank < max(world, 1):
        raise UserError(f"RANK is {rank} and WORLD_SIZE {world}: ranks go from 0 to WORLD_SIZE - 1")
    if world < 2:
        return Launch()
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environment]:
        raise UserError(
            f"{' and '.join(missing)} must say where the process of rank 0 is reached: set them, or start the "
            "processes with torchrun"
        )
    return Launch(
        rank,
        world,
        _number(environment, "LOCAL_RANK", 0),
        _number(environment, "LOCAL_WORLD_SIZE", 1),
        environment["MASTER_ADDR"],
        _number(environment, "MASTER_PORT", 0),
        "torchrun" if "TORCHELASTIC_RUN_ID" in environment else "the environment",
    )


def _slurm_tasks(environment: Mapping[str, str]) -> int:
    """How many tasks srun started with this one; 1 outside of it, also in a batch script of a job with more."""
    if "SLURM_PROCID" not in environment:
        return 1
    of_step = "SLURM_STEP_NUM_TASKS" in environment or "SLURM_STEP_ID" in environment
    if environment.get("ENVIRONMENT") == "BATCH" and not of_step:
        return 1
    return _number(environment, "SLURM_STEP_NUM_TASKS", _number(environment, "SLURM_NTASKS", 1))


def _of_slurm(environment: Mapping[str, str], tasks: int) -> Launch:
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    address = environment.get("MASTER_ADDR") or first_node(nodes) or environment.get("SLURM_LAUNCH_NODE_IPADDR")
    if not address:
        raise UserError(
            "SLURM does not name this job's nodes: set MASTER_ADDR to the node of the first task, and MASTER_PORT to a "
            "free port there"
        )
    job = _number(environment, "SLURM_JOB_ID", 0) + _number(environment, "SLURM_STEP_ID", 0)
    on_nodes = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE", "")
    return Launch(
        _number(environment, "SLURM_PROCID", 0),
        tasks,
        _number(environment, "SLURM_LOCALID", 0),
        _tasks_of(on_nodes, _number(environment, "SLURM_NODEID", 0)),
        address,
        _number(environment, "MASTER_PORT", 12_000 + job % 20_000),  # below the ports that systems give out
        "srun",
    )


def first_node(nodes: str) -> str:
    """Return the first host of SLURM's short form of a list: `gpu[003-007,9],login` begins with `gpu003`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first[0]) if first else ""


def _tasks_of(counts: str, node: int) -> int:
    """The tasks on a node by SLURM's short form: `2(x3),1` is 2, 2, 2 and 1."""
    each: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", counts):
        each += [int(count)] * int(times or 1)
    return each[node] if node < len(each) else 1


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(environment.get(name, default))
    except ValueError:
        raise UserError(f"the environment's {name} is {environment[name]!r}, where a whole number must be") from None
