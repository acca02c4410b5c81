"""Do kills and damages cost a run anything? Small runs, killed and damaged at random; the ends compared bit by bit.

    python benchmarks/kills.py kills --count 300
    python benchmarks/kills.py damages --count 300
    python benchmarks/kills.py metadata

`kills` sends SIGKILL to the whole process group of runs of both tasks, at any moment of the start, the training and
the saves, resumes until the run is finished, and compares weights, optimiser and log with an undisturbed run's.
`damages` harms one part of a stopped run in one way and resumes: that must be refused in one line that names the part,
or end with exactly the right tensors; what is lost of the log must be said. `metadata` gives model files and
config.json odd and hostile values. Prints a table of counts by kind; exit code 1 if anything was lost, silently wrong,
or a traceback.

A process that has imported everything is forked for each try, so that a try takes a second. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

SMALL = [
    "--model",
    "convnextv2_atto",
    "--depths",
    "1",
    "1",
    "1",
    "1",
    "--dims",
    "8",
    "8",
    "16",
    "16",
    "--image-size",
    "32",
    "--stem-stride",
    "1",
    "--batch-size",
    "8",
    "--precision",
    "fp32",
    "--log-every",
    "1",
    "--device",
    "cpu",
]
TASKS = {
    "pretrain": [*SMALL, "--decoder-dim", "16", "--pictures", "1", "--epochs", "4"],
    "classify": [*SMALL, "--recipe", "small-data", "--ema", "0.5", "--drop-path", "0.2", "--epochs", "5",
                 "--eval-epochs", "1", "--max-bad-fraction", "0.2"],
}  # fmt: skip
MEMORY = 2 * 2**30  # bytes of address space that a try may take beyond what the process has when it is forked
CHECKPOINT = ("model.safetensors", "optimizer.safetensors", "state.json")
RUN = ("config.json", "metrics.jsonl", "checkpoints/latest", "checkpoints/best", "bad_images.json", "log.txt")


def warm() -> None:
    """Import all that a run needs, so that forked processes begin at once."""
    torch.set_num_threads(1)
    for name in ("cli", "tasks.pretrain.run", "tasks.classify.run", "cli.pretrain", "cli.classify", "verbs.predict"):
        importlib.import_module(f"convnextv2.{name}")
    with contextlib.suppress(ImportError):
        importlib.import_module("torch.utils.tensorboard")


def begin(work: Callable[[], None], output: Path) -> int:
    """Fork a process in a group of its own that does `work`; returns its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        return child
    os.setpgid(0, 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code = 70
    try:
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def command(*arguments: str | Path) -> Callable[[], None]:
    """The command with these arguments, to be done in a process of its own."""
    from convnextv2.cli import main

    return lambda: main([str(argument) for argument in arguments])


def done(work: Callable[[], None], output: Path, seconds: float = 1200) -> tuple[int, str]:
    """Exit code and output of `work` in a process of its own; -9 if it takes longer."""
    child = begin(work, output)
    return waited(child, seconds), output.read_text(errors="replace")


def waited(child: int, seconds: float) -> int:
    """Wait for the end of a process; kill its group if it takes longer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return killed(child)


def killed(child: int) -> int:
    """SIGKILL to the group; returns how the process ended, which may have been before."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def make_images(folder: Path) -> Path:
    """40 images in two classes, and one that is none."""
    rng = np.random.default_rng(0)
    for number in range(40):
        target = folder / ("cats" if number % 2 else "dogs") / f"{number:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((48, 40), Image.Resampling.BICUBIC).save(target)
    (folder / "cats" / "broken.png").write_bytes(b"\x89PNG")
    return folder


def line_of(task: str, images: Path, run: Path, *more: str, workers: int = 0) -> list[str]:
    """The command line of a run."""
    return [task, "--data", str(images), "--out", str(run), *TASKS[task], "--workers", str(workers), *more]


def tensors_in(path: Path) -> dict[str, bytes]:
    """Names, types, shapes and bytes of all tensors of a file."""
    with safe_open(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return {
        f"{n} {t.dtype} {tuple(t.shape)}": t.flatten().view(torch.uint8).numpy().tobytes() for n, t in found.items()
    }


def logged(run: Path) -> list[str]:
    """The lines of the log without times."""
    found = []
    for line in (run / "metrics.jsonl").read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                timed = ("time", "images_per_second", "hours")
                found.append(json.dumps({name: value for name, value in record.items() if name not in timed}))
        if not line or not line.startswith("{"):
            found.append(line)
    return found


@dataclass(frozen=True)
class End:
    """What a finished run left."""

    model: dict[str, bytes]
    optimizer: dict[str, bytes]
    best: str
    log: list[str]
    leftovers: list[str]


def end_of(run: Path) -> End:
    """Read what a finished run left."""
    folder = run / "checkpoints"
    last, best = folder / (folder / "latest").read_text(), folder / "best"
    leftovers = [str(path.relative_to(run)) for path in run.rglob("*") if "partial" in path.name]
    return End(
        tensors_in(last / "model.safetensors"),
        tensors_in(last / "optimizer.safetensors"),
        best.read_text() if best.exists() else "",
        logged(run),
        leftovers,
    )


def differences(run: Path, whole: End) -> list[str]:
    """In what a finished run differs from an undisturbed one."""
    found = end_of(run)
    return [name for name in vars(whole) if getattr(found, name) != getattr(whole, name)]


# --- kills -----------------------------------------------------------------------------------------------------------


def kills(work: Path, count: int, seed: int) -> bool:
    """Kill and resume until `count` kills are done; print what came of it."""
    images, rng, output = make_images(work / "images"), random.Random(seed), work / "output.txt"
    wholes: dict[str, tuple[End, float]] = {}
    for task in TASKS:
        started = time.monotonic()
        code, said = done(command(*line_of(task, images, work / task, "--checkpoint-every", "1")), output)
        assert code == 0, said
        wholes[task] = (end_of(work / task), time.monotonic() - started)
    struck: Counter[str] = Counter()
    lost: list[str] = []
    number = 0
    while sum(struck.values()) < count:
        task, number = list(TASKS)[number % 2], number + 1
        whole, seconds = wholes[task]
        run = work / f"killed-{number}"
        while True:
            workers = int(rng.random() < 0.15)
            arguments = line_of(task, images, run, "--checkpoint-every", "1", "--auto-resume", workers=workers)
            child = begin(command(*arguments), output)
            where = rng.choice(["at any moment", "in a save", "in a save", "at the start"])
            if sum(struck.values()) < count and strike(child, where, run, seconds, rng):
                struck[where] += 1
                continue
            code, said = waited(child, 1200), output.read_text(errors="replace")
            different = differences(run, whole) if code == 0 else [f"exit code {code}: {said[-300:]}"]
            if different:
                lost.append(f"{run.name} ({task}): {', '.join(different)}")
            break
        shutil.rmtree(run, ignore_errors=True)
        print(f"{sum(struck.values())} kills, {number} runs, {len(lost)} lost {lost[-1:]}", file=sys.stderr, flush=True)
    for where, number_of in struck.items():
        print(f"kills {where:15} {number_of:4}")
    print(f"runs ended {number}, different from the undisturbed one {len(lost)}", *lost, sep="\n  ")
    return not lost


def strike(child: int, where: str, run: Path, seconds: float, rng: random.Random) -> bool:
    """Kill a run at a moment of some kind; whether it was still alive."""
    end = time.monotonic() + rng.uniform(0, 0.1 if where == "at the start" else seconds)
    if where == "in a save":
        end = time.monotonic() + rng.uniform(0, seconds / 2)
    while time.monotonic() < end:
        time.sleep(0.001)
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
    if where == "in a save":
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and not _saving(run):
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return False
        time.sleep(rng.uniform(0, 0.02))
    if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        return False
    killed(child)
    return True


def _saving(run: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(name.endswith(".partial") for name in os.listdir(run / "checkpoints"))
    return False


# --- damages ---------------------------------------------------------------------------------------------------------


def flip(content: bytes, rng: random.Random) -> bytes:
    """One bit."""
    changed = bytearray(content)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeros(content: bytes, rng: random.Random) -> bytes:
    """A block of zeros, as file systems leave after a power cut."""
    changed = bytearray(content)
    start = rng.randrange(max(1, len(changed)))
    size = min(512, len(changed) - start)
    changed[start : start + size] = bytes(size)
    return bytes(changed)


IN_PLACE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bit flip": flip,
    "truncated": lambda content, rng: content[: rng.randrange(len(content))] if content else b"",
    "zeros": zeros,
    "empty": lambda content, rng: b"",
    "appended": lambda content, rng: content + rng.choice([rng.randbytes(16), b"\n", content[-40:], b"x"]),
    "garbage": lambda content, rng: rng.randbytes(len(content)),
}
KINDS = (*IN_PLACE, "deleted", "another step", "another run")


def stopped_run(task: str, images: Path, run: Path, output: Path, seed: int) -> None:
    """A run that was killed after its checkpoint of step 10; it has an older one, too."""
    child = begin(command(*line_of(task, images, run, "--checkpoint-every", "5", "--seed", str(seed))), output)
    pointer = run / "checkpoints" / "latest"
    while not pointer.exists() or pointer.read_text() != "step-00000010":
        assert not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT), output.read_text()
        time.sleep(0.001)
    killed(child)


def damage(run: Path, other: Path, part: str, kind: str, rng: random.Random) -> bool:
    """Harm a part of a run; False if that changes nothing, or there is no such part."""
    folder = run / "checkpoints"
    newest = folder / "step-00000010"
    if part == "whole checkpoint":
        sources = {"another step": folder / "step-00000005", "another run": other / "checkpoints" / newest.name}
        if kind not in ("deleted", "empty", *sources):
            return False
        kept = shutil.copytree(sources.get(kind, newest), run.parent / "kept", dirs_exist_ok=True)
        shutil.rmtree(newest)
        if kind in sources:
            shutil.copytree(kept, newest)
        elif kind == "empty":
            newest.mkdir()
        shutil.rmtree(kept)
        return True
    path = newest / part if part in CHECKPOINT else run / part
    if not path.is_file():
        return False
    before = path.read_bytes()
    if kind == "deleted":
        path.unlink()
        return True
    if kind == "another step":
        older = folder / "step-00000005" / part
        after = older.read_bytes() if older.is_file() else re.sub(rb"step-0000001\d", b"step-00000005", before)
    elif kind == "another run":
        after = (other / path.relative_to(run)).read_bytes() if (other / path.relative_to(run)).is_file() else before
    else:
        after = IN_PLACE[kind](before, rng)
    path.write_bytes(after)
    return after != before


def damages(work: Path, count: int, seed: int) -> bool:
    """Damage and resume `count` times; print what came of it."""
    images, rng, output = make_images(work / "images"), random.Random(seed), work / "output.txt"
    wholes = {}
    for task in TASKS:
        code, said = done(command(*line_of(task, images, work / task, "--checkpoint-every", "5")), output)
        assert code == 0, said
        wholes[task] = end_of(work / task)
        stopped_run(task, images, work / f"{task}-stopped", output, 0)
        stopped_run(task, images, work / f"{task}-other", output, 1)
    tries = [(part, kind) for part in (*CHECKPOINT, "whole checkpoint", *RUN) for kind in KINDS]
    results: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    bad: list[str] = []
    number = made = 0
    while made < count:
        task = list(TASKS)[number // len(tries) % 2]
        part, kind = tries[number % len(tries)]
        number += 1
        run = shutil.copytree(work / f"{task}-stopped", work / "damaged", symlinks=True)
        if damage(run, work / f"{task}-other", part, kind, rng):
            made += 1
            code, said = done(command(task, "--out", run, "--resume", "--workers", "0"), output)
            outcome = judged(code, said, part, run, wholes[task])
            results[part, kind][outcome] += 1
            print(f"{made} {task} {part}, {kind}: {outcome}", file=sys.stderr, flush=True)
            if outcome in BAD:
                bad.append(f"{task} {part}, {kind}: {outcome}: {_last(said)}")
        shutil.rmtree(run)
    show(results)
    print(*sorted(bad), sep="\n")
    return not bad


BAD = ("traceback", "silently wrong", "unnamed", "several lines", "not said", "hung", "out of memory", "accepted")


def judged(code: int, said: str, part: str, run: Path, whole: End) -> str:
    """What came of a resume."""
    if "Traceback" in said or code == 70:
        return "traceback"
    if code < 0:
        return "hung"
    name = Path(part).name if part != "whole checkpoint" else "step-00000010"
    if code:
        line = _last(said)
        if sum("convnextv2:" in one for one in said.splitlines()) != 1:
            return "several lines"
        return "refused" if name in line else "unnamed"
    wrong = differences(run, whole)
    if {"model", "optimizer", "best"} & set(wrong):
        return "silently wrong"
    if wrong and part == "metrics.jsonl":
        return "right, log's loss said" if name in said else "not said"
    return f"right, but for {', '.join(wrong)}" if wrong else "right"


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""


def show(results: dict[tuple[str, str], Counter[str]]) -> None:
    """Print counts by part, kind and outcome, and their sums."""
    sums: Counter[str] = Counter()
    for (part, kind), counts in results.items():
        print(f"{part:24} {kind:22}", ", ".join(f"{name} {number}" for name, number in sorted(counts.items())))
        sums += counts
    print("all", sum(sums.values()), dict(sorted(sums.items())))


# --- metadata --------------------------------------------------------------------------------------------------------

DEEP = "[" * 100_000 + "]" * 100_000
ENTRIES: dict[str, list[str]] = {
    "image_size": [
        "0",
        "-5",
        str(10**20),
        "1e3",
        "32.5",
        "true",
        "null",
        "nan",
        "\u0663\u0662",
        "3_2",
        " 32 ",
        "",
        "9" * 5000,
    ],
    "crop_pct": ["1e-300", "0", "-0.5", "1.5", "NaN", "Infinity", "true", '"0.9"', "[0.9]", "{}", DEEP, "1e-9"],
    "preprocessing": [
        '{"mean": [NaN, 0, 0], "std": [1, 1, 1]}',
        '{"mean": [0, 0, 0], "std": [0, 1, 1]}',
        '{"mean": [0, 0, 0], "std": [1e-300, 1, 1]}',
        '{"mean": [0, 0, 0], "std": [1e400, 1, 1]}',
        '{"mean": [0], "std": [1]}',
        '{"mean": [0, 0], "std": [1, 1, 1]}',
        '{"mean": "abc", "std": "abc"}',
        '{"mean": [true, true, true], "std": [true, true, true]}',
        '{"mean": ["0", "0", "0"], "std": ["1", "1", "1"]}',
        '{"mean": [0, 0, 0], "std": [-1, 1, 1]}',
        '{"mean": null, "std": null}',
        "[]",
        DEEP,
        '{"mean": [0, 0, 0], "mean": [9, 9, 9], "std": [1, 1, 1]}',
        '{"mean": {"0": 1, "1": 1, "2": 1}, "std": [1, 1, 1]}',
    ],
    "classes": [
        "[]",
        '["a"]',
        '["a", "b", "c"]',
        '"ab"',
        '{"a": 0, "b": 1}',
        "[1, 2]",
        "[null, null]",
        '[["a"], ["b"]]',
        "7",
        "null",
        json.dumps([f"class {n}" for n in range(50_000)]),
        json.dumps(["a", "x" * 10**7]),
        "[true, false]",
        DEEP,
        "['a', 'b']",
    ],
    "multi_label": ["1", '"true"', "null", "[]", "yes", "NaN", DEEP],
    "encoder": [
        '{"model": "convnextv2_atto"}',
        "[]",
        "null",
        DEEP,
        '"convnextv2_atto"',
    ],
    "step": ["-1", "1.5", "true", "null", "nan", "9" * 5000, "\u0667", "x"],
    "trained_from": [
        "{}",
        '"x"',
        "[1]",
        "[[]]",
        '[{"format": 1, "trained_on": 2}]',
        '[{"format": "x"}]',
        DEEP,
        "null",
        "[null]",
    ],
    "format": [
        "convnextv2.nothing-known.1",
        "convnextv2.classifier.2",
        "convnextv2.encoder.1",
        "convnextv2.fcmae.1",
        "",
    ],
    "licence": ["MIT\u001b[31m", "x" * 10**6, "a\nb", "\u202egpj"],
    "trained_on": ["a\u001b]0;x\u0007b", "x" * 10**6, "a\nb"],
}
IN_ENCODER: dict[str, list[object]] = {
    "model": [None, 5, "convnextv2_attoo", "timm:../../x", "timm:hf-hub:someone/model", "", True, ["convnextv2_atto"]],
    "in_chans": [0, -3, True, "3", 3.0, 10**20, None, 1, 2**31],
    "stem_stride": [0, 3, True, "1", 1.0, None, 4, 10**20],
    "depths": [[1, 1, 1], [10**9] * 4, [True] * 4, ["1"] * 4, [1.0] * 4, "1111", 5, [0, 1, 1, 1], {"0": 1}],
    "dims": [
        [8, 8, 16],
        [10**9] * 4,
        [10**20] * 4,
        [True] * 4,
        ["8"] * 4,
        [0, 8, 16, 16],
        "8888",
        [8, 8, 16, 17],
        [2**33] * 4,
    ],
}
WRONG_VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1e300,
    math.inf,
    math.nan,
    10**30,
    "",
    "x",
    "0",
    "\ud800",
    [],
    {},
    [1],
    [[]],
    {"a": 1},
]


def metadata(work: Path) -> bool:
    """Try odd and hostile values in model files and in config.json; print what came of it."""
    images, output = make_images(work / "images"), work / "output.txt"
    results: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    bad: list[str] = []

    def note(part: str, kind: str, value: object, outcome: str, said: str) -> None:
        results[part, kind][outcome] += 1
        if outcome in BAD:
            bad.append(f"{part} {kind} = {str(value)[:60]!r}: {outcome}: {_last(said)[:200]}")

    run = work / "classify"
    code, said = done(command(*line_of("classify", images, run)), output)
    assert code == 0, said
    target, image = work / "model.safetensors", images / "cats" / "01.png"
    with safe_open(
        run / "checkpoints" / (run / "checkpoints" / "latest").read_text() / "model.safetensors", "pt"
    ) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata()
    for kind, said_of in _model_values(json.loads(about["encoder"])):
        _write(target, tensors, about | said_of)
        outcome, said = _used(target, image, output)
        note("model file", kind, next(iter(said_of.values())), outcome, said)
    config = json.loads((run / "config.json").read_text())
    config.pop("seal", None)
    for name, before in config["settings"].items():
        for value in WRONG_VALUES:
            if not fits(value, before, name):
                changed = {**config, "settings": config["settings"] | {name: value}}
                outcome, said = _started(changed, work)
                note("config.json", f"settings.{name}", value, outcome, said)
    for name in ("settings", "given", "data", "model", "verb"):
        for value in (None, True, 5, "x", [], [1], {"a": 1}):
            outcome, said = _resumed(json.dumps({**config, name: value}), run, work, output)
            note("config.json resumed", name, value, outcome, said)
    show(results)
    print(*bad, sep="\n")
    return not bad


def _model_values(encoder: dict[str, object]) -> list[tuple[str, dict[str, str]]]:
    found = [(name, {name: value}) for name, values in ENTRIES.items() for value in values]
    for name, values in IN_ENCODER.items():
        found += [(f"encoder.{name}", {"encoder": json.dumps(encoder | {name: value})}) for value in values]
    return found


def _write(target: Path, tensors: dict[str, torch.Tensor], about: dict[str, str]) -> None:
    """A file with a right hash and wrong metadata, as a program of others could write it."""
    from convnextv2.weights.files import save_tensors

    about = {name: text for name, text in about.items() if "sha256" not in name}
    try:
        save_tensors(target, tensors, about)
    except (SafetensorError, UnicodeError):
        save_file(tensors, target, about)


def limited(work: Callable[[], None]) -> Callable[[], None]:
    """The same with little memory to spare."""

    def inside() -> None:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
        work()

    return inside


def _used(target: Path, image: Path, output: Path) -> tuple[str, str]:
    code, said = done(limited(command("predict", image, "--run", target)), output, 600)
    return _outcome(code, said), said


def _outcome(code: int, said: str) -> str:
    if any(word in said for word in ("MemoryError", "can't allocate", "Cannot allocate")):
        return "out of memory"
    if "Traceback" in said or code == 70:
        return "traceback"
    if code < 0:
        return "hung"
    if code and ("\x1b" in said or "\x07" in said):
        return "several lines"
    if code:
        return (
            "refused"
            if len(_last(said)) < 1000 and sum("convnextv2:" in x for x in said.splitlines()) == 1
            else "several lines"
        )
    return "accepted"


def fits(value: object, before: object, name: str) -> bool:
    """Whether a value is one that the setting may have (so that to take it is right)."""
    if value is None or name in ("resume", "config", "out", "data"):
        return True
    paths_and_texts = (
        "device",
        "init",
        "inflate",
        "group_column",
        "group_pattern",
        "label_column",
        "label_separator",
        "model",
    )
    if name in paths_and_texts and isinstance(value, str):
        return True
    if isinstance(before, bool):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return isinstance(before, int | float) or before is None
    return False


def _started(config: dict[str, object], work: Path) -> tuple[str, str]:
    """What becomes of another run's config.json: its settings are read, and nothing is trained."""
    from convnextv2.errors import ConvNeXtV2Error
    from convnextv2.runs.resume import settings_in_force
    from convnextv2.tasks.classify.run import CLASSIFY

    path, out = work / "config.json", work / "from-config"
    path.write_text(json.dumps(config))
    try:
        requested = CLASSIFY.settings(out=out, config=path)
        settings_in_force(CLASSIFY, requested, {"out", "config"})
    except ConvNeXtV2Error as error:
        return ("refused" if "\n" not in str(error) and len(str(error)) < 1000 else "several lines"), str(error)
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return "accepted", ""


def _resumed(text: str, run: Path, work: Path, output: Path) -> tuple[str, str]:
    """A finished run that is resumed with this config.json."""
    copy = shutil.copytree(run, work / "copy")
    (copy / "config.json").write_text(text)
    code, said = done(limited(command("classify", "--out", copy, "--resume", "--workers", "0")), output, 600)
    shutil.rmtree(copy)
    outcome = _outcome(code, said)
    return outcome, said


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "damages", "metadata"])
    parser.add_argument("--count", type=int, default=300, help="kills or damages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="a new folder to work in; by default a temporary one")
    given = parser.parse_args()
    warm()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(exist_ok=True)
        calls = {
            "kills": lambda: kills(work, given.count, given.seed),
            "damages": lambda: damages(work, given.count, given.seed),
            "metadata": lambda: metadata(work),
        }
        sys.exit(0 if calls[given.what]() else 1)


if __name__ == "__main__":
    main()
