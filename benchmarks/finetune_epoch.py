"""One epoch of fine-tuning from files on disk: ours against a loop of timm's own parts, interleaved in one run.

    python benchmarks/finetune_epoch.py                               # Atto at 224 px, fp32 and bf16
    python benchmarks/finetune_epoch.py --model convnextv2_tiny --batch 8 --precision fp32
    python benchmarks/finetune_epoch.py --set clothing                # 160 px; tiny-imagenet: 64 px
    python benchmarks/finetune_epoch.py --data FOLDER --image-size 224 --out epoch.json

Contestants:

    ours                       what a run does for its steps: the classifier's task in the engine's loop
    ours-cached                the same with every image decoded before the clock starts, as a run does where they fit
    timm                       timm's model, folder data set, loader, augmentation, mixing, optimiser, schedule, EMA
    timm-channels-last         the same in the memory layout that most CPUs convolve faster
    timm-prefetcher            the same with images normalised and erased after the worker, and mixed inside it
    timm-channels-last-prefetcher

Equal: the images, their labels, the batch and what is left over of an epoch; the recipe (that of in1k for Tiny:
crops of 8 to 100 % bicubic, flip, RandAugment 9, erasing, Mixup or CutMix, smoothing, fused AdamW with layer decay,
cosine, EMA at every step, drop path); starting weights; precision, threads, worker processes;
that workers start inside the clock, and that the C library keeps freed memory (a setting of the whole process, which
our runs make). Before it starts, logits and loss of one batch must agree within 1e-5.

Not equal, each side does it its own way: which random numbers are drawn; RandAugment's interpolation (ours bilinear,
timm's bicubic), and so the time it takes; how layers are counted for their decay; ours checks at every step that loss
and gradient are finite, and which of the mixed images were right. Neither side logs, evaluates, draws or saves
inside the clock. Times are medians over rounds in which the contestants take turns, each round in another order,
after one that is thrown away. `times_timm` is against the fastest of timm's rows. Needs `pip install timm`. Prints a
table and writes JSON.
"""

