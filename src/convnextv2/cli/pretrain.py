"""`convnextv2 pretrain`"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from convnextv2.cli.early import check_run
from convnextv2.cli.options import RUN_BASIC, grouped, run_groups
from convnextv2.tasks.pretrain.settings import PretrainSettings

Settings = grouped(
    PretrainSettings,
    run_groups(
        Numbers_in_the_images=("pages",),
        Masked_autoencoder=("mask_ratio", "decoder_dim", "decoder_depth", "norm_pix_loss", "min_valid"),
        Augmentation=("crops_per_image", "min_scale", "flip", "orientation"),
        Checkpoints_and_logs=("pictures",),
    ),
    basic=(*RUN_BASIC, "mask_ratio", "flip"),
)


def pretrain(settings: Annotated[Settings, Parameter(name="*")] | None = None) -> None:  # pyright: ignore[reportInvalidTypeForm]
    """Pre-train on a folder of images, without labels (FCMAE).

    convnextv2 pretrain --data images/ --out run
    torchrun --nproc-per-node 8 -m convnextv2 pretrain --data images/ --out run
    """
    from convnextv2.data.files.folder import IMAGES

    asked = PretrainSettings(**settings.named()) if settings else PretrainSettings()
    check_run(asked, IMAGES)
    from convnextv2.runs.runner import run_task
    from convnextv2.tasks.pretrain.run import PRETRAIN

    run_task(PRETRAIN, asked, given=set(asked.given))
