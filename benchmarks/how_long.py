"""How long must pre-training last to pay? Runs of several lengths on one folder, each probed beside random weights.

    python benchmarks/how_long.py --data DIR --out FOLDER [--steps 100 400 1600 6400]

DIR has train/ and val/ of class folders; pre-training sees the images of train/ without their labels. Each length is a
run of its own, as the learning rate falls to zero over the whole of it. Finished runs in FOLDER are read and not made
again. Writes results.json into FOLDER.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import convnextv2
from convnextv2.data.files.folder import list_images
from convnextv2.engine import machine


def main() -> None:
    """Make the runs, and print a row for each."""
    arguments = _arguments()
    images = len(list_images(arguments.data / "train"))
    rows = []
    for steps in arguments.steps:
        run = arguments.out / f"steps-{steps}"
        if not (run / "report.html").is_file():
            convnextv2.pretrain(
                arguments.data / "train",
                run,
                epochs=steps / max(1, images // arguments.batch_size),
                batch_size=arguments.batch_size,
                image_size=arguments.image_size,
                stem_stride=arguments.stem_stride,
                resume=(run / "config.json").is_file(),
                pictures=0,
            )
        rows.append(_row(steps, images, run, arguments))
        print(json.dumps(rows[-1]), flush=True)
    record = {"rows": rows, "images": images, "versions": machine.versions(), "arguments": vars(arguments)}
    (arguments.out / "results.json").write_text(json.dumps(record, indent=1, default=str) + "\n")


def _row(steps: int, images: int, run: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    result = convnextv2.probe(run, arguments.data)
    trained, random = result.rows[:2]
    assert trained.knn is not None
    assert random.knn is not None
    return {
        "steps": steps,
        "epochs": steps * arguments.batch_size / images,
        "linear": trained.linear.mean,
        "linear_random": random.linear.mean,
        "knn": trained.knn.mean,
        "knn_random": random.knn.mean,
        "evaluated_on": result.judged,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 400, 1600, 6400])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--stem-stride", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
