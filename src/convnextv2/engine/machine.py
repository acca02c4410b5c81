"""What machine this is: free memory, processors, versions; and how this process keeps its memory."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from convnextv2._version import __version__
from convnextv2.errors import RunFailedError


def free_bytes(device: torch.device) -> int:
    """Memory free for a run on a device; on a CPU no more than a container's limit leaves."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    return max(min([free, *_left_by_cgroups()]), 0)


def _left_by_cgroups() -> Iterator[int]:
    """Yield the bytes that each limit on this process's control group leaves, and on those above it."""
    for line in _lines("/proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2
            mount, names, cached = Path("/sys/fs/cgroup"), ("memory.max", "memory.current"), "inactive_file"
        elif "memory" in controllers.split(","):
            mount = Path("/sys/fs/cgroup/memory")
            names, cached = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"
        else:
            continue
        own = mount / group.lstrip("/")
        for folder in (own, *own.parents):
            limit, used = (_lines(str(folder / name)) for name in names)
            if limit and used and limit[0].isdigit():
                # Files that were read lately count as used, but give way when memory is wanted.
                given_way = [
                    int(words[1])
                    for line in _lines(str(folder / "memory.stat"))
                    if (words := line.split())[0] == cached
                ]
                yield int(limit[0]) - int(used[0]) + sum(given_way)
            if folder == mount:
                break


def bytes_kept(compute: Callable[[], Tensor]) -> int:
    """Return the bytes of all tensors, of any shape, that autograd keeps for the backward pass of `compute()`."""
    kept: dict[tuple[int, int], int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr(), storage.nbytes()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = compute()  # noqa: F841 (held until all is counted, so that no address is used twice)
    return sum(kept.values())


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Inside, forward passes may change buffers (running statistics); afterwards they are as before."""
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)


@cache
def keep_freed_memory() -> bool:
    """Have the C library keep memory that this process frees, for its next step; return whether it does.

    A training step on a CPU frees hundreds of megabytes and allocates the same again. glibc maps blocks of 32 MiB and
    more from the kernel and gives them back each time, and the free end of its heap, too, so that the kernel zeroes
    the same pages at every step: up to half of a processor's time. Afterwards the process keeps its largest size.
    Runs on a CPU call it, and so does `FCMAE` at its first training step there. glibc's own variables, such as
    `MALLOC_TRIM_THRESHOLD_=131072` in the environment, have precedence: then nothing is changed.
    """
    if os.environ.keys() & {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"}:
        return False
    trim_threshold, mmap_max = -1, -4  # names of glibc's malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False  # another C library
    return bool(mallopt(mmap_max, 0)) and bool(mallopt(trim_threshold, -1))


def identity() -> str:
    """Return what processes of this machine, and of no other, have in common."""
    return "".join(_lines("/proc/sys/kernel/random/boot_id")) or platform.node()


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


def describe(device: torch.device) -> dict[str, object]:
    """For a run's config.json."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name()
    return {
        "system": platform.platform(),
        "device": f"{device} ({name})",
        "processors": processors(),
        "threads": torch.get_num_threads(),
        "free_memory_gib": round(free_bytes(device) / 2**30, 1),
    }


def versions() -> dict[str, str]:
    """For a run's config.json."""
    return {"convnextv2": __version__, "python": platform.python_version(), "torch": torch.__version__}


def _processor_name() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


@contextmanager
def memory_advice() -> Iterator[None]:
    """Raise RunFailedError with advice if the device's memory is full."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunFailedError("out of memory on the device; use a smaller --micro-batch, or --batch-size") from error
