"""Do two versions of the source compute the same? Losses of 20 steps, final weights and converted files, compared.

    git worktree add ../before v0.1
    python benchmarks/same_results.py --before ../before/src --after src --data clothing_small_160/train

Each version runs the same commands in processes of its own: masked pre-training (fp32, bf16, masked V1), classification
(with every augmentation, EMA, drop path and layer decay; from the pre-trained weights; several labels an image), and
`convert` of the results to every layout. Losses and tensors must be equal bit by bit, converted files byte by byte
(safetensors files by their tensors and metadata: the order of the metadata in a file is not defined).
Prints a line per comparison; exit code 1 if any differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from safetensors import safe_open

LAYOUTS = {
    "convnextv2": "model.safetensors",
    "official": "model.pt",
    "minkowski": "model.pt",
    "timm": "model.safetensors",
    "transformers": "folder",
    "mmpretrain": "model.pth",
}
SMALL = [
    "--image-size",
    "64",
    "--stem-stride",
    "2",
    "--depths",
    "1",
    "1",
    "2",
    "1",
    "--dims",
    "16",
    "32",
    "64",
    "128",
    "--workers",
    "1",
    "--seed",
    "3",
    "--log-every",
    "1",
]
RUNS = {
    "pretrain": ["pretrain", *SMALL, "--decoder-dim", "64", "--batch-size", "32", "--precision", "fp32"],
    "pretrain-bf16": ["pretrain", *SMALL, "--decoder-dim", "64", "--batch-size", "32", "--precision", "bf16"],
    "pretrain-v1": ["pretrain", *SMALL, "--model", "convnext_atto", "--batch-size", "16", "--no-flip"],
    "pretrain-on": ["pretrain", "--init", "{pretrain}", "--batch-size", "32", "--workers", "0", "--log-every", "1"],
    "classify": ["classify", *SMALL, "--recipe", "small-data", "--batch-size", "32", "--drop-path", "0.2"],
    "classify-init": [
        "classify",
        "--init",
        "{pretrain}",
        "--batch-size",
        "32",
        "--micro-batch",
        "16",
        "--log-every",
        "1",
    ],
    "classify-in1k": ["classify", *SMALL, "--recipe", "in1k", "--batch-size", "16", "--layer-decay-type", "group"],
    "classify-v1": [
        "classify",
        *SMALL,
        "--model",
        "convnext_atto",
        "--batch-size",
        "16",
        "--class-weights",
        "balanced",
    ],
}
STEPS = 20


def make(source: Path, data: Path, out: Path) -> None:
    """Every run, and every conversion of the first of each task, by the version that lies in `source`."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "2"}

    def command(*arguments: object) -> None:
        line = [sys.executable, "-m", "convnextv2", *map(str, arguments)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(line)}\n{done.stderr}")

    images = sum(path.is_file() for path in data.rglob("*"))
    for name, given in RUNS.items():
        batch = int(given[given.index("--batch-size") + 1])
        learned = images if given[0] == "pretrain" else images - 160  # about; only the number of steps follows from it
        epochs = STEPS / max(1, learned // batch)
        filled = [word.format(pretrain=out / "pretrain") for word in given]
        command(*filled, "--data", data, "--out", out / name, "--epochs", f"{epochs:.6f}", "--checkpoint-every", "10")
    for name in ("pretrain", "pretrain-v1", "classify", "classify-v1"):
        for layout, file in LAYOUTS.items():
            if layout == "minkowski" and name.endswith("v1"):
                continue
            target = out / "converted" / f"{name}-{layout}"
            target.mkdir(parents=True)
            command("convert", out / name, "--to", layout, "--out", target / file)


def content(path: Path) -> str:
    """A hash of a file: of its bytes, a safetensors file's tensors and metadata, or what lies in a torch.save file."""
    digest = hashlib.sha256()
    if path.suffix in (".pt", ".pth"):
        with zipfile.ZipFile(path) as archive:  # whose folder bears the name that the file had when it was written
            for name in archive.namelist():
                digest.update(name.partition("/")[2].encode() + archive.read(name))
        return digest.hexdigest()
    if path.suffix != ".safetensors":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with safe_open(path, "np") as file:
        metadata = file.metadata() or {}
        digest.update(json.dumps(metadata, sort_keys=True).encode())
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = {name: value for name, value in json.loads(file.read(size)).items() if name != "__metadata__"}
        digest.update(json.dumps(header, sort_keys=True).encode())
        digest.update(file.read())
    return digest.hexdigest()


def tensors(path: Path) -> str:
    """A hash of a safetensors file's tensors alone."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = {name: value for name, value in json.loads(file.read(size)).items() if name != "__metadata__"}
        return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + file.read()).hexdigest()


def losses(run: Path) -> list[float]:
    """The loss of every step."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["phase"] == "train"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the folder `src` of one version")
    parser.add_argument("--after", type=Path, required=True, help="that of the other")
    parser.add_argument("--data", type=Path, required=True, help="a folder of class folders, a few hundred images")
    parser.add_argument("--out", type=Path, default=Path("same_results"))
    args = parser.parse_args()
    for name, source in (("before", args.before), ("after", args.after)):
        if not (args.out / name / "converted").is_dir():
            make(source.resolve(), args.data.resolve(), args.out / name)
    before, after = args.out / "before", args.out / "after"
    different = 0

    def compare(what: str, one: object, other: object) -> None:
        nonlocal different
        different += one != other
        print(f"{'same' if one == other else 'DIFFERENT':10}{what}")

    for name in RUNS:
        steps = losses(before / name)
        compare(f"{name}: losses of {len(steps)} steps", steps, losses(after / name))
        latest = (before / name / "checkpoints" / "latest").read_text()
        for file in ("model.safetensors", "optimizer.safetensors"):
            found = [tensors(side / name / "checkpoints" / latest / file) for side in (before, after)]
            compare(f"{name}: tensors of {latest}/{file}", *found)
    for path in sorted(before.glob("converted/*/**/*")):
        if path.is_file():
            other = after / path.relative_to(before)
            compare(str(path.relative_to(before)), content(path), content(other) if other.is_file() else None)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
