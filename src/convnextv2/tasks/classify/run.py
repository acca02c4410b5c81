"""A whole run of a classifier, from settings to report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convnextv2.runs import runner as conduct
from convnextv2.runs.runner import RunResult, Verb
from convnextv2.tasks.classify.prepare import prepare
from convnextv2.tasks.classify.settings import ClassifySettings

_OF_RECIPE = frozenset(
    {
        "epochs", "warmup_epochs", "batch_size", "micro_batch", "lr", "weight_decay", "log_every", "layer_decay",
        "layer_decay_type", "smoothing", "mixup", "cutmix", "rand_augment", "erasing", "min_scale", "drop_path", "ema",
        "head_init",
    }
)  # fmt: skip

_OF_SHAPE = frozenset({"model", "in_chans", "stem_stride", "depths", "dims", "image_size"})

CLASSIFY = Verb(
    "classify",
    ClassifySettings,
    prepare,
    needs_data="say which labelled pictures to learn from: --data DIR with one folder a class, or a CSV of path,label",
    follows={
        "recipe": _OF_RECIPE,
        "init": _OF_RECIPE | _OF_SHAPE,
        "model": _OF_RECIPE | {"depths", "dims", "stem_stride"},
        "label_fraction": _OF_RECIPE,
        "data": _OF_RECIPE | {"multi_label"},
        **{name: frozenset({"micro_batch"}) for name in _OF_SHAPE - {"model"}},
    },
    replaced=_OF_SHAPE | {"multi_label"},
)


def classify(data: str | Path | None = None, out: str | Path | None = None, **settings: Any) -> RunResult:
    """Train a classifier, from pre-trained weights (`init=`) or from scratch, as `convnextv2 classify` does.

    data: class folders or a CSV, see `ClassifySettings`.  out: a new folder for the run.
    settings: see `ClassifySettings`, by name.

    Raises UserError for a mistake in these, LoadError for weights that do not fit, RunFailedError where the run cannot go
    on, StoppedError after a signal, when all is saved.
    """
    return conduct.call(CLASSIFY, data, out, settings)
