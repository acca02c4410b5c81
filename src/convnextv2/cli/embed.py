"""`convnextv2 embed`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from convnextv2.cli.early import check_use
from convnextv2.inference.settings import InferenceSettings


def embed(
    data: Path,
    *,
    run: str,
    out: Path,
    settings: Annotated[InferenceSettings, Parameter(name="*")] | None = None,
) -> None:
    """Extract one feature vector per image.

    convnextv2 embed images/ --run run --out features.npy

    Parameters
    ----------
    data
        A folder of images, or a text file of paths.
    run
        A run of pretrain or classify, or any other source of weights (convnextv2 zoo, hf:OWNER/NAME, a file).
    out
        features.npy (and features.names.txt with the names, line by line) or features.csv (name, then the features).
    """
    from convnextv2.data.files.folder import IMAGES

    check_use(run, data, IMAGES)
    from convnextv2.text import listed, printable, shown
    from convnextv2.verbs.embed import embed as run_embed

    done = run_embed(run, data, out, **(settings or InferenceSettings()).named())
    skipped = f"; {len(done.bad)} files could not be read (named above)" if done.bad else ""
    for name, reason in done.bad:
        print(printable(f"skipped {shown(name)}: {reason}"))
    print(f"{len(done.names)} images x {done.features.shape[1]} features in {listed(map(str, done.files))}{skipped}")
