"""How a batch is cut into micro-batches that fit into memory, and how long a run takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch

from convnextv2.engine import machine, precision
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.loop_settings import LoopSettings
from convnextv2.errors import UserError
from convnextv2.runs.settings import RunSettings
from convnextv2.runs.task_run import Chosen, Recipe, TaskRun


def micro_batch(run: TaskRun[Any], arithmetic: Literal["fp32", "bf16"]) -> int:
    """Return the largest part of a process's share of the batch whose activations fit into half of the free memory."""
    context, size, channels = run.context, run.image_size, run.architecture.in_chans
    share = max(1, run.recipe.batch_size // context.world_size)
    model = run.model.to(context.device)

    def kept(images: int) -> int:
        zeros = torch.zeros(images, channels, size, size, device=context.device)
        return machine.bytes_kept(lambda: run.activations(zeros))

    # At least two images: batch norm cannot take one.
    with machine.buffers_kept(model), precision.autocast(arithmetic, context.device):
        two, four = kept(2), kept(4)
    free = machine.free_bytes(context.device)
    if context.device.type != "cuda":
        free = context.local_share(free - (0 if run.cache is None else run.cache.room))
    return fitting_divisor(share, max(1, (four - two) // 2), int(context.mean([free])[0]), run.least_micro_batch)


def fitting_divisor(share: int, bytes_per_image: int, free_bytes: int, least: int = 1) -> int:
    """Return the largest divisor of `share` images whose activations fit into half of the free memory.

    least: the smallest allowed, whether it fits or not.
    """
    fits = max(1, int(0.5 * free_bytes / bytes_per_image))
    divisors = [n for n in range(1, share + 1) if share % n == 0]
    return max((n for n in divisors if least <= n <= fits), default=min((n for n in divisors if n >= least), default=1))


def accumulation(batch_size: int, micro: int, context: DistributedContext) -> int:
    """Return the micro-batches of a process per step. Raises UserError if the batch cannot be cut evenly."""
    portion = micro * context.world_size
    if batch_size % portion:
        raise UserError(
            f"--batch-size {batch_size} is not a multiple of {context.world_size} process(es) times a "
            f"micro-batch of {micro}; use --batch-size {max(1, round(batch_size / portion)) * portion}"
        )
    return batch_size // portion


def for_time(settings: RunSettings, recipe: Any, epochs: float, chosen: Chosen) -> tuple[Any, Chosen]:
    """Return the recipe with as many epochs as fit into --minutes, and its warm-up in proportion."""
    chosen = [choice for choice in chosen if choice[0] != "warmup_epochs"]
    chosen.append(("epochs", epochs, f"what fits into {settings.minutes:g} minutes"))
    warmup = recipe.warmup_epochs
    if settings.warmup_epochs is None:
        warmup = epochs * recipe.warmup_epochs / recipe.epochs
        chosen.append(("warmup_epochs", warmup, "the recipe's share of the run"))
    return replace(recipe, epochs=epochs, warmup_epochs=warmup), chosen


def loop_settings(
    run: TaskRun[Any], recipe: Recipe, arithmetic: Literal["fp32", "bf16"], accumulate: int
) -> LoopSettings:
    """Return the settings of the loop, every number resolved."""
    settings = run.settings
    per_epoch = max(1, run.samples_of_an_epoch() // recipe.batch_size)
    total = max(1, round(recipe.epochs * per_epoch))
    if recipe.warmup_epochs > recipe.epochs:
        raise UserError(
            f"a warm-up of {recipe.warmup_epochs:g} epochs is longer than the run of {recipe.epochs:g}: "
            "give a smaller --warmup-epochs"
        )
    return LoopSettings(
        total_steps=total,
        steps_per_epoch=per_epoch,
        batch_size=recipe.batch_size,
        accumulate=accumulate,
        lr=recipe.lr,
        warmup_steps=round(recipe.warmup_epochs * per_epoch),
        weight_decay=recipe.weight_decay,
        betas=recipe.betas,
        clip_grad=settings.clip_grad,
        precision=arithmetic,
        compile=settings.compile,
        seed=settings.seed,
        log_every=settings.log_every or max(1, total // 1000),
        checkpoint_every=settings.checkpoint_every,
        checkpoint_minutes=settings.checkpoint_minutes,
        **run.loop_settings(total, per_epoch),
    )
