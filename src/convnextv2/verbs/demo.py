"""A demonstration in four minutes on a laptop: pre-train on handwritten digits, then classify them from few labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnextv2.atomic import write_text_atomically
from convnextv2.data.files.folder import ImageList, list_images
from convnextv2.engine.new_folder import open_new
from convnextv2.inference.predictor import Predictor
from convnextv2.inference.settings import InferenceSettings
from convnextv2.report import write_report
from convnextv2.tasks.classify.run import classify
from convnextv2.tasks.pretrain.load import load_pretrained
from convnextv2.tasks.pretrain.run import pretrain
from convnextv2.verbs.embed import embed_images

SIZE = 32  # pixels on a side, from the digits' 8
LABELS = 3  # labelled images of each class
DRAWS = 2  # how often they are drawn
EPOCHS = 150  # of fine-tuning, 30 images each
MODEL: dict[str, Any] = {
    "model": "convnextv2_atto",
    "depths": (1, 1, 2, 1),
    "dims": (24, 48, 96, 192),
    "in_chans": 1,
    "stem_stride": 1,
    "image_size": SIZE,
}
CROPS: dict[str, Any] = {"flip": False, "min_scale": 0.6}  # a digit must not be mirrored, nor cut down to a corner


@dataclass(frozen=True)
class DemoResult:
    """columns, rows: the table, as text.  report: the page."""

    columns: list[str]
    rows: list[list[str]]
    report: Path


def demo(out: Path, *, minutes: float = 2.0, seed: int = 0) -> DemoResult:
    """Pre-train a small model without labels on scikit-learn's 1,797 digits, then train classifiers from 30 labels.

    out: a new folder; gets `pictures/` (the digits as PNG), `run/` (a pre-training run with its report), and for each
    draw of 3 labelled digits of each class a table `labels-N.csv`, a classifier fine-tuned from the run,
    `classifier-N/`, and one that started from random weights, `scratch-N/`. The rows compare these with a linear head
    on the run's frozen features and on the bare pixels, in percent of the 1,767 other digits.
    """
    digits, labels = _digits()
    open_new(out)
    images = _write(digits, out / "pictures")
    run = out / "run"
    pretrain(images.root, run, decoder_dim=128, batch_size=64, minutes=minutes, seed=seed, **MODEL, **CROPS)

    trained = load_pretrained(run)
    features = embed_images(
        Predictor(trained.model.encoder, trained.input_spec()), images, InferenceSettings(batch_size=256)
    ).features
    pixels = digits.reshape(len(digits), -1)
    scores = []
    for draw in range(1, DRAWS + 1):
        known = _draw(labels, draw)
        table = _write_labels(images, labels, known, out / f"labels-{draw}.csv")
        scores.append(
            (
                _fine_tune(table, out / f"classifier-{draw}", {"init": run, "image_size": SIZE}, draw),
                _fine_tune(table, out / f"scratch-{draw}", MODEL, draw),
                _linear_head(features, labels, known),
                _linear_head(pixels, labels, known),
            )
        )
    names = (
        "fine-tuned from the pre-trained weights",
        "fine-tuned from scratch",
        "linear head on the frozen pre-trained features",
        "linear head on the bare pixels",
    )
    rows = [
        [name, *(f"{100 * score:.1f} %" for score in row)]
        for name, row in zip(names, zip(*scores, strict=True), strict=True)
    ]
    labelled = LABELS * len(np.unique(labels))
    columns = ["classifier", *(f"{labelled} labels, draw {draw}" for draw in range(1, DRAWS + 1))]
    note = (
        f"Accuracy on the {len(labels) - labelled} digits that were not labelled, from {LABELS} labelled ones of each "
        "class. Draws of labels differ by several points: compare within a column. The bare pixels are a baseline: for "
        "centred digits of 8x8 pixels, a strong one."
    )
    described = {"title": "What was learned", "columns": columns, "rows": rows, "note": note}
    write_text_atomically(run / "table.json", json.dumps(described))
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


def _draw(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the numbers of `LABELS` random digits of each class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.concatenate([order[labels[order] == label][:LABELS] for label in np.unique(labels)])


def _write_labels(images: ImageList, labels: NDArray[np.int64], known: NDArray[np.int64], table: Path) -> Path:
    known_set = set(known.tolist())
    rows = [
        f"{images.root.name}/{name},{label},{'train' if number in known_set else 'val'}\n"
        for number, (name, label) in enumerate(zip(images.names, labels, strict=True))
    ]
    write_text_atomically(table, "path,label,split\n" + "".join(rows))
    return table


def _fine_tune(table: Path, run: Path, start: dict[str, Any], seed: int) -> float:
    """Train a classifier with the recipe for small data, without its EMA; return its top-1 accuracy at the end."""
    batch = LABELS * 10  # all labelled digits in each step
    classify(table, run, epochs=EPOCHS, eval_epochs=EPOCHS, batch_size=batch, ema=0, seed=seed, **start, **CROPS)
    return json.loads((run / "scores.json").read_text())["val"]["plain"]["top1"]


def _linear_head(features: NDArray[Any], labels: NDArray[np.int64], known: NDArray[np.int64]) -> float:
    """Return the accuracy of logistic regression from the labels of `known` on all others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rest = np.setdiff1d(np.arange(len(labels)), known)
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[known], labels[known])
    return float(head.score(features[rest], labels[rest]))