# timm does not list what it exports.
# pyright: reportPrivateImportUsage=false
from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from PIL import __version__ as pillow_version
from PIL.Image import Image
from timm.data import FastCollateMixup, Mixup, auto_augment, create_dataset, create_loader
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.loss import SoftTargetCrossEntropy
from timm.models.convnext import checkpoint_filter_fn
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, random_seed
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from convnextv2.data.files.folder import list_images
from convnextv2.data.files.reading import Reading
from convnextv2.data.labels.labels import LabelledImages
from convnextv2.data.labels.splits import read_splits
from convnextv2.data.loading.bad_images import BadImages
from convnextv2.data.loading.cache import PixelCache, expected_bytes
from convnextv2.data.loading.image_set import ImageSet
from convnextv2.data.transforms.colour import normalise
from convnextv2.engine import machine
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.loop import fit
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.engine.runlog import RunLog
from convnextv2.errors import ConvNeXtV2Error, RunFailedError, UserError, spelled_for_command
from convnextv2.models import SIZES, ConvNeXt, create_model
from convnextv2.records import Preprocessing, TaskBatch
from convnextv2.tasks.classify import recipes
from convnextv2.tasks.classify.run import lr_scales
from convnextv2.tasks.classify.settings import ClassifySettings
from convnextv2.tasks.classify.task import Augment, ClassifyTask, min_side
from convnextv2.weights.model_file import ModelInfo
from processor import processor

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = {  # folder, and pixels on a side of a crop
    "imagenet": ("imagenet1k_sample_256", 224),
    "clothing": ("clothing_small_160", 160),
    "tiny-imagenet": ("tiny_imagenet_100", 64),
}
LAYOUTS = {"": torch.contiguous_format, "-channels-last": torch.channels_last}
PEERS = {f"timm{layout}{feed}": (layout, feed) for feed in ("", "-prefetcher") for layout in LAYOUTS}
CONTESTANTS = ("ours", "ours-cached", *PEERS)
TOLERANCE = 1e-5
HERE = DistributedContext(0, 1, torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """What both sides train, and on what. linked: a folder of class folders of links, for timm's reader."""

    model: str
    precision: Literal["fp32", "bf16"]
    image_size: int
    batch: int
    workers: int
    recipe: recipes.Recipe
    data: LabelledImages
    linked: Path

    @property
    def steps(self) -> int:
        return len(self.data) // self.batch

    @property
    def classes(self) -> int:
        return len(self.data.classes)

    def new_model(self) -> ConvNeXt:
        """The model with the same weights every time."""
        torch.manual_seed(0)
        drop, head = self.recipe.drop_path, self.recipe.head_init
        return create_model(self.model, num_classes=self.classes, drop_path_rate=drop, head_init_scale=head)


def read_pictures(source: Path, most: int | None) -> LabelledImages:
    """The training images of a folder of class folders; of a flat folder, each image as a class of its own.

    most: so many of them, drawn the same way every time; None for all. Raises UserError.
    """
    images = list_images(source)
    if any("/" in name for name in images.names):
        data = read_splits(source, val_fraction=0.0).train
    else:
        data = LabelledImages(images, torch.arange(len(images)), tuple(Path(name).stem for name in images.names))
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return data.subset(sorted(order[:most].tolist()))


def link(data: LabelledImages, folder: Path) -> None:
    """The same images as links in one folder a class, named by the number of the class."""
    for index, label in enumerate(data.labels.tolist()):
        target = folder / f"{label:05d}" / f"{index:07d}{Path(data.images.names[index]).suffix.lower()}"
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(data.images.path(index).resolve())


class Clocked(ClassifyTask):
    """Tells when its first batch was asked for, and when the loop was through with its last step."""

    started = stopped = 0.0

    def clock(self) -> Clocked:
        """Start the clock when batches are asked for."""
        batches = self.batches

        def clocked(
            start: int, stop: int, accumulate: int, context: DistributedContext
        ) -> Generator[TaskBatch, None, None]:
            self.started = time.perf_counter()
            return batches(start, stop, accumulate, context)

        self.batches = clocked  # pyright: ignore[reportAttributeAccessIssue]
        return self

    def evaluate(self, model: nn.Module, context: DistributedContext) -> Iterator[tuple[str, float]]:
        """Asked for after the last step only, and then for the EMA, too."""
        self.stopped = self.stopped or time.perf_counter()
        return super().evaluate(model, context)

    def samples(self, model: nn.Module) -> Iterator[tuple[str, Image]]:
        return iter(())


def our_task(case: Case, model: ConvNeXt, cache: PixelCache | None) -> Clocked:
    info = ModelInfo(
        kind="classifier",
        architecture=model.config,
        preprocessing=Preprocessing(),
        image_size=case.image_size,
        classes=case.data.classes,
    )
    bad = BadImages(case.data.images, 0.01, print)
    settings = ClassifySettings()
    dataset = ImageSet(
        case.data.images,
        Augment.of(case.recipe, case.image_size, info.preprocessing, settings),
        reading=Reading(min_side=min_side(case.image_size, case.recipe.min_scale)),
        seed=settings.seed,
        cache=cache,
    )
    return Clocked(
        model, dataset, case.data, None, settings, case.recipe, info=info, workers=case.workers, bad=bad
    ).clock()


def our_epoch(case: Case, cache: PixelCache | None) -> float:
    """Seconds of the optimiser steps of one epoch in the engine's loop, the reading of images included."""
    recipe, model = case.recipe, case.new_model()
    task = our_task(case, model, cache)
    settings = LoopSettings(
        total_steps=case.steps,
        steps_per_epoch=case.steps,
        batch_size=case.batch,
        lr=recipe.lr,
        min_lr=recipe.min_lr,
        weight_decay=recipe.weight_decay,
        betas=recipe.betas,
        lr_scales=lr_scales(model, recipe),
        ema_decay=recipe.ema,
        precision=case.precision,
        log_every=case.steps,
        checkpoint_minutes=float("inf"),
    )
    with tempfile.TemporaryDirectory() as folder, RunLog(Path(folder), quiet=True) as log:
        fit(task, settings, log, HERE)
    return task.stopped - task.started


def timm_model(case: Case, ours: ConvNeXt) -> nn.Module:
    """timm's model of the same name with our weights."""
    options = {"num_classes": case.classes, "drop_path_rate": case.recipe.drop_path}
    peer = timm.create_model(case.model, pretrained=False, **options)
    peer.load_state_dict(checkpoint_filter_fn(ours.state_dict(), peer), strict=True)
    return peer


def keep_one_bit() -> None:
    """timm may posterise to no bits at all, a black image, which newer Pillow refuses: to one bit in that case."""

    def posterize(image: Image, bits: int, **options: Any) -> Image:
        return auto_augment.posterize(image, max(1, bits), **options)

    for name, op in auto_augment.NAME_TO_OP.items():
        if op is auto_augment.posterize:
            auto_augment.NAME_TO_OP[name] = posterize


def timm_loader(case: Case, *, prefetcher: bool) -> tuple[Any, Mixup | None]:
    """Batches of images and labels, and what mixes them; with the prefetcher the loader mixes them itself."""
    recipe, classes = case.recipe, {f"{number:05d}": number for number in range(case.classes)}
    dataset: Any = create_dataset("", root=str(case.linked), split="train", is_training=True, class_map=classes)
    if len(dataset) != len(case.data):
        raise UserError(f"timm reads {len(dataset)} of these {len(case.data)} images: give --data a folder of JPEG")
    mixing: dict[str, Any] = {"mixup_alpha": recipe.mixup, "cutmix_alpha": recipe.cutmix}
    mixing |= {"label_smoothing": recipe.smoothing, "num_classes": case.classes}
    loader = create_loader(
        dataset,
        input_size=(3, case.image_size, case.image_size),
        batch_size=case.batch,
        is_training=True,
        scale=(recipe.min_scale, 1.0),
        auto_augment=f"rand-m{recipe.rand_augment:g}-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=recipe.erasing,
        re_mode="pixel",
        num_workers=case.workers,
        use_prefetcher=prefetcher,
        collate_fn=FastCollateMixup(**mixing) if prefetcher else None,
        device=HERE.device,
    )
    return loader, None if prefetcher else Mixup(**mixing)


def timm_epoch(case: Case, layout: torch.memory_format, *, prefetcher: bool) -> float:
    """The same as `our_epoch` of a loop in the order of timm's training script."""
    recipe = case.recipe
    model = timm_model(case, case.new_model()).to(memory_format=layout).train()  # pyright: ignore[reportCallIssue]
    random_seed(0)
    optimizer = create_optimizer_v2(
        model,
        "adamw",
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        layer_decay=recipe.layer_decay,
        betas=recipe.betas,
        fused=True,
    )
    average = ModelEmaV3(model, decay=recipe.ema or 0.0)
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=1, min_lr=recipe.min_lr, step_on_epochs=False, updates_per_epoch=case.steps
    )
    assert scheduler is not None
    criterion = SoftTargetCrossEntropy()
    loader, mixing = timm_loader(case, prefetcher=prefetcher)
    losses: list[float] = []

    started = time.perf_counter()
    batches = iter(loader)
    for step in range(1, case.steps + 1):
        images, targets = next(batches)
        if mixing is not None:
            images, targets = mixing(images, targets)
        images = images.contiguous(memory_format=layout)
        with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bf16"):
            loss = criterion(model(images), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        optimizer.zero_grad()
        average.update(model, step=step)
        scheduler.step_update(num_updates=step)
    seconds = time.perf_counter() - started

    if next(batches, None) is not None:
        raise RunFailedError(f"timm's epoch has more than {case.steps} steps of {case.batch} images")
    return seconds


def differences(case: Case) -> dict[str, float]:
    """Of logits and loss of one batch of the data, both with our weights: largest, relative to timm's largest value.

    All weights are random, as GRN's initial zeros would hide errors. Nothing is mixed, and no path dropped.
    """
    plain = replace(case, workers=0, recipe=replace(case.recipe, mixup=0.0, cutmix=0.0))
    model = plain.new_model().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            else:
                parameter.normal_(float(name.endswith("weight")), 0.2)
    peer = timm_model(plain, model).eval()
    task = our_task(plain, model, None)
    batch = next(task.batches(0, 1, 1, HERE))
    pictures, labels = batch.tensors["images"], batch.tensors["labels"]
    mixing = Mixup(label_smoothing=plain.recipe.smoothing, num_classes=plain.classes)
    mixing.mixup_enabled = False
    images = normalize(pictures.float() / 255, list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD))
    images, targets = mixing(images, labels)
    expected = peer(images)
    pairs: dict[str, tuple[Tensor, Tensor]] = {
        "logits": (model(normalise(pictures, Preprocessing())), expected),
        "loss": (task.step(model, batch).loss, SoftTargetCrossEntropy()(expected, targets)),
    }
    return {name: ((a - b).abs().max() / b.abs().max()).item() for name, (a, b) in pairs.items()}


