"""A demonstration in four minutes on a laptop: pre-train on handwritten digits, then evaluate the features."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from convnextv2.atomic import write_text_atomically
from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.engine.new_folder import open_new
from convnextv2.inference.predictor import InputSpec, Predictor
from convnextv2.inference.settings import InferenceSettings
from convnextv2.models import ConvNeXt
from convnextv2.report import write_report
from convnextv2.tasks.pretrain.load import load_pretrained
from convnextv2.tasks.pretrain.run import build_fcmae, pretrain
from convnextv2.verbs.embed import embed_images

SIZE = 32  # pixels on a side, from the digits' 8
LABELS = 10  # labelled images of each class for the linear head
DRAWS = 10  # how often they are drawn


@dataclass(frozen=True)
class DemoResult:
    """columns, rows: the table, as text.  report: the page."""

    columns: list[str]
    rows: list[list[str]]
    report: Path


def demo(out: Path, *, minutes: float = 2.0, seed: int = 0) -> DemoResult:
    """Pre-train a small model without labels on scikit-learn's 1,797 digits, and evaluate it with few labels.

    out: a new folder; gets `pictures/` (the digits as PNG) and `run/` (a pre-training run with its report).
    A linear head is trained on frozen features of 10 labelled digits per class and tested on the others; beside it the
    same model with random weights, and the bare pixels.
    """
    digits, labels = _digits()
    open_new(out)
    images = _write(digits, out / "pictures")
    run = out / "run"
    pretrain(
        images.root,
        run,
        model="convnextv2_atto",
        depths=(1, 1, 2, 1),
        dims=(24, 48, 96, 192),
        in_chans=1,
        stem_stride=1,
        image_size=SIZE,
        decoder_dim=128,
        flip=False,  # a digit must not be mirrored,
        min_scale=0.6,  # nor cut down to a corner
        batch_size=64,
        minutes=minutes,
        seed=seed,
    )

    trained = load_pretrained(run)
    spec = trained.input_spec()
    torch.manual_seed(seed)
    random = build_fcmae(trained.info).encoder
    rows = [
        ["pre-trained here, without labels", *_evaluate(_features(trained.model.encoder, spec, images), labels)],
        ["the same model, random weights", *_evaluate(_features(random, spec, images), labels)],
        ["bare pixels", *_evaluate(digits.reshape(len(digits), -1), labels)],
    ]
    columns = ["features", f"linear head, {LABELS} labels per class", "nearest neighbour, same labels"]
    note = (
        f"Accuracy on the digits that were not labelled; mean and standard deviation over {DRAWS} draws of labels. "
        "The bare pixels are a baseline: for centred digits of 8x8 pixels, one that is hard to beat."
    )
    table = {"title": "What was learned", "columns": columns, "rows": rows, "note": note}
    write_text_atomically(run / "table.json", json.dumps(table))
    return DemoResult(columns, rows, write_report(run))


def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    return data.reshape(-1, 8, 8), target


def _write(digits: NDArray[np.float64], folder: Path) -> ImageList:
    folder.mkdir()
    for number, digit in enumerate(digits):
        grey = Image.fromarray((digit * (255 / 16)).astype(np.uint8))
        grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.png")
    return list_images(folder)


def _features(encoder: ConvNeXt, spec: InputSpec, images: ImageList) -> NDArray[np.float32]:
    return embed_images(Predictor(encoder, spec), images, InferenceSettings(batch_size=256)).features


def _evaluate(features: NDArray[Any], labels: NDArray[np.int64]) -> list[str]:
    """Accuracy of a linear head and of the nearest neighbour from few labels, as text."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(labels))
        known = np.concatenate([order[labels[order] == label][:LABELS] for label in np.unique(labels)])
        rest = np.setdiff1d(order, known)
        heads = (LogisticRegression(max_iter=1000), KNeighborsClassifier(1))
        fitted = [make_pipeline(StandardScaler(), head).fit(features[known], labels[known]) for head in heads]
        scores.append([head.score(features[rest], labels[rest]) for head in fitted])
    return [
        f"{100 * mean:.1f} % ± {100 * std:.1f}" for mean, std in zip(np.mean(scores, 0), np.std(scores, 0), strict=True)
    ]
