"""`convnextv2 classify`"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from convnextv2.cli.early import check_run
from convnextv2.cli.options import RUN_BASIC, grouped, run_groups
from convnextv2.tasks.classify.settings import ClassifySettings

Settings = grouped(
    ClassifySettings,
    run_groups(
        Data=(
            *(
                "val_fraction",
                "group_column",
                "group_pattern",
                "multi_label",
                "label_column",
                "label_separator",
                "label_fraction",
            ),
            *("class_weights", "balanced_sampling"),
        ),
        Augmentation=(
            *("min_scale", "flip", "orientation", "rand_augment", "band_jitter", "band_dropout"),
            *("erasing", "mixup", "cutmix"),
        ),
        Regularisation=("layer_decay", "layer_decay_type", "smoothing", "drop_path", "ema", "head_init"),
        Evaluation=("eval_epochs", "patience", "crop_pct"),
    ),
    basic=(*RUN_BASIC, "val_fraction", "group_column", "multi_label", "label_fraction", "patience", "flip"),
)


def classify(settings: Annotated[Settings, Parameter(name="*")] | None = None) -> None:  # pyright: ignore[reportInvalidTypeForm]
    """Train a classifier from pre-trained weights, or from scratch.

    convnextv2 classify --data images/ --init pretrained-run --out run
    convnextv2 classify --data labels.csv --out run
    torchrun --nproc-per-node 8 -m convnextv2 classify --data imagenet --init pretrained-run --out run
    """
    from convnextv2.data.files.folder import LABELLED

    asked = ClassifySettings(**settings.named()) if settings else ClassifySettings()
    check_run(asked, LABELLED)
    from convnextv2.runs.runner import run_task
    from convnextv2.tasks.classify.run import CLASSIFY

    run_task(CLASSIFY, asked, given=set(asked.given))
