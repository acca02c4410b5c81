"""Pictures that the tests make, and a small run on them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# Two threads that wait for each other while another process wants the core are many times slower than one.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory) -> Path:
    """40 colourful pictures of blobs in two class folders."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(40):
        height, width = rng.integers(40, 60, 2)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        target = folder / ("cats" if number % 2 else "dogs") / f"{number:02d}.png"
        target.parent.mkdir(exist_ok=True)
        coarse.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(target)
    return folder


@pytest.fixture(scope="session")
def command():
    """Run `convnextv2 ...` in a process of its own; gives the finished process with its output as text."""

    def run(*arguments, launcher=(), **options):
        line = [*(launcher or (sys.executable,)), "-m", "convnextv2", *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(line, capture_output=True, text=True, timeout=300, env=environment, **options)

    return run
