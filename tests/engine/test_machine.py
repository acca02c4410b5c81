"""What a process is told about its memory."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from convnextv2.engine import machine

if sys.argv[1] == "keep":
    assert machine.keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    before = faults()
    torch.ones(10_000_000)  # 40 MB, about 10,000 pages
print(faults() - before)
"""


def faults(what):
    command = [sys.executable, "-c", FAULTS, what]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_taken_again_without_new_pages():
    assert faults("leave") > 9_000  # what is mended
    assert faults("keep") < 100
