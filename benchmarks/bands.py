"""Does it pay to know the bands, their numbers, and where there is no data? Linear probes after the same pre-training.

    python benchmarks/bands.py --scene multiband/indian_pines

One hyperspectral scene of 145 x 145 pixels and 200 bands, with a class of crop or cover for half of its pixels, is cut
into windows of 16 x 16 pixels round every third pixel. Pre-training sees the windows without labels. A linear probe and
k-NN learn from windows round every second pixel within the even ones of squares of 36 pixels, and are judged on those
within the odd ones, so that no pixel is on both sides. Each row is pre-trained from random weights for the same epochs,
once a seed:

    RGB              three bands near 650, 550 and 470 nm
    all bands        with statistics of their own
    ... ImageNet's   the same bands, each scaled to 8 bits by one common range, with ImageNet's average statistics
    a third missing  squares of 6 to 12 pixels without data, which the model knows
    ... unknown      the same windows with zeros there, as pictures without nodata are

Accuracy is on the frozen features, in percent: mean and standard deviation over the seeds, and that of random weights.
Then classifiers that were fine-tuned on whole windows, and on those with a third missing, are judged on windows of both
kinds: what a dense model, which takes missing pixels for their band's mean, does there.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

import convnextv2
from processor import processor

SIDE, STEP = 16, 3
BLOCK, LABELLED_STEP = 36, 2
RGB = "29,19,9"  # of 200 bands from 400 to 2,500 nm, the water bands removed
MODEL: dict[str, Any] = {"model": "convnextv2_atto", "depths": (2, 2, 2, 2), "dims": (24, 48, 96, 192)}
SIZE: dict[str, Any] = {"image_size": 32, "stem_stride": 1, "batch_size": 64, "pictures": 0, "orientation": "any"}


def corners(shape: tuple[int, ...], step: int) -> Iterator[tuple[int, int]]:
    """Yield top and left of the windows round every `step`-th pixel."""
    yield from itertools.product(range(0, shape[0] - SIDE + 1, step), range(0, shape[1] - SIDE + 1, step))


def labelled(labels: NDArray[np.uint8]) -> Iterator[tuple[int, int, str, str]]:
    """Yield (top, left, class, split) of the windows with a class in the middle that lie within one square."""
    for top, left in corners(labels.shape, LABELLED_STEP):
        y, x = top + SIDE // 2, left + SIDE // 2
        inside = {((top + dy) // BLOCK, (left + dx) // BLOCK) for dy in (0, SIDE - 1) for dx in (0, SIDE - 1)}
        if labels[y, x] and len(inside) == 1:
            yield top, left, str(labels[y, x]), ("train", "val")[(y // BLOCK + x // BLOCK) % 2]


def write(scene: Path, folder: Path, cube: NDArray[Any], tags: list[Any]) -> Path:
    """Write the windows of a cube (H, W, bands), and those with a class and their table; return the table."""
    labels = np.asarray(Image.open(scene / "labels.png"))

    def save(name: str, top: int, left: int) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        window = cube[top : top + SIDE, left : left + SIDE]
        tifffile.imwrite(folder / name, window, photometric="minisblack", planarconfig="contig", extratags=tags)

    for top, left in corners(cube.shape, STEP):
        save(f"windows/{top:03}-{left:03}.tif", top, left)
    rows = []
    for top, left, label, split in labelled(labels):
        rows.append((f"labelled/{top:03}-{left:03}.tif", label, split))
        save(rows[-1][0], top, left)
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


def folder_of(runs: Path, title: str, seed: int) -> Path:
    return runs / f"{title}-{seed}".replace(" ", "-").replace("'", "").replace(",", "")


def compare_features(tables: dict[str, Path], runs: Path, epochs: float, seeds: int) -> None:
    """Pre-train and judge each row, and print it."""
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "RGB": ("whole", {"channels": RGB}),
        "all bands": ("whole", {}),
        "all bands, ImageNet's statistics": ("bytes", {"stats": "imagenet"}),
        "a third missing, known": ("known", {}),
        "a third missing, unknown": ("unknown", {}),
    }
    for title, (name, how) in rows.items():
        found = []
        for seed in range(seeds):
            out = folder_of(runs, title, seed)
            if not (out / "report.html").exists():
                settings = MODEL | SIZE | how | {"epochs": epochs, "seed": seed}
                convnextv2.pretrain(tables[name].parent / "windows", out, **settings)
            rows_of_probe = convnextv2.probe(out, tables[name], seed=seed).rows
            judged = [score for row in rows_of_probe[:2] for score in (row.linear, row.knn) if score is not None]
            found.append([100 * score.mean for score in judged])
        linear, knn, random_linear, random_knn = zip(*found, strict=True)
        told = "   ".join(
            f"{called} {said(scores)}, random weights {said(random)}"
            for called, scores, random in (("linear", linear, random_linear), ("k-NN", knn, random_knn))
        )
        print(f"{title:34}{told}", flush=True)


def compare_classifiers(tables: dict[str, Path], runs: Path, epochs: float, seeds: int) -> None:
    """Fine-tune on whole windows and on those with a third missing, and print how each does on the others."""
    for title, trained_on, judged_on in (
        ("all bands", "whole", ("whole", "known", "unknown")),
        ("a third missing, known", "known", ("known", "whole")),
    ):
        scores: dict[str, list[float]] = {name: [] for name in judged_on}
        for seed in range(seeds):
            out = folder_of(runs, f"classifier {trained_on}", seed)
            if not (out / "report.html").exists():
                init = folder_of(runs, title, seed)
                convnextv2.classify(tables[trained_on], out, init=init, epochs=epochs, seed=seed, orientation="any")
            for name in judged_on:
                found = convnextv2.evaluate(out, tables[name], split="val").scores
                scores[name].append(100 * found["average" if "average" in found else "plain"]["top1"])
        told = "   ".join(f"on {name} windows {said(values)}" for name, values in scores.items())
        print(f"classifier of {trained_on} windows: {told}", flush=True)


def said(scores: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(scores):5.1f} ± {statistics.stdev(scores) if len(scores) > 1 else 0.0:3.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, required=True, help="a folder with cube.tif and labels.png")
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--classifier-epochs", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, help="a folder that keeps the runs; those that are there are only judged")
    args = parser.parse_args()
    print(
        json.dumps(processor() | {name: value for name, value in vars(args).items() if name not in ("scene", "runs")})
    )
    cube = tifffile.imread(args.scene / "cube.tif")
    in_bytes = np.clip((cube.astype(np.float64) - 1000) / (8000 - 1000) * 255, 1, 255).astype(np.uint8)
    nodata = [(42113, "s", 0, "0", True)]
    with tempfile.TemporaryDirectory() as place:
        root, runs = Path(place), args.runs or Path(place)
        tables = {
            "whole": write(args.scene, root / "whole", cube, []),
            "bytes": write(args.scene, root / "bytes", in_bytes, []),
            "known": write(args.scene, root / "known", holes(cube), nodata),
            "unknown": write(args.scene, root / "unknown", holes(cube), []),
        }
        compare_features(tables, runs, args.epochs, args.seeds)
        compare_classifiers(tables, runs, args.classifier_epochs, args.seeds)


if __name__ == "__main__":
    main()
