"""Mistakes in what a command names, found before torch is imported, in the words that the verb itself would use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convnextv2.runs.settings import ModelSettings


def check_run(settings: ModelSettings, wanted: str) -> None:
    """Check what a run is given: data, weights, another run's config.json, and a folder that is new or resumed.

    wanted: what its data is, `IMAGES` or `LABELLED` of `data.files.folder`.  Raises UserError.
    """
    from convnextv2.data.files.folder import check_source
    from convnextv2.engine.new_folder import check_new
    from convnextv2.weights.sources.published import check_weights

    if settings.data is not None:
        check_source(settings.data.resolve(), wanted)
    if settings.init_source is not None:
        check_weights(settings.init_source)
    resumed = settings.resume or settings.auto_resume or "TORCHELASTIC_RUN_ID" in os.environ
    if settings.out is not None and not resumed:
        check_new(settings.out, resume=False)


def check_use(run: str | Path, data: Path | None = None, wanted: str = "") -> None:
    """Check that a trained model and data are there, see `check_run`."""
    from convnextv2.data.files.folder import check_source
    from convnextv2.weights.sources.published import check_weights

    check_weights(run)
    if data is not None:
        check_source(data, wanted)
