"""Runs that take a second, as settings and as command-line flags, and what they left."""

import json

import torch

from convnextv2.weights.files import checkpoint_of, load_tensors

# A model of 20 thousand parameters on cells of 8 pixels: a step takes milliseconds.
SMALL = {
    "model": "convnextv2_atto",
    "depths": (1, 1, 1, 1),
    "dims": (8, 8, 16, 16),
    "decoder_dim": 16,
    "image_size": 32,
    "stem_stride": 1,
    "batch_size": 8,
    "precision": "fp32",
    "workers": 1,
    "pictures": 0,
}

SMALL_CLASSIFIER = {name: value for name, value in SMALL.items() if name not in ("decoder_dim", "pictures")}


def saved_weights(run):
    """All tensors of a run's newest checkpoint, averages included."""
    return load_tensors(checkpoint_of(run) / "model.safetensors")[0]


def run_losses(run):
    """The training loss by step."""
    path = run / "metrics.jsonl"
    lines = map(json.loads, path.read_text().splitlines() if path.exists() else [])
    return {line["step"]: line["loss"] for line in lines if line["phase"] == "train"}


def same(a, b):
    """Whether two dictionaries of tensors are equal bit by bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def small_flags(**changes):
    """SMALL as command-line flags."""
    flags = []
    for name, value in (SMALL | changes).items():
        values = value if isinstance(value, tuple) else (value,)
        flags += [f"--{name.replace('_', '-')}", *map(str, values)]
    return flags
