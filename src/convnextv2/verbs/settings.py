"""Settings of the verbs that serve every task: those of all of them together. A task refuses what it does not have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: F401, the types of settings are looked up here
from typing import Literal  # noqa: F401

from convnextv2.tasks.classify.evaluate_settings import EvaluateSettings, Split  # noqa: F401
from convnextv2.tasks.classify.predict_settings import PredictSettings
from convnextv2.tasks.segment.evaluate_settings import SegmentEvaluateSettings
from convnextv2.tasks.segment.predict_settings import SegmentPredictSettings


@dataclass(frozen=True, kw_only=True)
class AnyEvaluateSettings(EvaluateSettings, SegmentEvaluateSettings):
    """Settings of `convnextv2 evaluate` for every task."""


@dataclass(frozen=True, kw_only=True)
class AnyPredictSettings(PredictSettings, SegmentPredictSettings):
    """Settings of `convnextv2 predict` for every task."""
