"""What a process is told about its memory."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from convnextv2.engine import machine

FAULTS = """
import resource, sys
import torch
from convnextv2.engine import machine

if sys.argv[1] == "keep":
    assert machine.keep_freed_memory()
if sys.argv[1] == "own variable":
    assert not machine.keep_freed_memory()
if sys.argv[1] == "a loop of one's own":
    from convnextv2 import FCMAE, create_model

    config = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}
    FCMAE(create_model("convnextv2_atto", num_classes=0, **config))(torch.randn(2, 3, 64, 64)).loss.backward()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    before = faults()
    torch.ones(10_000_000)  # 40 MB, about 10,000 pages
print(faults() - before)
"""


def faults(what, **variables):
    command, environment = [sys.executable, "-c", FAULTS, what], os.environ | variables
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_taken_again_without_new_pages():
    assert faults("leave") > 9_000  # what is mended
    assert faults("keep") < 100
    assert faults("a loop of one's own") < 100
    assert faults("own variable", MALLOC_TRIM_THRESHOLD_="131072") > 9_000


GIB = 2**30
MEMINFO = {"/proc/meminfo": ["MemTotal: 99 kB", f"MemAvailable: {64 * 2**20} kB"]}
V2 = "/sys/fs/cgroup"
V1 = "/sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "gib"),
    [
        ({}, 64),
        ({"/proc/self/cgroup": ["0::/"], f"{V2}/memory.max": ["max"], f"{V2}/memory.current": ["7"]}, 64),
        (
            {
                "/proc/self/cgroup": ["0::/"],
                f"{V2}/memory.max": [str(8 * GIB)],
                f"{V2}/memory.current": [str(3 * GIB)],
                f"{V2}/memory.stat": ["anon 5", f"inactive_file {GIB}"],
            },
            6,
        ),
        (  # the limit is that of a group above
            {
                "/proc/self/cgroup": ["1:name=systemd:/x", "0::/user/job/step"],
                f"{V2}/user/job/step/memory.max": ["max"],
                f"{V2}/user/job/step/memory.current": ["1"],
                f"{V2}/user/job/memory.max": [str(10 * GIB)],
                f"{V2}/user/job/memory.current": [str(8 * GIB)],
                f"{V2}/user/memory.max": [str(20 * GIB)],
                f"{V2}/user/memory.current": [str(10 * GIB)],
            },
            2,
        ),
        (  # version 1; in a container the path is that of the host, and only the root is there
            {
                "/proc/self/cgroup": ["9:cpu,cpuacct:/a", "4:memory:/docker/0123"],
                f"{V1}/memory.limit_in_bytes": [str(4 * GIB)],
                f"{V1}/memory.usage_in_bytes": [str(3 * GIB)],
                f"{V1}/memory.stat": ["inactive_file 1", f"total_inactive_file {2 * GIB}"],
            },
            3,
        ),
        (
            {
                "/proc/self/cgroup": ["0::/"],
                f"{V2}/memory.max": [str(GIB)],
                f"{V2}/memory.current": [str(2 * GIB)],
            },
            0,
        ),
    ],
)
def test_free_memory_is_what_control_groups_leave(files, gib, monkeypatch):
    monkeypatch.setattr(machine, "_lines", lambda path: {**MEMINFO, **files}.get(path, []))
    assert machine.free_bytes(torch.device("cpu")) == gib * GIB


def test_processes_of_a_machine_know_each_other():
    other = subprocess.run(
        [sys.executable, "-c", "from convnextv2.engine import machine; print(machine.identity())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == machine.identity() != ""
