"""What a set of many files costs before the first step and in memory, in two versions of the source.

    git worktree add ../before v0.1
    python benchmarks/many_files.py --before ../before/src --after src --data tiny_imagenet_100/train

Makes, in a new folder that is removed at the end, `--files` hard links to a few hundred images of `--data`, in folders
of 3,000, and lists of `--lines` paths. Then, the versions in turn, each in processes of its own, `--rounds` times:

- listing: the folder; the folder as classes, a part drawn for validation; a text list; a CSV of paths and labels
  (`--csv-lines`). Seconds, those of the processor, and how far memory rises meanwhile and stays risen.
- pretrain: seconds until the first step is logged; after 200 steps the memory of the main process and of each worker
  (PSS, and what is private to it, of /proc/PID/smaps_rollup); then SIGTERM, and seconds until the first step with
  `--resume`. With the cache of decoded images and without. The losses of all steps must be equal.

Prints medians, and writes everything to `--json`. Exit code 1 if losses or lists differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processor import processor

STEPS = 200
BATCH = 32
PARTS = ("listing", "without cache", "with cache")
SMALL = "--image-size 64 --stem-stride 2 --depths 1 1 1 1 --dims 8 16 32 64 --decoder-dim 32 --mask-ratio 0.6"
LISTING = """
import hashlib, json, resource, sys, time
import torch
from convnextv2.data.files.folder import list_images
from convnextv2.data.labels.splits import read_splits
from convnextv2.runs.images import fingerprint

def status(name):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(name))

what, source = sys.argv[1:]
before = status("VmRSS")
started, busy = time.perf_counter(), time.process_time()
if what == "labels":
    read = read_splits(source)
    parts = [(part.images, part.labels) for part in (read.train, read.val)]
else:
    parts = [(list_images(source), None)]
seconds, busy = time.perf_counter() - started, time.process_time() - busy
peak, kept = status("VmHWM") - before, status("VmRSS") - before
started = time.perf_counter()
mark = fingerprint(*parts)
print(json.dumps({"seconds": seconds, "cpu_seconds": busy, "peak_mib": peak, "kept_mib": kept,
                  "fingerprint_seconds": time.perf_counter() - started, "fingerprint": mark}))
"""


def make(work: Path, data: Path, files: int, lines: int, csv_lines: int) -> None:
    """The folder of links, the text list and the CSV."""
    images = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    images = images[:: max(1, len(images) // 300)][:300]
    (work / "originals").mkdir()
    for number, image in enumerate(images):
        shutil.copyfile(image, work / "originals" / f"{number:03}.jpg")
    originals = sorted((work / "originals").iterdir())
    for number in range(files):
        target = work / "many" / f"class-{number // 3000:03}" / f"image-{number:07}.jpg"
        if number % 3000 == 0:
            target.parent.mkdir(parents=True)
        os.link(originals[number % len(originals)], target)

    def name(number: int) -> str:  # only some exist
        return f"many/class-{number // 3000:04}/image-{number:08}.jpg" if number else "originals/000.jpg"

    with (work / "list.txt").open("w") as file:
        file.writelines(f"{name(number)}\n" for number in range(lines))
    with (work / "table.csv").open("w") as file:
        file.write("path,label\n")
        file.writelines(f"{name(number)},class-{number % 100}\n" for number in range(csv_lines))


def environment(source: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}


def listing(source: Path, what: str, given: Path) -> dict[str, Any]:
    """One listing by one version."""
    line = [sys.executable, "-c", LISTING, what, str(given)]
    done = subprocess.run(line, env=environment(source), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def rollup(pid: int) -> dict[str, float]:
    """Memory of a process in MiB: its proportional share, what only it has, and the shares of both kinds."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {key: int(value.split()[0]) / 1024 for key, _, value in (line.partition(":") for line in lines)}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"pss": sizes["Pss"], "private": private, "pss_anon": sizes["Pss_Anon"], "pss_shmem": sizes["Pss_Shmem"]}


def losses(out: Path) -> dict[int, float]:
    path = out / "metrics.jsonl"
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")] if path.is_file() else []
    steps = [line for line in map(json.loads, lines) if line["phase"] == "train"]
    return {line["step"]: line["loss"] for line in steps}


def until(process: subprocess.Popen[bytes], out: Path, step: int) -> float:
    """Wait until a step is logged; return the clock."""
    while step not in losses(out):
        if process.poll() is not None:
            raise SystemExit(f"the run ended early: {(out / 'log.txt').read_text()}")
        time.sleep(0.02)
    return time.monotonic()


