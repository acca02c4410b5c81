"""`convnextv2 classify`"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from convnextv2.tasks.classify.settings import ClassifySettings


def classify(settings: Annotated[ClassifySettings, Parameter(name="*")] | None = None) -> None:
    """Train a classifier from pre-trained weights, or from scratch.

    convnextv2 classify --data pictures/ --init pretrained-run --out run
    convnextv2 classify --data labels.csv --out run
    torchrun --nproc-per-node 8 -m convnextv2 classify --data imagenet --init pretrained-run --out run
    """
    from convnextv2.cli import named
    from convnextv2.runs.runner import run_task
    from convnextv2.tasks.classify.run import CLASSIFY

    run_task(CLASSIFY, settings or ClassifySettings(), given=named(ClassifySettings))
