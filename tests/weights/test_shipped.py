"""The trained file that comes with the project, and its card."""

import json
from pathlib import Path

import torch

from convnextv2 import classify
from convnextv2.weights.model_file import read_model_file

ASSETS = Path(__file__).parents[2] / "assets"
FILE = ASSETS / "convnextv2_2m_tiny_imagenet_64.safetensors"


def test_the_file_is_an_encoder_of_the_size_that_its_card_says():
    held = read_model_file(FILE)
    card = (ASSETS / "README.md").read_text()
    assert FILE.stat().st_size <= 8_000_000
    assert held.info.kind == "encoder"
    assert all(tensor.dtype == torch.float16 and tensor.isfinite().all() for tensor in held.tensors.values())
    assert held.sha256 in card
    assert f"{sum(tensor.numel() for tensor in held.tensors.values()):,} parameters" in card


def test_a_classifier_starts_from_it(picture_folder, tmp_path):
    result = classify(picture_folder, tmp_path / "run", init=FILE, epochs=1, batch_size=8, workers=0)
    model = json.loads((result.run / "config.json").read_text())["model"]
    assert model["parameters"] > 1_800_000
