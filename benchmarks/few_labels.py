"""Does pre-training pay? Fine-tuning from a pre-trained encoder against the same from random weights, few labels.

    python benchmarks/few_labels.py --data DIR --init PRETRAINED_RUN --label-fraction 0.1 --out FOLDER

Both sides: the same labelled images for a seed, the same seed, and the same recipe but for the weights they start
from and the layer-wise decay, which small-data uses for pre-trained weights alone (`--set layer_decay 1` gives it to
neither); the script checks that nothing else differs. What is reported, as mean and standard deviation over seeds, is
the accuracy of the averaged weights: on the test images with the checkpoint that was best on the validation images,
where DIR has both; otherwise on the validation images after the last epoch, never that of the best epoch. Finished
runs in --out are read and not made again, if they were made with the same settings, so that several processes can each
make the runs of some seeds. Writes results.json and curves.png into --out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import convnextv2
from convnextv2.engine import distributed, machine
from convnextv2.weights.model_file import read_model_file


def main() -> None:
    arguments, more = _arguments()
    info = read_model_file(arguments.init).info
    shape = {name: value for name, value in info.architecture.to_dict().items() if value is not None}
    shape["image_size"] = arguments.image_size or info.image_size
    sides: dict[str, dict[str, Any]] = {
        "from scratch": {},
        "pre-trained": {"init": arguments.init},
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for seed in arguments.seeds:
        for name, side in sides.items():
            run = arguments.out / f"{name.replace(' ', '-')}-{seed}"
            settings = {**shape, **side, "label_fraction": arguments.label_fraction, "seed": seed, **more}
            if not _made(arguments.data, run, settings):
                # Goes on with what was stopped, and refuses a run that was made with other settings.
                convnextv2.classify(arguments.data, run, resume=(run / "config.json").is_file(), **settings)
            found[name].append(_read(run))
            print(f"{name}, seed {seed}: {found[name][-1]['top1']:.4f}", flush=True)
    _report(arguments, found, more)


def _made(data: Path, run: Path, settings: dict[str, Any]) -> bool:
    """Whether a run is there, finished, and made with these settings of these images."""
    if not (run / "scores.json").is_file():
        return False
    given = json.loads((run / "config.json").read_text())["given"]
    asked = {name: value for name, value in settings.items() if name != "init"}
    paths = ((data, given["data"]), (settings.get("init"), given.get("init")))
    same = all((a and Path(a).resolve()) == (b and Path(b).resolve()) for a, b in paths)
    return same and all(given.get(name) == value for name, value in json.loads(json.dumps(asked)).items())


def _read(run: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curve = [line for line in lines if line["phase"] == "eval"]
    settings = json.loads((run / "config.json").read_text())["settings"]
    scores = json.loads((run / "scores.json").read_text())
    top1, on = curve[-1].get("ema_top1", curve[-1]["top1"]), "validation images, last epoch"
    if "test" in scores:
        test = scores["test"]
        top1, on = test.get("average", test["plain"])["top1"], "test images, best checkpoint on validation"
    epochs = [line["epoch"] for line in curve]
    return {"top1": top1, "on": on, "epochs": epochs, "curve": curve, "settings": settings}


def _check_equal(sides: list[dict[str, Any]]) -> None:
    """Stop where the two sides of a seed differ in more than they should."""
    a, b = sides
    different = {name for name in a if a[name] != b[name]} - {"out", "init", "layer_decay"}
    if different:
        raise SystemExit(f"the sides differ in {', '.join(sorted(different))}: name these with --set")


def _report(arguments: argparse.Namespace, found: dict[str, list[dict[str, Any]]], more: dict[str, Any]) -> None:
    for runs in zip(*found.values(), strict=True):
        _check_equal([run["settings"] for run in runs])
    results = {}
    for name, runs in found.items():
        values = [run["top1"] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        results[name] = {"on": runs[0]["on"], "top1": values, "mean": statistics.mean(values), "std": spread}
        print(f"{name:>14}: {100 * results[name]['mean']:.2f} % ± {100 * spread:.2f} ({len(values)} seeds)")
    gain = results["pre-trained"]["mean"] - results["from scratch"]["mean"]
    print(f"pre-training adds {100 * gain:.2f} points")
    record = {
        "results": results,
        "gain": gain,
        "label_fraction": arguments.label_fraction,
        "settings": {name: runs[0]["settings"] for name, runs in found.items()},
        "curves": {name: [run["curve"] for run in runs] for name, runs in found.items()},
        "more": more,
        "machine": machine.describe(distributed.init("auto").device),
        "versions": machine.versions(),
    }
    (arguments.out / "results.json").write_text(json.dumps(record, indent=1, default=str))
    _draw(found, arguments.out / "curves.png")


def _draw(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for (name, runs), colour in zip(found.items(), ("#b5651d", "#1f4e8c"), strict=True):
        for number, run in enumerate(runs):
            values = [100 * line.get("ema_top1", line["top1"]) for line in run["curve"]]
            axes.plot(run["epochs"], values, color=colour, alpha=0.8, label=name if number == 0 else None)
    axes.set_xlabel("epochs of fine-tuning")
    axes.set_ylabel("top-1, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def _arguments() -> tuple[argparse.Namespace, dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--label-fraction", type=float, default=0.1)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="of classify")
    arguments = parser.parse_args()
    return arguments, {name: json.loads(value) for name, value in arguments.set}


if __name__ == "__main__":
    main()
