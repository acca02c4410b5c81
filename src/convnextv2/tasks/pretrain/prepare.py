"""All that a pre-training run decides before its first step: pictures, model, recipe."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnextv2.data.files.folder import list_images
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.runlog import RunLog
from convnextv2.errors import LoadError, UserError
from convnextv2.models import create_model
from convnextv2.records import Preprocessing
from convnextv2.runs import origin
from convnextv2.runs.prepare import Plan, Prepared, fingerprint, take_pictures
from convnextv2.runs.prepare import prepare as prepare_run
from convnextv2.tasks.pretrain import recipes, weights
from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.tasks.pretrain.model_file import describe
from convnextv2.tasks.pretrain.settings import PretrainSettings
from convnextv2.tasks.pretrain.task import PretrainTask, min_side
from convnextv2.weights.files import HASH_KEY, checkpoint_of
from convnextv2.weights.init import architecture
from convnextv2.weights.load import absolute, read
from convnextv2.weights.model_file import ARCHITECTURE, PRETRAINED, ModelFile, read_own


def prepare(
    settings: PretrainSettings, given: set[str], resuming: bool, context: DistributedContext, log: RunLog
) -> Prepared:
    """Everything up to the first step: pictures, model, recipe, the estimate, config.json."""
    init = None
    if str(settings.init) == "none":
        settings = replace(settings, init=None)
    if settings.init is not None and (not resuming or checkpoint_of(log.run) is None):
        init = read(settings.init)
        if resuming:
            origin.check_same(init.file, init.metadata[HASH_KEY], log.run)
        else:  # what was recorded is resolved already
            settings = _as_init_says(settings, given, init)
    assert settings.data is not None
    images = list_images(settings.data)
    ignored = ", ".join(f"{count} {kind or 'without extension'}" for kind, count in images.ignored.items())
    log.say(f"{len(images)} pictures in {settings.data}" + (f" (passed over: {ignored})" if ignored else ""))
    size, channels = settings.image_size, settings.in_chans
    mark = fingerprint((images, None))
    bad, cache = take_pictures(
        images, mark, settings, channels=channels, min_side=min_side(size), resuming=resuming, context=context, log=log
    )
    torch.manual_seed(settings.seed)
    model = build(settings)
    if init is not None:
        log.say(weights.fill(model, init, settings.inflate))
    recipe, chosen = recipes.resolve(settings, len(images), context.world_size)
    if settings.recipe == "paper" and settings.batch_size is None and len(images) < recipe.batch_size:
        raise UserError(
            f"{len(images)} pictures make zero steps with the paper's batch of {recipe.batch_size}: "
            "use --recipe auto, or a smaller --batch-size"
        )

    goes_on = settings.init is not None and init is None
    metadata = _saved_metadata(log.run) if goes_on else describe(settings, init)
    preprocessing = Preprocessing(**json.loads(metadata["preprocessing"]))

    def task(workers: int) -> PretrainTask:
        return PretrainTask(
            model,
            images,
            settings,
            batch_size=recipe.batch_size,
            workers=workers,
            bad=bad,
            cache=cache,
            metadata=metadata,
            preprocessing=preprocessing,
        )

    def compute(pictures: int) -> Tensor:
        return model.to(context.device)(torch.zeros(pictures, channels, size, size, device=context.device)).loss

    def loop(total: int, per_epoch: int) -> dict[str, Any]:
        every = max(1, total // (settings.pictures + 1)) if settings.pictures else 0
        return {"eval_every": every, "pictures_every": every}

    encoder, everything = (sum(p.numel() for p in part.parameters()) for part in (model.encoder, model))
    plan = Plan(
        verb="pretrain",
        name=settings.model,
        module=model,
        parameters=encoder,
        images=images,
        fingerprint=mark,
        recipe=recipe,
        chosen=chosen,
        compute=compute,
        task=task,
        loop=loop,
        model={
            "decoder_parameters": everything - encoder,
            **origin.recorded(settings.init, init.metadata[HASH_KEY] if init else None),
        },
        data={"passed_over": dict(images.ignored)},
        resolved={"init": absolute(settings.init)},
    )
    return prepare_run(plan, bad, settings, given, resuming, context, log)


def _as_init_says(settings: PretrainSettings, given: set[str], init: ModelFile) -> PretrainSettings:
    """Settings whose architecture and picture size are the file's where the user named none."""
    if str(init.architecture["model"]).startswith("timm:"):
        raise LoadError(f"--init {init.file} holds a {init.architecture['model']}: only a ConvNeXt can be pre-trained")
    usual = PretrainSettings()
    # A --config says values that this command line does not name.
    given = given | {
        field.name for field in fields(settings) if getattr(settings, field.name) != getattr(usual, field.name)
    }
    asked = {name: getattr(settings, name) if name in given else None for name in ARCHITECTURE}
    found = architecture(asked, init)
    if "image_size" not in given:
        cell = 8 * found["stem_stride"]
        found["image_size"] = max(2, round(init.image_size / cell)) * cell
    if init.format == PRETRAINED:
        found |= {k: v for k, v in json.loads(init.metadata["fcmae"]).items() if k not in given}
    settings = replace(settings, **found)
    replace(settings, init=None)  # the rules that could not be looked at before
    return settings


def _saved_metadata(run: Path) -> dict[str, str]:
    """Of the newest checkpoint: what a run began with is not read again when it goes on."""
    return dict(read_own(run, which="latest").metadata)


def build(settings: PretrainSettings) -> FCMAE:
    """The model of a run, randomly initialised."""
    encoder = create_model(
        settings.model,
        num_classes=0,
        in_chans=settings.in_chans,
        stem_stride=settings.stem_stride,
        depths=settings.depths,
        dims=settings.dims,
    )
    return FCMAE(
        encoder,
        mask_ratio=settings.mask_ratio,
        decoder_dim=settings.decoder_dim,
        decoder_depth=settings.decoder_depth,
        norm_pix_loss=settings.norm_pix_loss,
    )