def epoch(name: str, case: Case, cache: PixelCache | None) -> float:
    """One turn of a contestant: seconds."""
    gc.collect()
    if name not in PEERS:
        return our_epoch(case, cache if name == "ours-cached" else None)
    layout, feed = PEERS[name]
    return timm_epoch(case, LAYOUTS[layout], prefetcher=bool(feed))


def interleaved(case: Case, names: list[str], rounds: int, cache: PixelCache | None) -> dict[str, dict[str, Any]]:
    """Median, lowest and highest images/s of each contestant, and the seconds of all its turns but the first."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(epoch(name, case, cache))
            print(f"  {case.model} {case.precision} round {turn}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr)
    rows: dict[str, dict[str, Any]] = {}
    for name, (_, *times) in seconds.items():
        middle, low, high = (
            round(case.steps * case.batch / s, 2) for s in (statistics.median(times), max(times), min(times))
        )
        rows[name] = {"images_per_second": middle, "lowest": low, "highest": high, "seconds": times}
    fastest = max((row["images_per_second"] for name, row in rows.items() if name in PEERS), default=None)
    for row in rows.values():
        row["times_timm"] = row["images_per_second"] / fastest if fastest else None
    return rows


def show(case: Case, rows: dict[str, dict[str, Any]]) -> None:
    print(f"{case.model}, {case.precision}, {case.steps} steps of {case.batch} images, {case.image_size} px")
    print(f"  {'':30}{'images/s':>10}{'lowest':>10}{'highest':>10}{'x timm':>9}")
    for name, row in rows.items():
        times = "" if row["times_timm"] is None else f"{row['times_timm']:9.2f}"
        print(f"  {name:30}{row['images_per_second']:10.2f}{row['lowest']:10.2f}{row['highest']:10.2f}{times}")


def decode_before(case: Case) -> tuple[PixelCache | None, float]:
    """All images decoded, if they fit as they must in a run, and the seconds that it took."""
    started = time.perf_counter()
    images, smallest = case.data.images, min_side(case.image_size, case.recipe.min_scale)
    room = expected_bytes(images, Reading(min_side=smallest))
    if room > machine.free_bytes(HERE.device) // 4:
        return None, time.perf_counter() - started
    cache = PixelCache(images, 2 * room, Reading(min_side=smallest))
    dataset = ImageSet(images, lambda image: {}, reading=Reading(min_side=smallest), cache=cache)
    with ThreadPoolExecutor(machine.processors()) as pool:
        for _ in pool.map(dataset.read, range(len(images))):
            pass
    return cache, time.perf_counter() - started


def measure(args: argparse.Namespace, data: LabelledImages, image_size: int, linked: Path) -> dict[str, Any]:
    """Every model and precision asked for, printed as it comes; what is to be written."""
    recipe = recipes.in1k("tiny")
    recipe = replace(recipe, batch_size=args.batch, epochs=1, warmup_epochs=0, lr=recipes.scaled_lr(recipe, args.batch))
    link(data, linked)
    case = Case(
        model="",
        precision="fp32",
        image_size=image_size,
        batch=args.batch,
        workers=args.workers,
        recipe=recipe,
        data=data,
        linked=linked,
    )
    names, cache, decoding = list(args.contestants), None, None
    if "ours-cached" in names:
        cache, decoding = decode_before(case)
        print(f"decoding {len(data)} images before the clock of ours-cached: {decoding:.1f} s")
        if cache is None:
            print("ours-cached is left out: the decoded images take more than a quarter of the free memory")
            names.remove("ours-cached")
    print("  ".join(f"{key}: {value}" for key, value in processor().items()))
    results = []
    for model in args.model or ["convnextv2_atto"]:
        case = replace(case, model=model)
        apart = differences(case)
        print(f"{model}, timm against ours: " + ", ".join(f"{name} {value:.1e} apart" for name, value in apart.items()))
        if not max(apart.values()) <= TOLERANCE:
            raise RunFailedError(f"{model}: the two sides do not compute the same, {apart}; nothing was timed")
        for precision in args.precision or ["fp32", "bf16"]:
            case = replace(case, precision=precision)
            rows = interleaved(case, names, args.rounds, cache)
            show(case, rows)
            about = {"model": model, "precision": precision, "batch": case.batch, "image_size": image_size}
            results += [{**about, "name": name, **row, "differences": apart} for name, row in rows.items()]
    about = {"pictures": len(data), "classes": case.classes, "workers": args.workers, "rounds": args.rounds}
    about |= {"decode_seconds": decoding, "data": data.images.source.name, "recipe": asdict(recipe)}
    versions = {**machine.versions(), "timm": timm.__version__, "pillow": pillow_version}
    return {**about, "machine": machine.describe(HERE.device) | processor(), "versions": versions, "results": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SIZES), action="append", metavar="convnextv2_SIZE")
    parser.add_argument("--precision", choices=["fp32", "bf16"], action="append")
    parser.add_argument("--set", choices=SETS, default="imagenet", help="images and their size, from ../shared")
    parser.add_argument("--data", type=Path, help="a folder of class folders, or of images, in context of --set")
    parser.add_argument("--image-size", type=int, help="pixels on a side of a crop; by default that of --set")
    parser.add_argument("--pictures", type=int, help="only so many, drawn the same way every time")
    parser.add_argument("--batch", type=int, default=16, help="even, as timm's Mixup wants it")
    parser.add_argument("--rounds", type=int, default=3, help="besides the first, which is thrown away")
    parser.add_argument("--workers", type=int, default=min(max(1, machine.processors() - 1), 8))
    parser.add_argument("--threads", type=int, default=machine.processors())
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine.keep_freed_memory()
    keep_one_bit()
    folder, size = SETS[args.set]
    try:
        source = args.data or SHARED / folder
        if not source.is_dir():
            raise UserError(f"no folder of images at {source}: give --data FOLDER (make bench DATA=FOLDER)")
        data = read_pictures(source, args.pictures)
        if args.batch < 2 or args.batch % 2 or args.batch > len(data):
            raise UserError(f"--batch {args.batch} of {len(data)} images: give an even number up to theirs")
        if args.rounds < 1:
            raise UserError(f"--rounds {args.rounds}: give 1 or more")
        with tempfile.TemporaryDirectory() as linked:
            found = measure(args, data, args.image_size or size, Path(linked))
    except ConvNeXtV2Error as error:
        with spelled_for_command():  # options of this script
            sys.exit(str(error))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
