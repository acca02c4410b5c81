"""Eager inference at 224 px: ours and timm's in both memory layouts, interleaved in one run.

    python benchmarks/inference.py                                    # Atto and Tiny, batch 1 and 16, fp32, 2 threads
    python benchmarks/inference.py --size atto --batch 1 --rounds 40
    python benchmarks/inference.py --avx2                             # the libraries limited to AVX2

Every contestant has the same weights, sees the same images and returns the same logits (checked to 1e-5 of the
largest before anything is timed). Times are medians over rounds in which the contestants take turns, in an order
that rotates; the ratio is ours over the faster of timm's two layouts. `--avx2` runs the benchmark again in a process
whose libraries (ATen, oneDNN, MKL) are told to use AVX2 only, as on a processor without AVX-512. Needs
`pip install timm`. Prints a table and writes JSON, each figure with the processor and the instruction set in force.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from processor import again_with_avx2, processor

SIZES = ("atto", "tiny")
BATCHES = (1, 16)
CALLS = {1: 5, 16: 1}  # calls a round: a single small one is too short to time


def contestants(size: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """Functions from images (B, 3, 224, 224) to logits (B, 1000): the same weights in each."""
    import timm

    from convnextv2.models import create_model
    from convnextv2.weights.foreign import read_foreign

    torch.manual_seed(0)
    theirs = timm.create_model(f"convnextv2_{size}").eval()
    for name, parameter in theirs.named_parameters():  # GRN starts at zero, which would hide it
        if ".grn." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    last = timm.create_model(f"convnextv2_{size}").eval()
    last.load_state_dict(theirs.state_dict())
    last = last.to(memory_format=torch.channels_last)
    ours = create_model(f"convnextv2_{size}").eval()
    ours.load_state_dict(dict(read_foreign(Path("timm.pt"), theirs.state_dict()).tensors))
    return {
        "ours": ours,
        "timm contiguous": theirs,
        "timm channels_last": lambda x: last(x.contiguous(memory_format=torch.channels_last)),
    }


@torch.inference_mode()
def interleaved(size: str, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median and quartiles of milliseconds a batch for each contestant."""
    models = contestants(size)
    images = torch.randn(batch, 3, 224, 224)
    expected = models["timm contiguous"](images)
    for name, model in models.items():
        far = ((model(images) - expected).abs().max() / expected.abs().max()).item()
        assert far < 1e-5, f"{name} differs from timm by {far:.1e} of the largest logit"
    order = list(models)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    calls = CALLS.get(batch, 1)
    for turn in range(rounds + 2):  # the first two warm up
        for name in order:
            model, start = models[name], time.perf_counter()
            for _ in range(calls):
                model(images)
            if turn >= 2:
                seconds[name].append((time.perf_counter() - start) / calls)
        order = [*order[1:], order[0]]
    rows = {}
    for name in models:
        low, middle, high = (1e3 * s for s in statistics.quantiles(seconds[name], n=4))
        rows[name] = {"milliseconds": middle, "quartile_low": low, "quartile_high": high}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, action="append")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--avx2", action="store_true", help="limit the libraries to AVX2")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    args = parser.parse_args()
    if args.avx2:
        again_with_avx2()
    torch.set_num_threads(args.threads)

    machine = processor()
    print("  ".join(f"{key}: {value}" for key, value in machine.items()))
    results = []
    for size in args.size or SIZES:
        for batch in args.batch or BATCHES:
            rows = interleaved(size, batch, args.rounds)
            fastest = min(row["milliseconds"] for name, row in rows.items() if name != "ours")
            for name, row in rows.items():
                result = {"size": size, "batch": batch, "name": name, **row, **machine}
                result["times_timm"] = fastest / row["milliseconds"]
                results.append(result)
                print(
                    f"{size:5} batch {batch:2}  {name:18} {row['milliseconds']:8.2f} ms "
                    f"({row['quartile_low']:.2f} to {row['quartile_high']:.2f})  {result['times_timm']:.2f}x  "
                    f"[{machine['processor']}, {machine['in_force']}]"
                )
    if args.out:
        versions = {"torch": torch.__version__, "threads": args.threads}
        args.out.write_text(json.dumps({"machine": machine | versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
