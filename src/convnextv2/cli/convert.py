"""`convnextv2 convert`"""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def convert(
    source: str,
    *,
    to: Literal["convnextv2", "official", "minkowski", "timm", "transformers", "mmpretrain", "torchvision"],
    out: Path,
    weights: Literal["average", "plain"] = "average",
) -> None:
    """Convert weights to the layout of another project.

    No value changes. The last line printed is Python that loads the result there.

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
        average: the EMA if the file has one; plain: the weights of the last step.
    """
    from convnextv2.text import shown
    from convnextv2.verbs.convert import convert as run

    done = run(source, to, out, weights=weights)
    print(*map(shown, done), done.code, sep="\n")
