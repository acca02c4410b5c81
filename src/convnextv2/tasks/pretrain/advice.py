"""What to say before a pre-training run that is too short, or has too few images, to learn much."""

from __future__ import annotations

import math
from collections.abc import Iterator

ENOUGH_STEPS = 400
"""Optimiser steps that are asked for: with fewer a linear probe gained little or nothing over random weights
(`benchmarks/how_long.py`; docs/pretrain.md has the figures)."""
_ENOUGH_IMAGES = 200


def advise(
    images: int, steps: int, seconds: float, *, image_size: int, patch: int, minutes: float | None
) -> Iterator[str]:
    """Yield what the user should know before the first step, a sentence each.

    images: to train on.  steps: of the whole run.  seconds: of one step.  image_size, patch: pixels on a side.
    minutes: as given with --minutes; None if the run is planned in epochs.
    """
    if images < _ENOUGH_IMAGES:
        yield (
            f"{images} images are few to learn from: add unlabelled ones, or start from published weights "
            "(--init, see `convnextv2 zoo`)"
        )
    if steps >= ENOUGH_STEPS:
        return
    needed = math.ceil(ENOUGH_STEPS * seconds / 60)
    instead = f"--minutes {needed}"
    if minutes is None:
        instead = f"more --epochs, or {instead}"
    smaller = int(image_size * math.sqrt(steps / ENOUGH_STEPS)) // patch * patch
    if minutes is not None and smaller >= 3 * patch:
        instead += f", or --image-size {smaller} in the same time"
    are = "step is" if steps == 1 else "steps are"
    yield (
        f"{steps:,} {are} few: in our measurements the first hundreds made features better than random ones; "
        f"give {instead}"
    )
