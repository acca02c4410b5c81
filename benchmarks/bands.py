"""Does it pay to know the bands, their numbers, and where there is no data? Linear probes after the same pre-training.

    python benchmarks/bands.py --scene multiband/indian_pines

One hyperspectral scene of 145 x 145 pixels and 200 bands, with a class of crop or cover for half of its pixels, is cut
into windows of 16 x 16 pixels round every third pixel. Pre-training sees the windows without labels; a linear probe
learns from windows within the even ones of squares of 24 pixels, and is judged on those within the odd ones, so that
no pixel is on both sides. Each row is pre-trained from random weights for the same epochs, once a seed:

    RGB              three bands near 650, 550 and 470 nm
    all bands        with statistics of their own
    ... ImageNet's   the same bands, each scaled to 8 bits by one common range, with ImageNet's average statistics
    a third missing  squares of 6 to 12 pixels without data, which the model knows
    ... unknown      the same windows with zeros there, as pictures without nodata are

Accuracy is of the probe on the frozen features, in percent, mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

import convnextv2
from processor import processor

SIDE, BLOCK, STEP = 16, 24, 3
RGB = "29,19,9"  # of 200 bands from 400 to 2,500 nm, the water bands removed
MODEL: dict[str, Any] = {"model": "convnextv2_atto", "depths": (2, 2, 2, 2), "dims": (24, 48, 96, 192)}
SIZE: dict[str, Any] = {"image_size": 32, "stem_stride": 1, "batch_size": 64, "pictures": 0, "orientation": "any"}


def windows(labels: NDArray[np.uint8]) -> list[tuple[int, int, str, str]]:
    """Return (top, left, class or "", split) of every window; those near a border of squares have no class."""
    found = []
    for top in range(0, labels.shape[0] - SIDE + 1, STEP):
        for left in range(0, labels.shape[1] - SIDE + 1, STEP):
            y, x = top + SIDE // 2, left + SIDE // 2
            label, split = int(labels[y, x]), ("train", "val")[(y // BLOCK + x // BLOCK) % 2]
            inside = {((top + dy) // BLOCK + (left + dx) // BLOCK) % 2 for dy in (0, SIDE - 1) for dx in (0, SIDE - 1)}
            found.append((top, left, str(label) if label and len(inside) == 1 else "", split))
    return found


def write(scene: Path, folder: Path, cube: NDArray[Any], tags: list[Any]) -> Path:
    """Write the windows of a cube (H, W, bands), and the table of those with a class; return the table."""
    labels = np.asarray(Image.open(scene / "labels.png"))
    (folder / "windows").mkdir(parents=True)
    rows = []
    for top, left, label, split in windows(labels):
        name = f"windows/{top:03}-{left:03}.tif"
        window = cube[top : top + SIDE, left : left + SIDE]
        tifffile.imwrite(folder / name, window, photometric="minisblack", planarconfig="contig", extratags=tags)
        if label:
            rows.append((name, label, split))
    known = {label for _, label, split in rows if split == "train"}
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows(row for row in rows if row[1] in known)
    return folder / "labels.csv"


def holes(cube: NDArray[np.uint16], share: float = 1 / 3) -> NDArray[np.uint16]:
    """Return the cube with zeros in random squares that cover a share of its area."""
    chance, found = np.random.default_rng(0), cube.copy()
    while (found == 0).all(2).mean() < share:
        side = int(chance.integers(6, 13))
        top, left = chance.integers(0, cube.shape[0] - side), chance.integers(0, cube.shape[1] - side)
        found[top : top + side, left : left + side] = 0
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, required=True, help="a folder with cube.tif and labels.png")
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps(processor() | {"epochs": args.epochs, "seeds": args.seeds}))
    cube = tifffile.imread(args.scene / "cube.tif")
    in_bytes = np.clip((cube.astype(np.float64) - 1000) / (8000 - 1000) * 255, 1, 255).astype(np.uint8)
    nodata = [(42113, "s", 0, "0", True)]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        tables = {
            "whole": write(args.scene, root / "whole", cube, []),
            "bytes": write(args.scene, root / "bytes", in_bytes, []),
            "known": write(args.scene, root / "known", holes(cube), nodata),
            "unknown": write(args.scene, root / "unknown", holes(cube), []),
        }
        rows: dict[str, tuple[str, dict[str, Any]]] = {
            "RGB": ("whole", {"channels": RGB}),
            "all bands": ("whole", {}),
            "all bands, ImageNet's statistics": ("bytes", {"stats": "imagenet"}),
            "a third missing, known": ("known", {}),
            "a third missing, unknown": ("unknown", {}),
        }
        for title, (name, how) in rows.items():
            scores, random = [], []
            for seed in range(args.seeds):
                out = root / f"{title}-{seed}".replace(" ", "-").replace("'", "").replace(",", "")
                settings = MODEL | SIZE | how | {"epochs": args.epochs, "seed": seed}
                convnextv2.pretrain(root / name / "windows", out, **settings)
                found = convnextv2.probe(out, tables[name], seed=seed)
                scores.append(100 * found.rows[0].linear.mean)
                random.append(100 * found.rows[1].linear.mean)
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            average, of_random = statistics.mean(scores), statistics.mean(random)
            print(f"{title:36}{average:6.1f} ± {spread:.1f}   random weights {of_random:.1f}", flush=True)


if __name__ == "__main__":
    main()
