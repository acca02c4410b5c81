"""All that a classifier's run decides before its first step: labels, weights, model, recipe."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from convnextv2.data.labels.labels import LabelledImages, few_labels
from convnextv2.data.labels.splits import Splits, read_splits
from convnextv2.engine import machine
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.runlog import RunLog
from convnextv2.errors import UserError
from convnextv2.models import ConvNeXt, layer_ids, timm_backbone
from convnextv2.models.timm_backbone import TimmBackbone, create_any
from convnextv2.records import Preprocessing
from convnextv2.runs import origin
from convnextv2.runs.prepare import Chosen, Plan, Prepared, fingerprint, take_pictures
from convnextv2.runs.prepare import prepare as prepare_run
from convnextv2.tasks.classify import recipes, weights
from convnextv2.tasks.classify.artifacts import write_artifacts
from convnextv2.tasks.classify.evaluator import Evaluator
from convnextv2.tasks.classify.metrics import main_metric
from convnextv2.tasks.classify.recipes import Recipe
from convnextv2.tasks.classify.settings import NO_CLASS_TO_DRAW, ClassifySettings
from convnextv2.tasks.classify.task import ClassifyTask, min_side
from convnextv2.text import shown
from convnextv2.weights.files import HASH_KEY, checkpoint_of
from convnextv2.weights.init import architecture
from convnextv2.weights.load import absolute, read
from convnextv2.weights.model_file import ARCHITECTURE, ModelFile, read_own

SMALL = 100_000
"""Up to so many training pictures the recipe is small-data by default."""

_EVALUATIONS = 30


def prepare(
    settings: ClassifySettings, given: set[str], resuming: bool, context: DistributedContext, log: RunLog
) -> Prepared:
    """Everything up to the first step: labels, weights, model, recipe, the estimate, config.json."""
    splits, train = _labelled(settings, log)
    saved = _saved(settings) if resuming else None
    init = _init(settings) if saved is None else None
    known = saved or init
    if resuming and init is not None:
        origin.check_same(init.file, init.metadata[HASH_KEY], log.run)
    arguments = architecture({name: getattr(settings, name) for name in ARCHITECTURE}, known)
    size = settings.image_size or (known.image_size if known else 224)
    preprocessing = Preprocessing.for_channels(arguments["in_chans"])
    if known is not None and len(known.preprocessing.mean) == arguments["in_chans"]:
        preprocessing = known.preprocessing
    recipe_name, recipe, chosen = _recipe(settings, arguments["model"], len(train), context)
    torch.manual_seed(settings.seed)
    model = _build(arguments, recipe, len(train.classes), size, log)
    if init is not None:
        log.say(weights.fill(model, init, train.classes, settings.inflate))
    channels, side = arguments["in_chans"], min_side(size, recipe.min_scale)
    parts = (train, splits.val, splits.test)
    mark = fingerprint(*((part.images, part.labels) for part in parts if part is not None))
    bad, cache = take_pictures(
        train.images, mark, settings, channels=channels, min_side=side, resuming=resuming, context=context, log=log
    )
    judges = {
        name: _judge(data, settings, size, channels, preprocessing, recipe.batch_size)
        for name, data in (("val", splits.val), ("test", splits.test))
        if data is not None
    }
    metadata = (
        saved.metadata
        if saved
        else weights.describe(
            arguments,
            classes=train.classes,
            multi_label=train.multi_label,
            preprocessing=preprocessing,
            image_size=size,
            crop_pct=settings.crop_pct,
            trained_on=shown(settings.data.name) if settings.data else "",
            init=init,
        )
    )

    def task(workers: int) -> ClassifyTask:
        for judge in judges.values():
            judge.workers = workers
        return ClassifyTask(
            model,
            train,
            judges.get("val"),
            settings,
            recipe,
            image_size=size,
            channels=channels,
            preprocessing=preprocessing,
            workers=workers,
            bad=bad,
            cache=cache,
            metadata=metadata,
        )

    def compute(pictures: int) -> Tensor:
        return model.to(context.device)(torch.zeros(pictures, channels, size, size, device=context.device)).sum()

    def loop(total: int, per_epoch: int) -> dict[str, Any]:
        every = max(min(per_epoch, total), total // _EVALUATIONS)
        if settings.eval_epochs is not None:
            every = max(1, round(settings.eval_epochs * per_epoch))
        return {
            "min_lr": min(recipe.min_lr, recipe.lr),
            "lr_scales": lr_scales(model, recipe),
            "ema_decay": recipe.ema,
            "ema_warmup": recipe.ema_warmup,
            "eval_every": every,
            "best": main_metric(train.multi_label) if "val" in judges else None,
            "patience": settings.patience,
        }

    plan = Plan(
        verb="classify",
        name=arguments["model"],
        module=model,
        parameters=sum(p.numel() for p in model.parameters()),
        images=train.images,
        fingerprint=mark,
        recipe=recipe,
        chosen=chosen,
        compute=compute,
        task=task,
        loop=loop,
        model={
            "recipe_source": recipe.source,
            **origin.recorded(settings.init, init.metadata[HASH_KEY] if init else None),
        },
        data=_about(train, splits),
        resolved={
            **arguments,
            "image_size": size,
            "recipe": recipe_name,
            "multi_label": train.multi_label,
            "ema": recipe.ema or 0.0,
            "init": absolute(settings.init) if _from_weights(settings) else settings.init,
        },
        least_micro_batch=2 if recipe.mixup or recipe.cutmix else 1,
        finish=lambda loop: write_artifacts(log.run, model, judges, context, log, loop.precision),
    )
    return prepare_run(plan, bad, settings, given, resuming, context, log)


def lr_scales(model: nn.Module, recipe: Recipe) -> dict[str, float]:
    """Factor on the learning rate by parameter's name; empty without layer-wise decay."""
    if recipe.layer_decay == 1:
        return {}
    if isinstance(model, TimmBackbone):
        return timm_backbone.lr_scales(model, recipe.layer_decay)
    assert isinstance(model, ConvNeXt)
    return layer_ids.lr_scales(model, recipe.layer_decay, recipe.layer_decay_type)


