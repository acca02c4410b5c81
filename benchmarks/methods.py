"""{V1, V2} x {supervised, FCMAE}, ViT and Swin: the comparison of the paper's Tables 3 to 5 as a loop of commands.

    python benchmarks/methods.py --data DIR --out FOLDER --size tiny --image-size 96 --pretrain-epochs 20 --epochs 20

DIR has train/, val/ and perhaps test/ of class folders. Each line of the table is one or two commands of
`convnextv2`, which are printed and written into table.json. All have the recipe of `classify`; what starts from FCMAE
has its layer-wise decay, too. On a small set for a few epochs this checks the pipeline and says nothing about methods.
A second call goes on with what a first one left, and refuses runs made with other settings.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from convnextv2.engine import distributed, machine

PEERS = {"atto": ("vit_tiny_patch16_224", None), "tiny": ("vit_small_patch16_224", "swin_tiny_patch4_window7_224")}


def main() -> None:
    arguments, more = _arguments()
    vit, swin = PEERS[arguments.size]
    versions = {"V1": f"convnext_{arguments.size}", "V2": f"convnextv2_{arguments.size}"}
    rows = []
    for version, model in versions.items():
        shape = ["--model", model, "--stem-stride", str(arguments.stem_stride)]
        rows.append((f"{version}, supervised", _classify(arguments, f"{version}-supervised", shape, more)))
        pretrained = _pretrain(arguments, version, shape)
        init = ["--init", str(pretrained[0])]
        rows.append((f"{version}, FCMAE", [*pretrained[1], *_classify(arguments, f"{version}-fcmae", init, more)]))
    for name, model in (("ViT, supervised", vit), ("Swin, supervised", swin)):
        if model is not None:
            rows.append((name, _classify(arguments, model, ["--model", f"timm:{model}"], more)))
    table = []
    for name, commands in rows:
        run = Path(shlex.split(commands[-1])[shlex.split(commands[-1]).index("--out") + 1])
        config = json.loads((run / "config.json").read_text())
        curve = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        last = [line for line in curve if line["phase"] == "eval"][-1]
        table.append(
            {
                "model": name,
                "parameters": config["model"]["parameters"],
                "val_top1_last_epoch": last.get("ema_top1", last["top1"]),
                "scores": json.loads((run / "scores.json").read_text()),
                "commands": commands,
            }
        )
        print(f"{name:<18} {table[-1]['parameters'] / 1e6:6.1f}M  {100 * table[-1]['val_top1_last_epoch']:5.1f} %")
    record = {
        "table": table,
        "data": str(arguments.data),
        "machine": machine.describe(distributed.init("auto").device),
        "versions": machine.versions(),
    }
    (arguments.out / "table.json").write_text(json.dumps(record, indent=1))


def _pretrain(arguments: argparse.Namespace, version: str, shape: list[str]) -> tuple[Path, list[str]]:
    run = arguments.out / f"{version}-pretraining"
    words = ["pretrain", "--data", str(arguments.data / "train"), "--out", str(run), *shape]
    words += ["--image-size", str(arguments.image_size), "--epochs", str(arguments.pretrain_epochs)]
    return run, [_do(words, run)]


def _classify(arguments: argparse.Namespace, name: str, model: list[str], more: list[str]) -> list[str]:
    run = arguments.out / name
    words = ["classify", "--data", str(arguments.data), "--out", str(run), *model]
    words += ["--image-size", str(arguments.image_size), "--epochs", str(arguments.epochs), *more]
    return [_do(words, run)]


def _do(words: list[str], run: Path) -> str:
    """Run a command, or go on with it; returns it as one types it."""
    command = shlex.join(["convnextv2", *words])
    print(command, flush=True)
    resume = ["--resume"] if (run / "config.json").is_file() else []
    subprocess.run([sys.executable, "-m", "convnextv2", *words, *resume], check=True)
    return command


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=list(PEERS), default="tiny")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--stem-stride", type=int, default=4)
    parser.add_argument("--pretrain-epochs", type=float, default=20)
    parser.add_argument("--epochs", type=float, default=20)
    return parser.parse_known_args()  # what is left goes to `convnextv2 classify`


if __name__ == "__main__":
    main()
