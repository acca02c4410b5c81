"""One FCMAE training step at 224 px: ours packed, ours dense-masked, and birder's, interleaved in one run.

    python benchmarks/pretrain_step.py                       # Atto (batch 16) and Tiny (batch 8), fp32 and bf16
    python benchmarks/pretrain_step.py --size atto --precision fp32 --rounds 10
    python benchmarks/pretrain_step.py --precision fp32 --avx2   # the libraries limited to AVX2, see processor.py

Every contestant does the whole step on the same images with the same optimiser, called from a plain loop: draw masks,
forward, backward, AdamW. Each lives in a process of its own, as the memory that a process keeps is a setting of the
whole process: our model asks the C library to keep what a step frees, birder does not. Times are medians over rounds
in which the contestants take turns. Needs `pip install birder`. Prints a table and writes
JSON, each figure with the processor and the instruction set in force.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from processor import again_with_avx2, processor

BATCH = {"atto": 16, "tiny": 8}
CONTESTANTS = ("packed", "dense-masked", "birder")


def build(contestant: str, size: str) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
    """A model and the function from model and images to loss."""
    if contestant == "birder":
        from birder.model_registry import registry  # pyright: ignore[reportMissingImports]
        from birder.net.mim.fcmae import FCMAE as Peer  # pyright: ignore[reportMissingImports]

        encoder = registry.net_factory(f"convnext_v2_{size}", 0, 3, config={"drop_path_rate": 0.0}, size=(224, 224))
        return Peer(encoder), lambda model, images: model(images)["loss"]  # pyright: ignore[reportArgumentType]
    from convnextv2.models import create_model
    from convnextv2.tasks.pretrain.fcmae import FCMAE

    sparse = contestant == "packed"
    model = FCMAE(create_model(f"convnextv2_{size}", num_classes=0))
    return model, lambda model, images: model(images, sparse=sparse).loss


class Contestant:
    """One model with its optimiser."""

    def __init__(self, name: str, size: str, precision: str) -> None:
        self.name = name
        torch.manual_seed(0)
        self.model, self.loss = build(name, size)
        self.model.train()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
        self.bf16 = precision == "bf16"

    def step(self, images: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.loss(self.model, images)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.item()


class Process:
    """A contestant in a process of its own, which keeps its memory as it likes and steps when it is told to."""

    def __init__(self, name: str, size: str, precision: str, threads: int) -> None:
        command = [sys.executable, __file__, "--child", name, "--size", size, "--precision", precision]
        command += ["--threads", str(threads)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds: list[float] = []
        self.peak_mib = 0.0

    def step(self) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write("step\n")
        self.child.stdin.flush()
        answer = json.loads(self.child.stdout.readline())
        self.seconds.append(answer["seconds"])
        self.peak_mib = answer["peak_mib"]

    def close(self) -> None:
        self.child.communicate()


def interleaved(
    size: str, precision: str, rounds: int, names: tuple[str, ...], threads: int
) -> dict[str, dict[str, float]]:
    """Median and quartiles of images/s for each contestant, and MiB at its peak less what it held before a step."""
    contestants = {name: Process(name, size, precision, threads) for name in names}
    order = list(contestants.values())
    for turn in range(rounds + 2):  # the first two warm up
        for contestant in order:
            contestant.step()
            if turn < 2:
                contestant.seconds.clear()
        order = [*order[1:], order[0]]
    result = {}
    for name, contestant in contestants.items():
        contestant.close()
        low, middle, high = statistics.quantiles(contestant.seconds, n=4)
        rates = [round(BATCH[size] / s, 2) for s in (middle, high, low)]
        result[name] = dict(zip(("images_per_second", "quartile_low", "quartile_high"), rates, strict=True))
        result[name]["peak_mib"] = contestant.peak_mib
    return result


def _child(name: str, size: str, precision: str) -> None:
    """Step for every line of the input, and answer with what it took."""
    contestant = Contestant(name, size, precision)
    images = torch.randn(BATCH[size], 3, 224, 224)
    before = _memory("VmRSS")
    for _ in sys.stdin:
        start = time.perf_counter()
        contestant.step(images)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "peak_mib": _memory("VmHWM") - before}), flush=True)


def _memory(kind: str) -> float:
    """MiB of this process now (VmRSS) or at its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(BATCH), action="append")
    parser.add_argument("--precision", choices=["fp32", "bf16"], action="append")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--avx2", action="store_true", help="limit the libraries to AVX2")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.avx2:
        again_with_avx2()
    torch.set_num_threads(args.threads)
    if args.child:
        _child(args.child, args.size[0], args.precision[0])
        return

    machine = processor()
    print("  ".join(f"{key}: {value}" for key, value in machine.items()))
    results = []
    for size in args.size or sorted(BATCH):
        for precision in args.precision or ["fp32", "bf16"]:
            rates = interleaved(size, precision, args.rounds, tuple(args.contestants), args.threads)
            for name, row in rates.items():
                if "birder" in rates:
                    row["times_birder"] = row["images_per_second"] / rates["birder"]["images_per_second"]
                about = {"size": size, "batch": BATCH[size], "precision": precision, "name": name}
                results.append(about | row | {"in_force": machine["in_force"]})
                print("  ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{v}" for k, v in results[-1].items()))
    if args.out:
        versions = {"torch": torch.__version__, "threads": args.threads}
        args.out.write_text(json.dumps({"machine": machine | versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