def _labelled(settings: ClassifySettings, log: RunLog) -> tuple[Splits, LabelledImages]:
    """The pictures with their labels, and those of them to train on."""
    assert settings.data is not None
    splits = read_splits(
        settings.data,
        val_fraction=settings.val_fraction,
        group_column=settings.group_column,
        group_pattern=settings.group_pattern,
        label_separator=settings.label_separator,
        multi_label=settings.multi_label,
        seed=settings.seed,
    )
    train = few_labels(splits.train, settings.label_fraction, settings.seed)
    drawn = f" of {len(splits.train)}" if len(train) < len(splits.train) else ""
    parts = [f"{len(train)}{drawn} to train"]
    parts += [f"{len(part)} to {name}" for name, part in (("validate", splits.val), ("test", splits.test)) if part]
    log.say(f"{len(train.classes)} classes in {settings.data}; pictures: {', '.join(parts)}")
    for note in splits.notes:
        log.say(f"  {note}")
    if settings.balanced_sampling and train.multi_label:
        raise UserError(NO_CLASS_TO_DRAW)
    if settings.patience and splits.val is None:
        raise UserError("--patience needs pictures to validate with: a val folder, or --val-fraction above 0")
    for name, part in (("val", splits.val), ("test", splits.test)):
        needed, free = 16 * len(part or ()) * len(train.classes), machine.free_bytes(torch.device("cpu"))
        if needed > free // 2:
            raise UserError(
                f"the answers to {len(part or ())} {name} pictures of {len(train.classes)} classes need about "
                f"{needed / 2**30:.0f} GiB, and {free / 2**30:.0f} are free: give a smaller --val-fraction, 0 for none"
            )
    return splits, train


def _from_weights(settings: ClassifySettings) -> bool:
    return settings.init is not None and str(settings.init) != "none"


def _init(settings: ClassifySettings) -> ModelFile | None:
    """The weights to start from."""
    return read(settings.init) if settings.init is not None and _from_weights(settings) else None


def _saved(settings: ClassifySettings) -> ModelFile | None:
    """The newest weights of the run that goes on; None where it was stopped before it saved any."""
    assert settings.out is not None
    found = checkpoint_of(settings.out)
    return None if found is None else read_own(found)


def _recipe(
    settings: ClassifySettings, model: str, pictures: int, context: DistributedContext
) -> tuple[str, Recipe, Chosen]:
    """The recipe asked for, its name, with the user's own values in it, and what was chosen for the user."""
    name, pretrained = settings.recipe, _from_weights(settings)
    if name is None:
        name = "small-data" if pictures <= SMALL else "in1k" if pretrained else "supervised"
    named = recipes.named(name, model, pictures, pretrained)
    batch = settings.batch_size or max(named.batch_size // context.world_size, 1) * context.world_size
    if batch > pictures:
        raise UserError(
            f"{pictures} training pictures make zero steps with a batch of {batch}: use --recipe small-data, "
            f"or --batch-size {pictures} or smaller"
        )
    own = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(named)
        if getattr(settings, field.name, None) is not None
    }
    recipe = replace(named, **{"lr": recipes.scaled_lr(named, batch)} | own | {"batch_size": batch})
    if settings.epochs is not None and settings.warmup_epochs is None:
        recipe = replace(recipe, warmup_epochs=named.warmup_epochs * settings.epochs / named.epochs)
    recipe = replace(recipe, ema=recipe.ema or None)
    why = f"recipe {name}: {named.source}"
    told = ("batch_size", "epochs", "warmup_epochs", "lr", "weight_decay", "layer_decay", "drop_path", "ema")
    chosen: Chosen = [
        (each, getattr(recipe, each), why)
        for each in told
        if getattr(settings, each) is None and not (each == "epochs" and settings.minutes)
    ]
    return name, recipe, chosen


def _build(arguments: dict[str, Any], recipe: Recipe, classes: int, size: int, log: RunLog) -> ConvNeXt | TimmBackbone:
    name, rest = arguments["model"], {k: v for k, v in arguments.items() if k != "model"}
    model = create_any(
        name,
        image_size=size,
        num_classes=classes,
        drop_path_rate=recipe.drop_path,
        head_init_scale=recipe.head_init,
        **rest,
    )
    if isinstance(model, TimmBackbone):
        ignored = [*model.ignored, *(["layer_decay_type group"] if recipe.layer_decay_type == "group" else [])]
        if ignored:
            log.say(f"{name} does not take {', '.join(ignored)}: left out")
    return model


def _judge(
    data: LabelledImages, settings: ClassifySettings, size: int, channels: int, preprocessing: Preprocessing, batch: int
) -> Evaluator:
    return Evaluator(
        data,
        image_size=size,
        channels=channels,
        preprocessing=preprocessing,
        crop_pct=settings.crop_pct,
        batch_size=min(max(batch, 16), 128),
        max_pixels=settings.max_pixels,
    )


def _about(train: LabelledImages, splits: Splits) -> dict[str, Any]:
    counts = train.counts().tolist()
    return {
        "classes": len(train.classes),
        "pictures_by_class": dict(zip(train.classes, counts, strict=True)),
        "validation_pictures": len(splits.val) if splits.val else 0,
        "test_pictures": len(splits.test) if splits.test else 0,
        "notes": list(splits.notes),
    }
