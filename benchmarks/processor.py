"""The processor that a benchmark runs on, and its instruction set: both stand beside every figure.

Processors differ more than models do: some have AVX2 only and no bf16. `--avx2` of the benchmarks runs them again in
a process whose libraries (ATen, oneDNN, MKL) are limited to AVX2. That is close to such a processor, not equal:
clock, caches and memory stay those of the processor at hand.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def processor() -> dict[str, str]:
    """Return its name, its widest vector instructions, and those that the libraries may use now."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    has = [name for name in ("amx_tile", "avx512f", "avx512_bf16", "avx2", "fma") if name in flags]
    return {
        "processor": fields.get("model name", "unknown"),
        "instructions": " ".join(has),
        "in_force": torch.backends.cpu.get_cpu_capability(),
        "limits": " ".join(f"{name}={os.environ[name]}" for name in AVX2 if name in os.environ) or "none",
    }


def again_with_avx2() -> None:
    """Run this script again in a process limited to AVX2 and leave with its exit code; return inside that process."""
    if any(os.environ.get(name) != value for name, value in AVX2.items()):
        raise SystemExit(subprocess.run([sys.executable, *sys.argv], env=os.environ | AVX2).returncode)
