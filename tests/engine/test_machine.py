"""What a process is told about its memory."""

import os
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