def run(source: Path, data: Path, files: int, out: Path, more: list[str]) -> dict[str, Any]:
    """One run by one version, stopped after `STEPS` steps, and resumed."""
    epochs = 50 * STEPS * BATCH / files  # enough for it to be still at work when it is stopped
    line = [sys.executable, "-m", "convnextv2", "pretrain", "--out", str(out)]
    given = f"--data {data} {SMALL} --batch-size {BATCH} --epochs {epochs:.9f} --workers 2 --device cpu".split()
    given += f"--precision fp32 --log-every 1 --micro-batch {BATCH}".split()

    def launch(*arguments: str) -> subprocess.Popen[bytes]:
        nowhere = subprocess.DEVNULL
        return subprocess.Popen([*line, *arguments], stdout=nowhere, stderr=nowhere, env=environment(source))

    started = time.monotonic()
    process = launch(*given, *more)
    begin = until(process, out, 1) - started
    until(process, out, STEPS)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    memory = {"main": rollup(process.pid), "workers": [rollup(int(pid)) for pid in workers]}
    process.send_signal(signal.SIGTERM)
    process.wait()
    done = max(losses(out))
    started = time.monotonic()
    process = launch("--resume")
    again = until(process, out, done + 1) - started
    process.send_signal(signal.SIGTERM)
    process.wait()
    return {"start_seconds": begin, "resume_seconds": again, "memory_mib": memory, "losses": losses(out)}


def compare(args: argparse.Namespace, work: Path) -> tuple[dict[str, Any], int]:
    """Everything, the versions in turn; and how many results differ."""
    sides = {"before": args.before.resolve(), "after": args.after.resolve()}
    listings = {
        "folder": ("names", work / "many"),
        "folder of classes": ("labels", work / "many"),
        "text list": ("names", work / "list.txt"),
        "CSV": ("labels", work / "table.csv"),
    }
    found: dict[str, Any] = {}
    different = 0
    for name, (what, given) in listings.items() if "listing" in args.parts else ():
        turns = [{side: listing(source, what, given) for side, source in sides.items()} for _ in range(args.rounds)]
        same = {turn[side].pop("fingerprint") for turn in turns for side in sides}
        different += len(same) > 1
        found[name] = turns
        for side in sides:
            middle = {key: statistics.median(turn[side][key] for turn in turns) for key in turns[0][side]}
            print(f"{name:20}{side:8}" + "  ".join(f"{key} {value:.1f}" for key, value in middle.items()), flush=True)
    for name, more in (("without cache", ["--no-cache"]), ("with cache", [])):
        if name not in args.parts:
            continue
        turns = []
        for turn in range(args.rounds):
            turns.append(
                {
                    side: run(source, work / "many", args.files, work / f"{name[:4]}-{side}-{turn}", more)
                    for side, source in sides.items()
                }
            )
            steps = [turns[-1][side].pop("losses") for side in sides]
            common = steps[0].keys() & steps[1].keys()
            different += len(common) < STEPS or any(steps[0][step] != steps[1][step] for step in common)
        found[f"run {name}"] = turns
        for side in sides:
            show(f"run {name}", side, [turn[side] for turn in turns])
    return found, different


def show(name: str, side: str, turns: list[dict[str, Any]]) -> None:
    """Print the medians of runs."""
    times = [
        f"{key[:-8]} {statistics.median(turn[key] for turn in turns):.1f} s"
        for key in ("start_seconds", "resume_seconds")
    ]
    main = [turn["memory_mib"]["main"] for turn in turns]
    workers = [worker for turn in turns for worker in turn["memory_mib"]["workers"]]
    for what, parts in (("main", main), ("worker", workers)):
        middle = {key: statistics.median(part[key] for part in parts) for key in parts[0]}
        times.append(f"{what} " + " ".join(f"{key} {value:.0f}" for key, value in middle.items()) + " MiB")
    print(f"{name:20}{side:8}" + "  ".join(times), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the folder `src` of one version")
    parser.add_argument("--after", type=Path, required=True, help="that of the other")
    parser.add_argument("--data", type=Path, required=True, help="a folder of a few hundred JPEGs or more")
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--lines", type=int, default=10_000_000, help="of the text list")
    parser.add_argument("--csv-lines", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="where the new folder is made; by default where temporary files are")
    parser.add_argument("--json", type=Path, help="write everything measured there")
    args = parser.parse_args()
    machine = processor()
    print(f"{machine['processor']}, {os.cpu_count()} processors", flush=True)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        work = Path(folder)
        make(work, args.data, args.files, args.lines, args.csv_lines)
        found, different = compare(args, work)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "measured": found}, indent=1) + "\n")
    print(f"{different} results differ" if different else "all lists and losses are the same")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
