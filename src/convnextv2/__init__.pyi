"""The public names of convnextv2 with their types; written by `scripts/stub.py`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from convnextv2._version import __version__ as __version__
from convnextv2.data.files.given import Images
from convnextv2.data.loading.statistics import Statistics as Statistics
from convnextv2.data.loading.statistics import read_statistics as read_statistics
from convnextv2.errors import BadImageError as BadImageError
from convnextv2.errors import ConvNeXtV2Error as ConvNeXtV2Error
from convnextv2.errors import LoadError as LoadError
from convnextv2.errors import RunFailedError as RunFailedError
from convnextv2.errors import StoppedError as StoppedError
from convnextv2.errors import UserError as UserError
from convnextv2.inference.loaded import LoadedModel as LoadedModel
from convnextv2.inference.predictor import Predictor as Predictor
from convnextv2.inference.settings import InferenceSettings as InferenceSettings
from convnextv2.interop.timm_models import register_with_timm as register_with_timm
from convnextv2.loading import create_model as create_model
from convnextv2.loading import load as load
from convnextv2.models import ConvNeXt as ConvNeXt
from convnextv2.models import EncoderConfig as EncoderConfig
from convnextv2.runs.runner import RunResult as RunResult
from convnextv2.runs.spec import TaskSpec as TaskSpec
from convnextv2.runs.spec import register_task as register_task
from convnextv2.settings import StrPath
from convnextv2.tasks.classify.evaluate import Evaluation as Evaluation
from convnextv2.tasks.classify.evaluate_settings import EvaluateSettings as EvaluateSettings
from convnextv2.tasks.classify.predict import Prediction as Prediction
from convnextv2.tasks.classify.predict_settings import PredictSettings as PredictSettings
from convnextv2.tasks.classify.settings import ClassifySettings as ClassifySettings
from convnextv2.tasks.pretrain.fcmae import FCMAE as FCMAE
from convnextv2.tasks.pretrain.load import load_pretrained as load_pretrained
from convnextv2.tasks.pretrain.reconstruct import reconstruct as reconstruct
from convnextv2.tasks.pretrain.settings import PretrainSettings as PretrainSettings
from convnextv2.tasks.segment.evaluate import SceneEvaluation as SceneEvaluation
from convnextv2.tasks.segment.predict import ScenePrediction as ScenePrediction
from convnextv2.tasks.segment.settings import SegmentSettings as SegmentSettings
from convnextv2.verbs.convert import Converted as Converted
from convnextv2.verbs.convert import convert as convert
from convnextv2.verbs.embed import Embedding as Embedding
from convnextv2.verbs.probe.result import ProbeResult as ProbeResult
from convnextv2.verbs.probe.settings import ProbeSettings as ProbeSettings
from convnextv2.verbs.push import Pushed as Pushed
from convnextv2.verbs.push import push as push
from convnextv2.verbs.stats.settings import StatsSettings as StatsSettings
from convnextv2.verbs.zoo import Zoo as Zoo
from convnextv2.verbs.zoo import zoo as zoo

__all__ = [
    "FCMAE",
    "BadImageError",
    "ClassifySettings",
    "ConvNeXt",
    "ConvNeXtV2Error",
    "Converted",
    "Embedding",
    "EncoderConfig",
    "EvaluateSettings",
    "Evaluation",
    "InferenceSettings",
    "LoadError",
    "LoadedModel",
    "PredictSettings",
    "Prediction",
    "Predictor",
    "PretrainSettings",
    "ProbeResult",
    "ProbeSettings",
    "Pushed",
    "RunFailedError",
    "RunResult",
    "SceneEvaluation",
    "ScenePrediction",
    "SegmentSettings",
    "Statistics",
    "StatsSettings",
    "StoppedError",
    "TaskSpec",
    "UserError",
    "Zoo",
    "classify",
    "convert",
    "create_model",
    "embed",
    "evaluate",
    "load",
    "load_pretrained",
    "predict",
    "pretrain",
    "probe",
    "push",
    "read_statistics",
    "reconstruct",
    "register_task",
    "register_with_timm",
    "segment",
    "stats",
    "zoo",
]

def classify(
    data: StrPath | None = None,
    out: StrPath | None = None,
    *,
    resume: bool = False,
    auto_resume: bool = False,
    config: StrPath | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    lr: float | None = None,
    warmup_epochs: float | None = None,
    weight_decay: float | None = None,
    clip_grad: float | None = None,
    seed: int = 0,
    device: str = "auto",
    timeout: float = 30.0,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    compile: bool = False,
    threads: int | Literal["auto"] | None = None,
    workers: int | None = None,
    max_pixels: int = 100000000,
    value_range: str | Sequence[float] | None = None,
    max_bad_fraction: float = 0.01,
    cache: bool = True,
    checkpoint_minutes: float = 5.0,
    checkpoint_every: int = 0,
    log_every: int | None = None,
    init: StrPath | None = None,
    bands: str | Sequence[str] | None = None,
    channels: str | Sequence[str] | None = None,
    nodata: float | None = None,
    stats: str = "auto",
    show: str | Sequence[str] | None = None,
    inflate: str = "repeat",
    model: str | None = None,
    image_size: int | None = None,
    stem_stride: int | None = None,
    in_chans: int | None = None,
    depths: Sequence[int] | None = None,
    dims: Sequence[int] | None = None,
    val_fraction: float | None = None,
    group_column: str | None = None,
    group_pattern: str | None = None,
    multi_label: bool = False,
    label_column: str | None = None,
    label_separator: str | None = None,
    label_fraction: float = 1.0,
    recipe: Literal["in1k", "in22k", "in22k-to-in1k", "supervised", "small-data"] | None = None,
    layer_decay: float | None = None,
    layer_decay_type: Literal["single", "group"] | None = None,
    smoothing: float | None = None,
    mixup: float | None = None,
    cutmix: float | None = None,
    rand_augment: float | None = None,
    erasing: float | None = None,
    min_scale: float | None = None,
    flip: bool = True,
    orientation: Literal["upright", "any"] = "upright",
    band_jitter: float | None = None,
    band_dropout: float = 0.0,
    drop_path: float | None = None,
    ema: float | None = None,
    head_init: float | None = None,
    class_weights: Literal["none", "balanced"] = "none",
    balanced_sampling: bool = False,
    eval_epochs: float | None = None,
    patience: int = 0,
    crop_pct: float | None = None,
) -> RunResult:
    r"""Train a classifier, from pre-trained weights (`init=`) or from scratch, as `convnextv2 classify` does.

    data: class folders, split or not, or a CSV of path and label.  out: a new folder for the run.

    Raises UserError for a mistake in these, LoadError for weights that do not fit, RunFailedError if the run cannot go
    on, StoppedError after a signal, when everything is saved.

    Settings:
        resume: Resume the run in out from its newest checkpoint, bit for bit.
        auto_resume: Resume the run in out if there is one, else start it: for jobs that are started again by
            themselves.
        config: Start from the settings in this config.json of another run; options on the command line override them.
        epochs: Passes over the images.
        minutes: Train for about this many minutes instead of epochs, measured at the start and without evaluations.
        batch_size: Images per optimiser step, over all processes.
        micro_batch: Images that one process works on at a time; a step accumulates as many of these as it needs.
        lr: Highest learning rate, as used (not a base rate).
        warmup_epochs: Epochs of linear warm-up.
        weight_decay: AdamW weight decay; weights of convolutions and linear layers only.
        clip_grad: Largest norm of the gradient; not clipped by default, as in the paper.
        seed: Random seed for weights, order and augmentation.
        device: auto, cpu, cuda or cuda:N.
        timeout: Minutes that several processes wait for each other, as for the slowest to list the images.
        precision: auto takes bf16 autocast if the machine computes in it.
        compile: Compile the model with torch.compile.
        threads: Threads that compute on a CPU, by default one per core; auto measures which numbers of threads and
            workers are fastest now, as on a busy machine. The number can change the last bits of results.
        workers: Processes that read images; by default one per core less one, at most 8.
        max_pixels: Images of more pixels count as unreadable (decompression bombs).
        value_range: LOW:HIGH, the values that become black and white in files of more than 8 bits, as 0:4095; by
            default that of init, else all of 16 bits, and each image's own range for floats. 8 bits stay as they are.
        max_bad_fraction: Stop the run if more than this share of the files cannot be read; a few always may, unless it
            is 0.
        cache: Keep decoded images in memory, shared by all processes of a machine, if a quarter of what is free is
            enough.
        checkpoint_minutes: Minutes between checkpoints; the last step is always saved.
        checkpoint_every: Also save every so many steps; 0: time-based only.
        log_every: Steps between two lines of metrics.jsonl.
        init: Weights to start from: a run, a file, published weights (convnextv2 zoo), hf:OWNER/NAME, or none.
        bands: Patterns of the files of each band, where an image's bands lie in files of their own, as
            '{id}_B02.tif,{id}_B03.tif'.
        channels: Which bands are read, in this order: numbers from 1, or names, as 4,3,2; by default all of them.
        nodata: The value that stands for missing data; NaN, alpha and what a file says itself always do.
        stats: What the numbers of bands mean: auto (those of init, else made of the images), imagenet (8 bits only), or
            a file of `convnextv2 stats`.
        show: Which bands figures show as red, green and blue: one to three of those read, by number or name, as 4,3,2;
            by default those named red, green and blue, else the first three.
        inflate: How to adapt the stem if the channels differ from those of init: repeat (by name, where both sides have
            the same names), mean, a list of channels as 0,1,2,0, or a table as red=0,green=1,nir=red.
        model: convnextv2_SIZE, atto to huge (convnext_SIZE for V1); by default that of init, else convnextv2_atto.
        image_size: Pixels on a side of what the model sees; by default that of init, else as the files, 224 at most.
        stem_stride: 4 as published; 2 or 1 for small images; by default that of init, else 4 from 128 pixels on, 2 from
            64.
        in_chans: 3 for colour, 1 for grey images, or the number of bands; by default that of init, else as the images.
        depths: Number of blocks of each stage, in place of the model's.
        dims: Number of channels of each stage, in place of the model's.
        val_fraction: Share of the images to validate with if the data has no val; by default a fifth, or a tenth of
            train/.
        group_column: Column of the CSV whose equal values (a patient, a site) must not be on both sides of the split.
        group_pattern: The same for folders: a regular expression; what it matches in the path below data, as
            'patient(\d+)', is the group.
        multi_label: Several labels per image, each decided by itself; also chosen if a CSV has several in a cell.
        label_column: Column of the CSV with the labels, if it is not called label, class or target.
        label_separator: What separates the labels of an image in a CSV; by default a semicolon, if a consistent share
            has it.
        label_fraction: Use only this share of the training images of each class, to measure what few labels achieve.
        recipe: The paper's recipes, or ours for small folders, the default up to 100,000 images.
        layer_decay: Factor on the learning rate from one layer to the one below; 1 for none.
        layer_decay_type: Whether a layer is a block or a group of blocks.
        smoothing: Label smoothing.
        mixup: Mixup of images and labels: parameter of the Beta distribution; 0 for none.
        cutmix: CutMix: parameter of the Beta distribution; 0 for none.
        rand_augment: Magnitude of RandAugment, 0 to 10; 0 for none.
        erasing: Probability that a rectangle is erased.
        min_scale: Smallest share of an image's area that a random crop takes.
        flip: Mirror half of the crops.
        orientation: any also turns crops by quarters: for what has no up, as seen from above or through a microscope.
        band_jitter: Strength of random contrast, brightness and noise of each band; by default 0.2 where the recipe has
            RandAugment, which is for colours of 8 bits, else 0.
        band_dropout: Probability of each band to be hidden from a crop.
        drop_path: Drop path of the last block.
        ema: Decay of the EMA of the weights, which is what is evaluated and kept; 0 for none.
        head_init: Factor on the head's initial weights.
        class_weights: balanced: rare classes count more in the loss.
        balanced_sampling: Draw all classes equally often.
        eval_epochs: Epochs between evaluations; by default one, or more in a run of more than thirty epochs.
        patience: End the run after this many evaluations without a new best; 0 for never.
        crop_pct: Share of a resized image's side that is evaluated; by default 0.875, and all of it from 384 pixels on.
    """

def embed(
    run: str | Path,
    data: Images,
    out: StrPath | None = None,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    max_pixels: int = 100000000,
    value_range: str | Sequence[float] | None = None,
    bands: str | Sequence[str] | None = None,
    channels: str | Sequence[str] | None = None,
    stats: str | None = None,
    pages: Literal["bands", "images"] = "bands",
    tile: int | None = None,
) -> Embedding:
    """Extract one feature vector per image, as `convnextv2 embed` does.

    run: a run of pre-training or of a classifier, whose head is not used, or any other source that `load` takes.
    data: a folder of images, or a text file of paths; or several paths, arrays, tensors, PIL images, or a map-style
    dataset, see `data.files.given.Images`.  out: a new file to write, .npy (with .names.txt beside it) or .csv; None to
    write nothing.

    Raises UserError for another ending of `out`, a missing run or an empty folder.

    Settings:
        batch_size: Images per batch.
        workers: Processes that read images; by default one per core less one, at most 8.
        device: auto, cpu, cuda or cuda:N.
        max_pixels: Images of more pixels count as unreadable (decompression bombs).
        value_range: LOW:HIGH, the values that become black and white in files of more than 8 bits; by default as the
            model was trained.
        bands: Patterns of the files of each band; the model knows them, and they are only compared.
        channels: Which bands are read; the model knows them, and they are only compared.
        stats: A file of `convnextv2 stats`; the model knows its statistics, and they are only compared.
        pages: What the pages of a TIFF and the frames of DICOM are: bands of one image, or images of their own, in
            embed and predict.
        tile: Cover each image with squares of so many pixels on a side, which are read one by one, each for itself: for
            large images, in embed and predict.
    """

def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    say: Callable[[str], None] = ...,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    max_pixels: int = 100000000,
    value_range: str | Sequence[float] | None = None,
    bands: str | Sequence[str] | None = None,
    channels: str | Sequence[str] | None = None,
    stats: str | None = None,
    pages: Literal["bands", "images"] = "bands",
    tile: int | None = None,
    window: Literal["auto", "whole", "slide"] = "auto",
    scales: str | Sequence[float] | None = None,
    mirror: bool = False,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    split: Literal["val", "test", "train"] | None = None,
    weights: Literal["average", "plain", "both"] = "average",
    checkpoint: Literal["best", "latest"] | None = None,
    max_bad_fraction: float = 0.01,
    out: StrPath | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    image_size: int | None = None,
    crop_pct: float | None = None,
    resize: Literal["auto", "crop", "whole"] = "auto",
) -> Any:
    """Evaluate a trained model on labelled images, as `convnextv2 evaluate` does.

    run: a run's folder, or any other source of weights that `load` takes.  data: as the task reads it.
    say: called with a line of progress now and then, if the task has any.

    The settings are those of all tasks, and each refuses what it does not have; a task of another package has its own.
    Returns what the task returns: for a classifier `Evaluation`, for a segmenter `SceneEvaluation`. Raises UserError if
    models of this kind are not evaluated, and as the task does.

    Settings:
        batch_size: Images per batch.
        workers: Processes that read images; by default one per core less one, at most 8.
        device: auto, cpu, cuda or cuda:N.
        max_pixels: Images of more pixels count as unreadable (decompression bombs).
        value_range: LOW:HIGH, the values that become black and white in files of more than 8 bits; by default as the
            model was trained.
        bands: Patterns of the files of each band; the model knows them, and they are only compared.
        channels: Which bands are read; the model knows them, and they are only compared.
        stats: A file of `convnextv2 stats`; the model knows its statistics, and they are only compared.
        pages: What the pages of a TIFF and the frames of DICOM are: bands of one image, or images of their own, in
            embed and predict.
        tile: Cover each image with squares of so many pixels on a side, which are read one by one, each for itself: for
            large images, in embed and predict.
        window: Whether a segmenter sees an image whole, or window by window; auto: whole up to twice the size of its
            training crops.
        scales: Factors on the size of images, as 0.75,1,1.25: a segmenter averages its probabilities at all of them.
        mirror: A segmenter sees each image mirrored, too, and averages its probabilities.
        precision: auto takes bf16 autocast if the machine computes in it.
        split: The images to evaluate on; by default val, else test, else train; all if the data is not split.
        weights: average: the EMA if the file has one; plain: the weights of the last step; both for comparison.
        checkpoint: Checkpoint of a run; by default the best if it has one.
        max_bad_fraction: Give up if more than this share of images and masks is at fault; a few always may, unless it
            is 0.
        out: A new folder for scores.json, classes.csv, predictions.csv, the confusion matrix and example predictions.
        label_column: Column of the CSV with the labels, if it is not called label, class or target.
        label_separator: What separates the labels of an image in a CSV; by default a semicolon, if a consistent share
            has it.
        image_size: Pixels on a side of what the model sees; by default as trained.
        crop_pct: Share of a resized image's side that the crop takes; by default as trained.
        resize: crop resizes the shorter side and cuts out the centre, whole resizes to the square; auto: whole from 384
            on.
    """

def predict(
    run: str | Path,
    images: Images,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    max_pixels: int = 100000000,
    value_range: str | Sequence[float] | None = None,
    bands: str | Sequence[str] | None = None,
    channels: str | Sequence[str] | None = None,
    stats: str | None = None,
    pages: Literal["bands", "images"] = "bands",
    tile: int | None = None,
    window: Literal["auto", "whole", "slide"] = "auto",
    scales: str | Sequence[float] | None = None,
    mirror: bool = False,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    weights: Literal["average", "plain"] = "average",
    overlay: bool = True,
    probabilities: bool = False,
    top: int = 5,
    threshold: float | None = None,
) -> Iterator[Any]:
    """Run a trained model on images, in the order given, batch by batch while one iterates.

    run: a run's folder, or any other source of weights that `load` takes.
    images: image files, folders of them, and text files of paths, mixed; or arrays, tensors, PIL images, or a map-style
    dataset, see `data.files.given.Images`.

    The settings are those of all tasks, and each refuses what it does not have; a task of another package has its own.
    Yields what the task yields: for a classifier `Prediction`, for a segmenter `ScenePrediction`. Raises UserError if
    models of this kind do not predict, and as the task does.

    Settings:
        batch_size: Images per batch.
        workers: Processes that read images; by default one per core less one, at most 8.
        device: auto, cpu, cuda or cuda:N.
        max_pixels: Images of more pixels count as unreadable (decompression bombs).
        value_range: LOW:HIGH, the values that become black and white in files of more than 8 bits; by default as the
            model was trained.
        bands: Patterns of the files of each band; the model knows them, and they are only compared.
        channels: Which bands are read; the model knows them, and they are only compared.
        stats: A file of `convnextv2 stats`; the model knows its statistics, and they are only compared.
        pages: What the pages of a TIFF and the frames of DICOM are: bands of one image, or images of their own, in
            embed and predict.
        tile: Cover each image with squares of so many pixels on a side, which are read one by one, each for itself: for
            large images, in embed and predict.
        window: Whether a segmenter sees an image whole, or window by window; auto: whole up to twice the size of its
            training crops.
        scales: Factors on the size of images, as 0.75,1,1.25: a segmenter averages its probabilities at all of them.
        mirror: A segmenter sees each image mirrored, too, and averages its probabilities.
        precision: auto takes bf16 autocast if the machine computes in it.
        weights: average: the EMA if the file has one; plain: the weights of the last step.
        overlay: Also write the colours of the classes over each image, OUT/overlays.
        probabilities: Also write the probability of each class for each pixel, OUT/probabilities/NAME.npy, float16 (K,
            H, W).
        top: How many of the likeliest classes to give.
        threshold: For models of several labels per image: the probability above which a label is given; by default 0.5.
    """

def pretrain(
    data: Images | None = None,
    out: StrPath | None = None,
    *,
    resume: bool = False,
    auto_resume: bool = False,
    config: StrPath | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    lr: float | None = None,
    warmup_epochs: float | None = None,
    weight_decay: float | None = None,
    clip_grad: float | None = None,
    seed: int = 0,
    device: str = "auto",
    timeout: float = 30.0,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    compile: bool = False,
    threads: int | Literal["auto"] | None = None,
    workers: int | None = None,
    max_pixels: int = 100000000,
    value_range: str | Sequence[float] | None = None,
    max_bad_fraction: float = 0.01,
    cache: bool = True,
    checkpoint_minutes: float = 5.0,
    checkpoint_every: int = 0,
    log_every: int | None = None,
    init: StrPath | None = None,
    bands: str | Sequence[str] | None = None,
    channels: str | Sequence[str] | None = None,
    nodata: float | None = None,
    stats: str = "auto",
    show: str | Sequence[str] | None = None,
    inflate: str = "repeat",
    model: str | None = None,
    image_size: int | None = None,
    stem_stride: int | None = None,
    in_chans: int | None = None,
    depths: Sequence[int] | None = None,
    dims: Sequence[int] | None = None,
    mask_ratio: float | None = None,
    decoder_dim: int | None = None,
    decoder_depth: int | None = None,
    norm_pix_loss: bool | None = None,
    min_valid: float | None = None,
    pages: Literal["bands", "images"] = "bands",
    crops_per_image: int = 1,
    recipe: Literal["auto", "paper"] = "auto",
    min_scale: float = 0.2,
    flip: bool = True,
    orientation: Literal["upright", "any"] = "upright",
    pictures: int = 8,
) -> RunResult:
    """Pre-train a ConvNeXt with FCMAE on images without labels, as `convnextv2 pretrain` does.

    data: a folder of images or a text file of paths; or several paths, arrays, tensors, PIL images, or a map-style
    dataset, see `data.files.given.Images`.  out: a new folder for the run.

    A run that was given anything but one path is resumed by giving the same again: the number of images, their paths,
    and of images in memory the pixels of 64 are compared. A dataset must give the same image for an index each time.

    Raises UserError for a mistake in these, RunFailedError if the run cannot go on (a loss that is not finite, too many
    unreadable files), StoppedError after a signal, when everything is saved.

    Settings:
        resume: Resume the run in out from its newest checkpoint, bit for bit.
        auto_resume: Resume the run in out if there is one, else start it: for jobs that are started again by
            themselves.
        config: Start from the settings in this config.json of another run; options on the command line override them.
        epochs: Passes over the images.
        minutes: Train for about this many minutes instead of epochs, measured at the start and without evaluations.
        batch_size: Images per optimiser step, over all processes.
        micro_batch: Images that one process works on at a time; a step accumulates as many of these as it needs.
        lr: Highest learning rate, as used (not a base rate).
        warmup_epochs: Epochs of linear warm-up.
        weight_decay: AdamW weight decay; weights of convolutions and linear layers only.
        clip_grad: Largest norm of the gradient; not clipped by default, as in the paper.
        seed: Random seed for weights, order and augmentation.
        device: auto, cpu, cuda or cuda:N.
        timeout: Minutes that several processes wait for each other, as for the slowest to list the images.
        precision: auto takes bf16 autocast if the machine computes in it.
        compile: Compile the model with torch.compile.
        threads: Threads that compute on a CPU, by default one per core; auto measures which numbers of threads and
            workers are fastest now, as on a busy machine. The number can change the last bits of results.
        workers: Processes that read images; by default one per core less one, at most 8.
        max_pixels: Images of more pixels count as unreadable (decompression bombs).
        value_range: LOW:HIGH, the values that become black and white in files of more than 8 bits, as 0:4095; by
            default that of init, else all of 16 bits, and each image's own range for floats. 8 bits stay as they are.
        max_bad_fraction: Stop the run if more than this share of the files cannot be read; a few always may, unless it
            is 0.
        cache: Keep decoded images in memory, shared by all processes of a machine, if a quarter of what is free is
            enough.
        checkpoint_minutes: Minutes between checkpoints; the last step is always saved.
        checkpoint_every: Also save every so many steps; 0: time-based only.
        log_every: Steps between two lines of metrics.jsonl.
        init: Weights to start from: a run, a file, published weights (convnextv2 zoo), hf:OWNER/NAME, or none.
        bands: Patterns of the files of each band, where an image's bands lie in files of their own, as
            '{id}_B02.tif,{id}_B03.tif'.
        channels: Which bands are read, in this order: numbers from 1, or names, as 4,3,2; by default all of them.
        nodata: The value that stands for missing data; NaN, alpha and what a file says itself always do.
        stats: What the numbers of bands mean: auto (those of init, else made of the images), imagenet (8 bits only), or
            a file of `convnextv2 stats`.
        show: Which bands figures show as red, green and blue: one to three of those read, by number or name, as 4,3,2;
            by default those named red, green and blue, else the first three.
        inflate: How to adapt the stem if the channels differ from those of init: repeat (by name, where both sides have
            the same names), mean, a list of channels as 0,1,2,0, or a table as red=0,green=1,nir=red.
        model: convnextv2_SIZE, atto to huge (convnext_SIZE for V1); by default that of init, else convnextv2_atto.
        image_size: Pixels on a side of what the model sees; by default that of init, else as the files, 224 at most.
        stem_stride: 4 as published; 2 or 1 for small images; by default that of init, else 4 from 128 pixels on, 2 from
            64.
        in_chans: 3 for colour, 1 for grey images, or the number of bands; by default that of init, else as the images.
        depths: Number of blocks of each stage, in place of the model's.
        dims: Number of channels of each stage, in place of the model's.
        mask_ratio: Share of the patches that is masked; by default that of init, else 0.6.
        decoder_dim: Width of the decoder; by default that of init, else 512.
        decoder_depth: Blocks of the decoder; by default that of init, else 1.
        norm_pix_loss: Predict each patch normalised by its own mean and variance; by default as init was trained, else
            yes.
        min_valid: Least share of a patch's pixels that must exist; a patch with less is neither seen nor predicted; by
            default as init was trained, else 0.5.
        pages: What the pages of a TIFF and the frames of DICOM are: bands of one image, or images of their own.
        crops_per_image: Samples of each image in an epoch, for few and large images. Above 1, crops are taken from
            random parts of 1.5 times the image size on a side, and of TIFF no more than these parts is decoded.
        recipe: auto fits batch, warm-up and epochs to the data and the machine; paper is Table 8 of the paper.
        min_scale: Smallest share of an image's area that a random crop takes.
        flip: Mirror half of the crops (the official code does; the paper's text does not).
        orientation: any also turns crops by quarters: for what has no up, as seen from above or through a microscope.
        pictures: How often reconstructions are drawn during the run; the last are always drawn.
    """

def probe(
    run: str | Path,
    data: str | Path,
    *,
    say: Callable[[str], None] = ...,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    max_pixels: int = 100000000,
    value_range: str | Sequence[float] | None = None,
    bands: str | Sequence[str] | None = None,
    channels: str | Sequence[str] | None = None,
    stats: str | None = None,
    pages: Literal["bands", "images"] = "bands",
    tile: int | None = None,
    label_fraction: float = 1.0,
    labels_per_class: int | None = None,
    draws: int = 3,
    against: str | StrPath = "random",
    split: Literal["val", "test"] | None = None,
    val_fraction: float | None = None,
    group_column: str | None = None,
    group_pattern: str | None = None,
    multi_label: bool = False,
    label_column: str | None = None,
    label_separator: str | None = None,
    image_size: int | None = None,
    neighbours: int = 20,
    seed: int = 0,
    out: StrPath | None = None,
) -> ProbeResult:
    r"""Evaluate frozen features: a linear probe and k-NN on labelled images, beside random weights.

    run: a run of `pretrain` or `classify`, or any other source that `load` takes; a head is not used.
    data: labelled images, see `read_splits`.  say: called with lines of progress.

    The result of a run's folder is added to its report.html.

    The linear probe is a logistic regression on features standardised by the training ones; its regularisation is
    chosen on a fifth of the training labels, never on the images that it is evaluated on. k-NN is that of Wu et al.
    2018: cosine similarity s, votes of weight exp(s / 0.07). If images have several labels there is one regression per
    class, scored by mean average precision, and no k-NN.

    Raises UserError for a mistake in these or a file that is not there, LoadError for one that is damaged,
    RunFailedError if images cannot be read or features are not finite.

    Settings:
        batch_size: Images per batch.
        workers: Processes that read images; by default one per core less one, at most 8.
        device: auto, cpu, cuda or cuda:N.
        max_pixels: Images of more pixels count as unreadable (decompression bombs).
        value_range: LOW:HIGH, the values that become black and white in files of more than 8 bits; by default as the
            model was trained.
        bands: Patterns of the files of each band; the model knows them, and they are only compared.
        channels: Which bands are read; the model knows them, and they are only compared.
        stats: A file of `convnextv2 stats`; the model knows its statistics, and they are only compared.
        pages: What the pages of a TIFF and the frames of DICOM are: bands of one image, or images of their own, in
            embed and predict.
        tile: Cover each image with squares of so many pixels on a side, which are read one by one, each for itself: for
            large images, in embed and predict.
        label_fraction: Use only this share of the labels of each class, drawn several times.
        labels_per_class: Or this many labels of each class.
        draws: How often these are drawn; mean and standard deviation are reported.
        against: Another run or file to compare with; random weights of the same architecture are always beside it.
        split: The images to evaluate on; by default val, or test if there is no val.
        val_fraction: Share of the images to evaluate on if the data has no val; by default a fifth, or a tenth of
            train/.
        group_column: Column of the CSV whose equal values (a patient, a site) must not be on both sides of the split.
        group_pattern: The same for folders: a regular expression; what it matches in the path below data, as
            'patient(\d+)', is the group.
        multi_label: Several labels per image, each evaluated by itself; also chosen if a CSV has several in a cell.
        label_column: Column of the CSV with the labels, if it is not called label, class or target.
        label_separator: What separates the labels of an image in a CSV; by default a semicolon, if a consistent share
            has it.
        image_size: Pixels on a side; by default that of the run.
        neighbours: k of k-NN.
        seed: Random seed of what is drawn: labels, val, random weights.
        out: A new JSON file for the whole result.
    """

def segment(
    data: StrPath | None = None,
    out: StrPath | None = None,
    *,
    resume: bool = False,
    auto_resume: bool = False,
    config: StrPath | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    lr: float | None = None,
    warmup_epochs: float | None = None,
    weight_decay: float | None = None,
    clip_grad: float | None = None,
    seed: int = 0,
    device: str = "auto",
    timeout: float = 30.0,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    compile: bool = False,
    threads: int | Literal["auto"] | None = None,
    workers: int | None = None,
    max_pixels: int = 100000000,
    value_range: str | Sequence[float] | None = None,
    max_bad_fraction: float = 0.01,
    cache: bool = True,
    checkpoint_minutes: float = 5.0,
    checkpoint_every: int = 0,
    log_every: int | None = None,
    init: StrPath | None = None,
    bands: str | Sequence[str] | None = None,
    channels: str | Sequence[str] | None = None,
    nodata: float | None = None,
    stats: str = "auto",
    show: str | Sequence[str] | None = None,
    inflate: str = "repeat",
    model: str | None = None,
    image_size: int | None = None,
    stem_stride: int | None = None,
    in_chans: int | None = None,
    depths: Sequence[int] | None = None,
    dims: Sequence[int] | None = None,
    val_fraction: float | None = None,
    group_pattern: str | None = None,
    classes: StrPath | None = None,
    ignore: int | None = None,
    reduce_zero_label: bool = False,
    recipe: Literal["ade20k", "small-data"] | None = None,
    base_size: int | None = None,
    head_dim: int | None = None,
    head_norm: Literal["batch", "group"] | None = None,
    auxiliary_weight: float | None = None,
    dropout: float | None = None,
    freeze: int = 0,
    layer_decay: float | None = None,
    layer_decay_type: Literal["single", "group", "stage"] | None = None,
    drop_path: float | None = None,
    ema: float | None = None,
    min_scale: float | None = None,
    max_scale: float | None = None,
    flip: bool = True,
    orientation: Literal["upright", "any"] = "upright",
    distort: bool = True,
    band_jitter: float = 0.2,
    most_of_a_class: float = 0.75,
    ignored_pixels_count: bool = True,
    dice: float = 0.0,
    ohem: float = 0.0,
    class_weights: Literal["none", "balanced"] = "none",
    eval_epochs: float | None = None,
    patience: int = 0,
) -> RunResult:
    r"""Train a segmenter, from pre-trained weights (`init=`) or from scratch, as `convnextv2 segment` does.

    data: images and their masks, split or not.  out: a new folder for the run.

    Raises UserError for a mistake in these, LoadError for weights that do not fit, RunFailedError if too many masks are
    at fault or the run cannot go on, StoppedError after a signal, when everything is saved.

    Settings:
        resume: Resume the run in out from its newest checkpoint, bit for bit.
        auto_resume: Resume the run in out if there is one, else start it: for jobs that are started again by
            themselves.
        config: Start from the settings in this config.json of another run; options on the command line override them.
        epochs: Passes over the images.
        minutes: Train for about this many minutes instead of epochs, measured at the start and without evaluations.
        batch_size: Images per optimiser step, over all processes.
        micro_batch: Images that one process works on at a time; a step accumulates as many of these as it needs.
        lr: Highest learning rate, as used (not a base rate).
        warmup_epochs: Epochs of linear warm-up.
        weight_decay: AdamW weight decay; weights of convolutions and linear layers only.
        clip_grad: Largest norm of the gradient; not clipped by default, as in the paper.
        seed: Random seed for weights, order and augmentation.
        device: auto, cpu, cuda or cuda:N.
        timeout: Minutes that several processes wait for each other, as for the slowest to list the images.
        precision: auto takes bf16 autocast if the machine computes in it.
        compile: Compile the model with torch.compile.
        threads: Threads that compute on a CPU, by default one per core; auto measures which numbers of threads and
            workers are fastest now, as on a busy machine. The number can change the last bits of results.
        workers: Processes that read images; by default one per core less one, at most 8.
        max_pixels: Images of more pixels count as unreadable (decompression bombs).
        value_range: LOW:HIGH, the values that become black and white in files of more than 8 bits, as 0:4095; by
            default that of init, else all of 16 bits, and each image's own range for floats. 8 bits stay as they are.
        max_bad_fraction: Stop the run if more than this share of the files cannot be read; a few always may, unless it
            is 0.
        cache: Keep decoded images in memory, shared by all processes of a machine, if a quarter of what is free is
            enough.
        checkpoint_minutes: Minutes between checkpoints; the last step is always saved.
        checkpoint_every: Also save every so many steps; 0: time-based only.
        log_every: Steps between two lines of metrics.jsonl.
        init: Weights to start from: a run, a file, published weights (convnextv2 zoo), hf:OWNER/NAME, or none.
        bands: Patterns of the files of each band, where an image's bands lie in files of their own, as
            '{id}_B02.tif,{id}_B03.tif'.
        channels: Which bands are read, in this order: numbers from 1, or names, as 4,3,2; by default all of them.
        nodata: The value that stands for missing data; NaN, alpha and what a file says itself always do.
        stats: What the numbers of bands mean: auto (those of init, else made of the images), imagenet (8 bits only), or
            a file of `convnextv2 stats`.
        show: Which bands figures show as red, green and blue: one to three of those read, by number or name, as 4,3,2;
            by default those named red, green and blue, else the first three.
        inflate: How to adapt the stem if the channels differ from those of init: repeat (by name, where both sides have
            the same names), mean, a list of channels as 0,1,2,0, or a table as red=0,green=1,nir=red.
        model: convnextv2_SIZE, atto to huge (convnext_SIZE for V1); by default that of init, else convnextv2_atto.
        image_size: Pixels on a side of what the model sees; by default that of init, else as the files, 224 at most.
        stem_stride: 4 as published; 2 or 1 for small images; by default that of init, else 4 from 128 pixels on, 2 from
            64.
        in_chans: 3 for colour, 1 for grey images, or the number of bands; by default that of init, else as the images.
        depths: Number of blocks of each stage, in place of the model's.
        dims: Number of channels of each stage, in place of the model's.
        val_fraction: Share of the images to validate with if the data has no val; by default a fifth, or a tenth of
            train/.
        group_pattern: A regular expression; what it matches in the path of an image, as 'patient(\d+)', is its group,
            and a group is never on both sides of the split.
        classes: A classes.json with names, palette and what is no class, or a labelmap.txt of CVAT; by default that of
            data.
        ignore: The value of masks that is no class, in place of that of classes.json; 255 always is none.
        reduce_zero_label: 0 is no class and 1 is the first, as in ADE20K.
        recipe: The paper's recipe, or ours for small folders, the default up to 10,000 images.
        base_size: Pixels on the shorter side that an image is scaled to before the random scale; by default image_size;
            0 keeps the pixels of the files, where objects have one size in pixels, as seen from above or through a
            microscope.
        head_dim: Width of UPerNet's head, 512 in the paper.
        head_norm: Norm in the head: batch as in the paper, over all processes; group also works with one image at a
            time.
        auxiliary_weight: Weight of the auxiliary head's loss; 0 for no such head.
        dropout: Dropout before the classifiers.
        freeze: Stages of the backbone whose weights stay as they are, stem first: 4 for the whole backbone.
        layer_decay: Factor on the learning rate from one layer to the one below; 1 for none.
        layer_decay_type: What a layer is: a block, one of twelve groups of them, or a stage, as in the paper's
            framework.
        drop_path: Drop path of the last block.
        ema: Decay of the EMA of the weights, which is what is evaluated and kept; 0 for none.
        min_scale: Smallest factor of the random scale.
        max_scale: Largest factor of the random scale.
        flip: Mirror half of the crops; their masks with them.
        orientation: any also turns crops by quarters: for what has no up, as seen from above or through a microscope.
        distort: Change brightness, contrast, saturation and hue at random; of bands see band_jitter.
        band_jitter: Strength of random contrast, brightness and noise of each band, where files are read as numbers.
        most_of_a_class: Largest share of one class in a crop; ten other places are tried.
        ignored_pixels_count: Divide the loss by all pixels, as the paper's framework does, and not by those with a
            class.
        dice: Weight of the Dice loss beside cross entropy; for small objects and few classes.
        ohem: Online hard examples: only pixels whose true class has a probability below this count, as 0.7; 0 for all.
        class_weights: balanced: rare classes count more in the loss, by the root of how rare they are.
        eval_epochs: Epochs between evaluations; by default ten evaluations, and one an epoch at most.
        patience: End the run after this many evaluations without a new best; 0 for never.
    """

def stats(
    data: Images,
    out: StrPath | None = None,
    say: Callable[[str], None] = ...,
    *,
    bands: str | Sequence[str] | None = None,
    channels: str | Sequence[str] | None = None,
    pages: Literal["bands", "images"] = "bands",
    nodata: float | None = None,
    images: int | Literal["all"] = 1000,
    workers: int | None = None,
    max_pixels: int = 100000000,
) -> Statistics:
    """Compute what the numbers of images mean, band by band, as `convnextv2 stats` does.

    Mean, standard deviation, smallest and largest value are of all existing pixels of the images that are read, in
    float64 and the same for any number of workers (of a TIFF of more than 16 megapixels, of 16 parts spread over it);
    percentiles and what a model is shown of a sample of about 262,000 pixels, spread evenly.

    data: a folder of images, or a text file of paths; or several paths, arrays, tensors, PIL images, or a map-style
    dataset, see `data.files.given.Images`.  out: a new JSON file for `--stats`, beside which a picture of the
    histograms is written (.png); None to write nothing.  say: called
    with lines of progress.

    Raises UserError for a mistake in these, images of different bands, or data that is all missing.

    Settings:
        bands: Patterns of the files of each band, where an image's bands lie in files of their own, as
            '{id}_B02.tif,{id}_B03.tif'.
        channels: Which bands are read, in this order: numbers from 1, or names, as 4,3,2; by default all of them.
        pages: What the pages of a TIFF and the frames of DICOM are: bands of one image, or images of their own.
        nodata: The value that stands for missing data; NaN, alpha and what a file says itself always do.
        images: How many images are read, spread evenly over the folder; all reads every one.
        workers: Processes that read images; by default one per core less one, at most 8.
        max_pixels: Images of more pixels count as unreadable (decompression bombs).
    """
