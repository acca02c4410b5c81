"""`convnextv2 convert`"""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def convert(
    source: str,
    *,
    to: Literal["convnextv2", "official", "minkowski", "timm", "transformers", "mmpretrain"],
    out: Path,
    weights: Literal["average", "plain"] = "average",
) -> None:
    """Write weights in the layout of another project, bit by bit.

    convnextv2 convert run --to timm --out model.safetensors
    convnextv2 convert convnextv2_tiny.fcmae_ft_in1k --to transformers --out folder

    Parameters
    ----------
    source
        A run, a file or folder in any layout we know, published weights (convnextv2 zoo), or hf:OWNER/NAME.
    to
        Whose layout; minkowski is that of official pre-training, convnextv2 our own.
    out
        A new file, or for transformers a new folder.
    weights
        The averaged weights (where the file has them), or those of the last step.
    """
    from convnextv2.verbs.convert import convert as run

    for file in run(source, to, out, weights=weights):
        print(file)
