"""What a `model.safetensors` that a run wrote says of itself, whatever the task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from convnextv2.errors import LoadError, UserError
from convnextv2.models.sizes import SIZES
from convnextv2.records import Preprocessing
from convnextv2.text import shown
from convnextv2.weights import shapes, strict
from convnextv2.weights.files import AVERAGE, checkpoint_of, load_tensors, save_tensors

Weights = Literal["average", "plain"]

PRETRAINED = "convnextv2.fcmae.1"
CLASSIFIER = "convnextv2.classifier.1"
ENCODER = "convnextv2.encoder.1"
_FORMATS = (PRETRAINED, CLASSIFIER, ENCODER)

ARCHITECTURE = ("model", "in_chans", "stem_stride", "depths", "dims")
"""The arguments that build an encoder again."""


@dataclass(frozen=True)
class ModelFile:
    """A file that a run wrote, or `write_encoder`.

    format: PRETRAINED, CLASSIFIER or ENCODER.  architecture: the encoder's arguments (ARCHITECTURE).  tensors: all
    of the model's, averaged where the file has averages and they were asked for.  image_size: pixels on a side.
    classes: names of a classifier's classes in order; empty otherwise.
    """

    file: Path
    format: str
    architecture: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    preprocessing: Preprocessing
    image_size: int
    classes: tuple[str, ...]
    averaged: bool
    metadata: Mapping[str, str]

    def encoder(self) -> dict[str, Tensor]:
        """The encoder's tensors under its own names; of a classifier with its final norm and its head."""
        if self.format == PRETRAINED:
            return {
                name.removeprefix("encoder."): tensor
                for name, tensor in self.tensors.items()
                if name.startswith("encoder.")
            }
        return dict(self.tensors)


def read_own(source: str | Path, *, weights: Weights = "average", which: str | None = None) -> ModelFile:
    """Read a run's weights, or a `model.safetensors`.

    weights: of a file that holds both, the averaged or the plain ones.  which: of a run, "best" or "latest"; by
    default the best where the run has one.

    Raises UserError where there is none, LoadError where the file is damaged or of another kind.
    """
    file = find_weights(Path(source), which)
    return own_file(file, *load_tensors(file), weights=weights)


def own_file(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, weights: Weights = "average"
) -> ModelFile:
    """What the tensors and the metadata of a file of ours say; LoadError where they are of another kind."""
    if metadata.get("format") not in _FORMATS:
        said = shown(str(metadata.get("format")))[:60]
        raise LoadError(f"{file} was not written by a run of convnextv2: its format is {said}")
    averaged = weights == "average" and any(name.startswith(AVERAGE) for name in tensors)
    if averaged:
        chosen = {n.removeprefix(AVERAGE): tensor for n, tensor in tensors.items() if n.startswith(AVERAGE)}
    else:
        chosen = {n: tensor for n, tensor in tensors.items() if not n.startswith(AVERAGE)}
    try:
        statistics = json.loads(metadata["preprocessing"])
        held = ModelFile(
            file=file,
            format=metadata["format"],
            architecture=_architecture(json.loads(metadata["encoder"])),
            tensors=chosen,
            preprocessing=Preprocessing(tuple(statistics["mean"]), tuple(statistics["std"])),
            image_size=int(metadata["image_size"]),
            classes=tuple(json.loads(metadata.get("classes", "[]"))),
            averaged=averaged,
            metadata=metadata,
        )
        _check_said(metadata)
        needed = _shapes(held)
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        said = " ".join(str(error).split())[:160]
        raise LoadError(f"{file} does not say what it holds ({said}): it is of another version") from error
    if needed is not None:
        what = f"{file} (a {held.architecture['model']})"
        advice = "It was not written by this version: train or convert it again"
        strict.check(needed, chosen, what=what, advice=advice, floats=True)
    return held


def _architecture(given: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's arguments. KeyError, TypeError or ValueError for what cannot be such."""
    found = {name: _tuple(given[name]) for name in ARCHITECTURE}
    numbers = [found["in_chans"], found["stem_stride"], *(found["depths"] or ()), *(found["dims"] or ())]
    known = isinstance(found["model"], str) and (found["model"] in SIZES or found["model"].startswith("timm:"))
    if not known or not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"encoder {json.dumps(given)}")
    return found


def _check_said(metadata: Mapping[str, str]) -> None:
    """ValueError unless what need not be said is said as it must be."""
    crop_pct = json.loads(metadata.get("crop_pct", "null"))
    steps = json.loads(metadata.get("trained_from", "[]"))
    several = json.loads(metadata.get("multi_label", "false"))
    if crop_pct is not None and not 0 < crop_pct <= 1:
        raise ValueError(f"crop_pct {crop_pct}")
    if not isinstance(several, bool):
        raise ValueError(f"multi_label {several}")
    if not all(isinstance(step.get(name), str) for step in steps for name in ("format", "trained_on")):
        raise ValueError(f"trained_from {steps}")


def _shapes(held: ModelFile) -> shapes.Shapes | None:
    """Of the tensors that it must hold; None for a model of timm, which says so itself once it is built."""
    if held.architecture["model"] not in SIZES:
        return None
    fcmae = json.loads(held.metadata["fcmae"]) if held.format == PRETRAINED else {"decoder_dim": 0, "decoder_depth": 0}
    width, depth = int(fcmae["decoder_dim"]), int(fcmae["decoder_depth"])
    if sum(held.architecture["depths"] or ()) + depth > len(held.tensors):
        raise ValueError("more blocks than tensors")
    needed = shapes.encoder(held.architecture, num_classes=len(held.classes) if held.format == CLASSIFIER else 0)
    if held.format != PRETRAINED:
        return needed
    beside = shapes.decoder(held.architecture, width=width, depth=depth)
    return {f"encoder.{name}": shape for name, shape in needed.items()} | beside


def write_encoder(source: str | Path, target: Path, *, half: bool = True) -> ModelFile:
    """Write the encoder alone of a run of ours to a file of its own, to be passed around as `--init`.

    half: in float16, half the size; it is loaded into float32. Decoder and head are left out. Returns what the
    file holds. Raises UserError and LoadError as `read_own`.
    """
    found = read_own(source)
    tensors = {name: tensor for name, tensor in found.encoder().items() if not name.startswith("head.")}
    if any(name.startswith("net.") for name in tensors):
        raise UserError(f"{found.file} holds a model of timm, whose head is not told apart: pass the file itself on")
    if half:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    kept = ("encoder", "preprocessing", "image_size", "trained_on", "trained_from", "published", "licence", "step")
    metadata = {name: found.metadata[name] for name in kept if name in found.metadata}
    save_tensors(target, tensors, {"format": ENCODER, **metadata})
    return read_own(target)


def find_weights(source: Path, which: str | None = None) -> Path:
    """The `model.safetensors` of a run's folder, of a checkpoint's folder, or the file itself."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise UserError(f"no run and no file at {source}; name the --out folder of a run, or its model.safetensors")
    if (source / "model.safetensors").is_file():
        return source / "model.safetensors"
    found = checkpoint_of(source, which) if which else checkpoint_of(source, "best") or checkpoint_of(source)
    if found is None:
        raise UserError(f"{source} holds no checkpoint yet" if which != "best" else f"{source} has no best checkpoint")
    return found / "model.safetensors"


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
