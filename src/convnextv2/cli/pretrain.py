"""`convnextv2 pretrain`"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from convnextv2.tasks.pretrain.settings import PretrainSettings


def pretrain(settings: Annotated[PretrainSettings, Parameter(name="*")] | None = None) -> None:
    """Pre-train on a folder of pictures, without labels (FCMAE).

    convnextv2 pretrain --data pictures/ --out run
    torchrun --nproc-per-node 8 -m convnextv2 pretrain --data pictures/ --out run
    """
    from convnextv2.cli import named
    from convnextv2.runs.runner import run_task
    from convnextv2.tasks.pretrain.run import PRETRAIN

    run_task(PRETRAIN, settings or PretrainSettings(), given=named(PretrainSettings))
