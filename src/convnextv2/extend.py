"""What a task of another package is made of: names that stay where they are, whatever moves inside the package.

docs/extend.md walks through a task that is built of them.
"""

from __future__ import annotations

from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.data.files.given import images_of
from convnextv2.data.loading.batch import PerImage
from convnextv2.data.transforms.colour import normalise
from convnextv2.data.transforms.geometry import CenterFit, RandomResizedCropFlip
from convnextv2.engine.distributed import DistributedContext
from convnextv2.engine.distributed import init as init_distributed
from convnextv2.engine.task import Task
from convnextv2.inference.loaded import LoadedModel
from convnextv2.inference.predictor import Predictor
from convnextv2.inference.reader import ImageReader
from convnextv2.inference.settings import InferenceSettings
from convnextv2.loading import load_kind
from convnextv2.models import ConvNeXt
from convnextv2.records import MetricInfo, RunDescription, SampleInfo, StepOutput, TaskBatch
from convnextv2.runs.batches import TrainingBatches
from convnextv2.runs.images import fingerprint
from convnextv2.runs.runner import RunResult
from convnextv2.runs.runner import call as train
from convnextv2.runs.settings import ModelSettings
from convnextv2.runs.spec import TaskSpec, register_task
from convnextv2.runs.task_run import Recipe, TaskRun, TrainingData
from convnextv2.settings import make as make_settings
from convnextv2.weights.init import fill_encoder
from convnextv2.weights.model_file import ModelFile, ModelInfo

__all__ = [
    "CenterFit",
    "ConvNeXt",
    "DistributedContext",
    "ImageList",
    "ImageReader",
    "InferenceSettings",
    "LoadedModel",
    "MetricInfo",
    "ModelFile",
    "ModelInfo",
    "ModelSettings",
    "PerImage",
    "Predictor",
    "RandomResizedCropFlip",
    "Recipe",
    "RunDescription",
    "RunResult",
    "SampleInfo",
    "StepOutput",
    "Task",
    "TaskBatch",
    "TaskRun",
    "TaskSpec",
    "TrainingBatches",
    "TrainingData",
    "fill_encoder",
    "fingerprint",
    "images_of",
    "init_distributed",
    "list_images",
    "load_kind",
    "make_settings",
    "normalise",
    "register_task",
    "train",
]
