"""`convnextv2 pretrain`"""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from convnextv2.tasks.pretrain.settings import NAMES, PretrainSettings


def pretrain(settings: Annotated[PretrainSettings, Parameter(name="*")] | None = None) -> None:
    """Pre-train on a folder of pictures, without labels (FCMAE).

    convnextv2 pretrain --data pictures/ --out run
    torchrun --nproc-per-node 8 -m convnextv2 pretrain --data pictures/ --out run
    """
    from convnextv2.tasks.pretrain.run import run

    run(settings or PretrainSettings(), given=_named(sys.argv))


def _named(arguments: list[str]) -> set[str]:
    """The settings that a command line names, also where it names the default value."""
    flags = (argument.partition("=")[0] for argument in arguments if argument.startswith("--"))
    names = {flag.removeprefix("--").replace("-", "_") for flag in flags}
    return {name for name in NAMES if name in names or f"no_{name}" in names}
