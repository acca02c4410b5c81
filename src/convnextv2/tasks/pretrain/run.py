"""A whole pre-training run, from settings to report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convnextv2.runs import runner as conduct
from convnextv2.runs.runner import RunResult, Verb
from convnextv2.tasks.pretrain.prepare import prepare
from convnextv2.tasks.pretrain.settings import PretrainSettings

PRETRAIN = Verb(
    "pretrain",
    PretrainSettings,
    prepare,
    needs_data="say which pictures to learn from: --data DIR, a folder of pictures or a text file of paths",
    follows={
        "recipe": frozenset({"epochs", "warmup_epochs", "batch_size", "micro_batch", "lr", "weight_decay", "log_every"})
    },
)


def pretrain(data: str | Path | None = None, out: str | Path | None = None, **settings: Any) -> RunResult:
    """Pre-train a ConvNeXt with FCMAE on a folder of pictures, as `convnextv2 pretrain` does.

    data: a folder of pictures or a text file of paths.  out: a new folder for the run.
    settings: see `PretrainSettings`, by name.

    Raises UserError for a mistake in these, RunFailedError where the run cannot go on (a loss that is not finite, too many
    broken files), StoppedError after a signal, when all is saved.
    """
    return conduct.call(PRETRAIN, data, out, settings)
