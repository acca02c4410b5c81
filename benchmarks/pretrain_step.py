"""One FCMAE training step at 224 px: ours packed, ours dense-masked, and birder's, interleaved in one run.

    python benchmarks/pretrain_step.py                       # Atto (batch 16) and Tiny (batch 8), fp32 and bf16
    python benchmarks/pretrain_step.py --size atto --precision fp32 --rounds 10
    python benchmarks/pretrain_step.py --precision fp32 --avx2   # the libraries limited to AVX2, see processor.py

Every contestant does the whole step on the same images with the same optimiser, called from a plain loop: draw masks,
forward, backward, AdamW. Times are medians over rounds in which the contestants take turns; peak memory is that of a
process of its own that does nothing else. That the C library keeps freed memory, which our model asks it for, is a
setting of the whole process, and so holds for every contestant. Needs `pip install birder`. Prints a table and writes
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
        self.seconds: list[float] = []

    def step(self, images: Tensor) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.loss(self.model, images)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        value = loss.item()
        self.seconds.append(time.perf_counter() - start)
        return value


def interleaved(size: str, precision: str, rounds: int, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Median and quartiles of images/s for each contestant."""
    images = torch.randn(BATCH[size], 3, 224, 224)
    contestants = [Contestant(name, size, precision) for name in names]
    for _ in range(2):
        for contestant in contestants:
            contestant.step(images)
            contestant.seconds.clear()
    for _ in range(rounds):
        for contestant in contestants:
            contestant.step(images)
    result = {}
    for c in contestants:
        low, middle, high = statistics.quantiles(c.seconds, n=4)
        rates = [round(BATCH[size] / s, 2) for s in (middle, high, low)]
        result[c.name] = dict(zip(("images_per_second", "quartile_low", "quartile_high"), rates, strict=True))
    return result


def peak_memory(name: str, size: str, precision: str) -> float:
    """MiB at the peak of three steps in a process of its own, less what it held before the first."""
    command = [sys.executable, __file__, "--child", name, "--size", size, "--precision", precision]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _child(name: str, size: str, precision: str) -> None:
    contestant = Contestant(name, size, precision)
    images = torch.randn(BATCH[size], 3, 224, 224)
    before = _memory("VmRSS")
    for _ in range(3):
        contestant.step(images)
    print(_memory("VmHWM") - before)


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
    parser.add_argument("--no-memory", action="store_true")
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
            rates = interleaved(size, precision, args.rounds, tuple(args.contestants))
            for name, row in rates.items():
                if "birder" in rates:
                    row["times_birder"] = row["images_per_second"] / rates["birder"]["images_per_second"]
                if not args.no_memory:
                    row["peak_mib"] = peak_memory(name, size, precision)
                about = {"size": size, "batch": BATCH[size], "precision": precision, "name": name}
                results.append(about | row | {"in_force": machine["in_force"]})
                print("  ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{v}" for k, v in results[-1].items()))
    if args.out:
        versions = {"torch": torch.__version__, "threads": args.threads}
        args.out.write_text(json.dumps({"machine": machine | versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
