"""Crops of one large file, read in parts, beside reading it whole.

    python benchmarks/large_files.py --side 20000

Writes a TIFF of 4 bands of 16 bits in tiles of 512, uncompressed and by LZW with predictor 2, and prints for each how
many crops of 336 pixels (what pre-training at 224 takes) a process reads in a second, the memory that it needed, and
the seconds and memory of reading the file whole. Every row is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from convnextv2.data.files.folder import list_images
from convnextv2.data.files.raster import Window
from convnextv2.data.files.reading import Reading
from convnextv2.records import Bands
from processor import processor

BANDS, TILE, CROP = 4, 512, 336


def tiles(side: int) -> Iterator[NDArray[np.uint16]]:
    """Yield the tiles of a smooth scene with noise, row by row."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 64, (TILE, TILE, BANDS)).astype(np.uint16)
    y, x = np.mgrid[:TILE, :TILE]
    for top in range(0, side, TILE):
        for left in range(0, side, TILE):
            smooth = 4000 + 2000 * np.sin((y + top) / 97)[..., None] + 1000 * np.cos((x + left) / 61)[..., None]
            yield (smooth * np.arange(1, BANDS + 1) / BANDS).astype(np.uint16) + noise


def write(path: Path, side: int, **options: Any) -> None:
    tifffile.imwrite(
        path, tiles(side), shape=(side, side, BANDS), dtype=np.uint16, photometric="minisblack",
        planarconfig="contig", tile=(TILE, TILE), bigtiff=True, **options,
    )  # fmt: skip


def crops_per_second(path: Path, seconds: float) -> float:
    images, rng, count = list_images(path.parent), np.random.default_rng(0), 0
    reading = Reading(BANDS, bands=Bands(BANDS, tuple(range(BANDS)), format="uint16"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        y, x = rng.random(2)
        assert reading.raster(images, 0, Window(y, x, CROP)).values.shape == (CROP, CROP, BANDS)
        count += 1
    return count / seconds


def seconds_whole(path: Path) -> float:
    start = time.perf_counter()
    with tifffile.TiffFile(path) as file:
        file.pages.first.asarray(maxworkers=1)
    return time.perf_counter() - start


def measure(path: Path, how: str) -> None:
    value = crops_per_second(path, 10) if how == "crops" else seconds_whole(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    said = f"{value:6.0f} crops a second" if how == "crops" else f"{value:6.1f} s to read it whole"
    print(f"  {said}, {peak:.2f} GiB at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000, help="pixels")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(Path(args.measure[0]), args.measure[1])
        return
    print(json.dumps(processor() | {"side": args.side, "bands": BANDS}))
    with tempfile.TemporaryDirectory() as place:
        for name, options in (("uncompressed", {}), ("LZW", {"compression": "lzw", "predictor": 2})):
            folder = Path(place) / name
            folder.mkdir()
            write(folder / "scene.tif", args.side, **options)
            print(f"{name}, {(folder / 'scene.tif').stat().st_size / 1e9:.2f} GB", flush=True)
            for how in ("crops", "whole", "crops", "whole"):
                subprocess.run([sys.executable, __file__, "--measure", str(folder / "scene.tif"), how], check=True)
            (folder / "scene.tif").unlink()


if __name__ == "__main__":
    main()
