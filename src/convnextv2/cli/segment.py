"""`convnextv2 segment`"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from convnextv2.cli.early import check_run
from convnextv2.cli.options import RUN_BASIC, grouped, run_groups
from convnextv2.tasks.segment.settings import SegmentSettings

Settings = grouped(
    SegmentSettings,
    run_groups(
        Data=("val_fraction", "group_pattern", "classes", "ignore", "reduce_zero_label"),
        Model=("head_dim", "head_norm", "auxiliary_weight", "freeze"),
        Augmentation=(
            *("base_size", "min_scale", "max_scale", "flip", "orientation", "distort", "band_jitter"),
            "most_of_a_class",
        ),
        Loss=("ignored_pixels_count", "dice", "ohem", "class_weights"),
        Regularisation=("layer_decay", "layer_decay_type", "drop_path", "dropout", "ema"),
        Evaluation=("eval_epochs", "patience"),
    ),
    basic=(*RUN_BASIC, "val_fraction", "classes", "ignore", "base_size", "freeze", "flip", "orientation"),
)


def segment(settings: Annotated[Settings, Parameter(name="*")] | None = None) -> None:  # pyright: ignore[reportInvalidTypeForm]
    """Train a segmenter, a class for each pixel, from pre-trained weights or from scratch.

    convnextv2 segment --data scenes/ --init pretrained-run --out run
    convnextv2 segment --data ade/ --reduce-zero-label --recipe ade20k --init in1k-run --out run
    """
    from convnextv2.data.masks.pairs import SCENES

    asked = SegmentSettings(**settings.named()) if settings else SegmentSettings()
    check_run(asked, SCENES)
    from convnextv2.runs.runner import run_task
    from convnextv2.tasks.segment.run import SEGMENT

    run_task(SEGMENT, asked, given=set(asked.given))
