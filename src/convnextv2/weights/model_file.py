"""The model file that a run writes: its kind, its tensors, and one typed record of its metadata.

`model.safetensors` holds a model's state dict, beside it perhaps the same tensors again under `ema/` (their exponential
moving average), and text metadata, which only `ModelInfo` reads and writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from convnextv2 import seal
from convnextv2.errors import LoadError, UserError
from convnextv2.models.config import BackboneConfig, EncoderConfig, config_from_dict
from convnextv2.records import Preprocessing
from convnextv2.settings import as_value_range, converted
from convnextv2.text import one_line, shown
from convnextv2.weights import kinds, strict, values
from convnextv2.weights.files import (
    EMA_PREFIX,
    HASH_KEY,
    RUNNING_KEY,
    checkpoint_of,
    is_checkpoint_name,
    load_tensors,
    save_tensors,
)
from convnextv2.weights.sources.published import nothing_at

Weights = Literal["average", "plain"]
"""For a file that holds both: the EMA of the weights, or the weights of the last step."""

Checkpoint = Literal["best", "latest"]
"""Of a run."""

FORMAT = re.compile(r"convnextv2\.([a-z][a-z0-9-]*)\.1")
_ENCODER = "encoder."


@dataclass(frozen=True)
class TrainingStep:
    """An earlier training of weights.  format: of the file then.  file: its name, or that of published weights."""

    format: str
    trained_on: str
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """All that a model file holds besides its tensors.

    kind: "encoder", "classifier", or what a task registered (`weights.kinds`).  architecture: of the encoder.
    image_size: pixels on a side.  crop_pct: see `CenterFit`; None for the default.  classes: names in the order of the
    head's rows; empty without a head.  multi_label: an image may have several.  options: arguments of the kind's own
    model, as JSON has them.  None if not recorded: trained_on (name of the data), trained_from (earlier steps,
    oldest first), published (name of published weights), licence, step (optimiser steps).  layout: whose file it is.

    Raises UserError for values that no model has, as `weights.values`.
    """

    kind: str
    architecture: BackboneConfig
    preprocessing: Preprocessing
    image_size: int
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    crop_pct: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    trained_on: str | None = None
    trained_from: tuple[TrainingStep, ...] | None = None
    published: str | None = None
    licence: str | None = None
    step: int | None = None
    layout: str = "convnextv2"

    def __post_init__(self) -> None:
        try:
            self._check()
        except ValueError as error:
            raise UserError(f"no model file says this: {one_line(error)}") from error

    def _check(self) -> None:
        architecture, statistics = self.architecture, self.preprocessing
        values.side(self.image_size)
        if isinstance(architecture, EncoderConfig) and self.image_size < architecture.patch_size:
            raise ValueError(
                f"its image size is {self.image_size}, below one patch of {architecture.patch_size} pixels"
            )
        if statistics.bands is None:
            values.statistics(statistics.mean, statistics.std)
        else:
            values.bands(vars(statistics.bands), statistics.mean, statistics.std)
        if len(statistics.mean) != architecture.in_chans:
            raise ValueError(f"its mean has {len(statistics.mean)} values for {architecture.in_chans} channels")
        values.class_names(self.classes)
        if self.kind in kinds.BACKBONES and (self.kind == "classifier") != bool(self.classes):
            raise ValueError(f"it is of kind {self.kind} with {len(self.classes)} classes")
        if self.crop_pct is not None:
            values.share(self.crop_pct)
        if not isinstance(self.multi_label, bool) or not isinstance(self.options, Mapping):
            raise ValueError(f"multi_label {self.multi_label!r}, options of a {type(self.options).__name__}")
        for name in ("trained_on", "published", "licence"):
            if getattr(self, name) is not None:
                values.line(getattr(self, name), name)

    @property
    def format(self) -> str:
        """The name of its kind in a file."""
        return f"convnextv2.{self.kind}.1"

    def of_backbone(
        self, architecture: BackboneConfig, classes: tuple[str, ...], preprocessing: Preprocessing
    ) -> ModelInfo:
        """Return the same for only the backbone that the file holds, with a head for `classes` or with none."""
        return replace(
            self,
            kind="classifier" if classes else "encoder",
            architecture=architecture,
            classes=classes,
            preprocessing=preprocessing,
            options={},
        )

    def to_metadata(self) -> dict[str, str]:
        """Return it as text for a safetensors file; `from_metadata` reads it back.

        Raises UserError for options of a backbone, which has none.
        """
        said = {name: text for name, write in _ENTRIES.items() if (text := write(self)) is not None}
        if self.options:
            if self.kind in kinds.BACKBONES:
                raise UserError(f"options {dict(self.options)}: a file of kind {self.kind!r} has none; leave them out")
            said[self.kind] = json.dumps(dict(self.options))
        return said

    @staticmethod
    def from_metadata(said: Mapping[str, str]) -> ModelInfo:
        """Read what `to_metadata` wrote, in this version or an earlier one.

        Raises LookupError, ValueError, TypeError or AttributeError for invalid metadata.
        """
        match = FORMAT.fullmatch(said["format"])
        if match is None:
            raise ValueError(f"format {said['format']}")
        statistics = seal.parse(said["preprocessing"])
        return ModelInfo(
            kind=match[1],
            architecture=config_from_dict(seal.parse(said["encoder"])),
            preprocessing=_preprocessing(statistics),
            image_size=values.whole(said["image_size"], "image size"),
            classes=values.class_names(seal.parse(said.get("classes", "[]"))),
            multi_label=seal.parse(said.get("multi_label", "false")),
            crop_pct=seal.parse(said.get("crop_pct", "null")),
            options={} if match[1] in kinds.BACKBONES else seal.parse(said.get(match[1], "{}")),
            trained_on=said.get("trained_on"),
            trained_from=_steps(said.get("trained_from")),
            published=said.get("published"),
            licence=said.get("licence"),
            step=values.whole(said["step"], "step") if "step" in said else None,
        )


_ENTRIES: Mapping[str, Callable[[ModelInfo], str | None]] = {
    "format": lambda info: info.format,
    "encoder": lambda info: json.dumps(info.architecture.to_dict()),
    "preprocessing": lambda info: json.dumps(
        {name: value for name, value in asdict(info.preprocessing).items() if value is not None}
    ),
    "image_size": lambda info: str(info.image_size),
    "classes": lambda info: json.dumps(list(info.classes)),
    "multi_label": lambda info: json.dumps(info.multi_label),
    "crop_pct": lambda info: json.dumps(info.crop_pct),
    "trained_on": lambda info: info.trained_on,
    "trained_from": lambda info: (
        None if info.trained_from is None else json.dumps([vars(step) for step in info.trained_from])
    ),
    "published": lambda info: info.published,
    "licence": lambda info: info.licence,
    "step": lambda info: None if info.step is None else str(info.step),
}
"""The metadata of every model file: name of an entry, and its text, or None if it is not recorded."""

RESERVED = frozenset({*_ENTRIES, HASH_KEY, RUNNING_KEY, *kinds.BACKBONES})
"""Names that no other kind can have, as a kind's options are kept in the metadata under its name."""


@dataclass(frozen=True)
class ModelFile:
    """A file that was read and checked: every tensor of its model, under our names.

    tensors: any shapes; the EMA of the weights if the file has it and it was requested (`averaged`), else the weights
    of the last step.  sha256: hash of the file's content.
    """

    path: Path
    info: ModelInfo
    tensors: Mapping[str, Tensor]
    averaged: bool
    sha256: str

    def encoder(self) -> dict[str, Tensor]:
        """Return the encoder's tensors under its own names; those of a classifier with its final norm and its head."""
        wrapped = {n.removeprefix(_ENCODER): t for n, t in self.tensors.items() if n.startswith(_ENCODER)}
        return wrapped or dict(self.tensors)

    def beside_encoder(self) -> dict[str, Tensor]:
        """Return the tensors outside the encoder that a model wraps, for instance a decoder; empty for a backbone."""
        if self.info.kind in kinds.BACKBONES:
            return {}
        return {name: tensor for name, tensor in self.tensors.items() if not name.startswith(_ENCODER)}

    @property
    def title(self) -> str:
        """The file and what it holds, for messages."""
        return f"{self.path} (a {self.info.architecture.title})"

    def write(self, target: Path) -> ModelFile:
        """Write it as a file of ours, atomically; return what that file holds."""
        save_tensors(target, self.tensors, self.info.to_metadata())
        return replace(self, path=target)


def read_model_file(source: str | Path, *, weights: Weights = "average", which: str | None = None) -> ModelFile:
    """Read a run's weights, or a `model.safetensors` that this package wrote.

    weights: for a file that holds both, the EMA or the weights of the last step.  which: for a run, "best" or
    "latest"; by default the best if the run has one.

    Raises UserError if there is none, or for another word than these; LoadError if the file is damaged or of another
    kind.
    """
    check_choice(weights, which)
    path = find_weights(Path(source), which)
    return parse_model_file(path, *load_tensors(path), weights=weights)


def parse_model_file(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, weights: Weights = "average"
) -> ModelFile:
    """Parse the tensors (any shapes) and metadata of a file of ours. Raises LoadError if they do not make a model."""
    check_choice(weights)
    if not FORMAT.fullmatch(metadata.get("format", "")):
        said = shown(str(metadata.get("format")))[:60]
        raise LoadError(f"{path} was not written by a run of convnextv2: its format is {said}")
    averaged = weights == "average" and any(name.startswith(EMA_PREFIX) for name in tensors)
    if averaged:
        chosen = {n.removeprefix(EMA_PREFIX): tensor for n, tensor in tensors.items() if n.startswith(EMA_PREFIX)}
    else:
        chosen = {n: tensor for n, tensor in tensors.items() if not n.startswith(EMA_PREFIX)}
    try:
        info = ModelInfo.from_metadata(metadata)
        if isinstance(info.architecture, EncoderConfig):
            _check_size(info, len(chosen))
        needed = kinds.shapes(info)
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, RuntimeError) as error:
        said = shown(one_line(error))
        raise LoadError(f"{path} does not say what it holds ({said}): it is of another version") from error
    if is_checkpoint_name(path.parent.name) and info.step is not None and info.step != int(path.parent.name[5:]):
        raise LoadError(
            f"{path} is of step {info.step}: it is not what {path.parent.name} was saved with; put that back"
        )
    found = ModelFile(path, info, chosen, averaged, metadata.get(HASH_KEY, ""))
    if needed is not None:
        advice = "It was not written by this version: train or convert it again"
        strict.check(needed, chosen, what=found.title, advice=advice, floats=True)
    return found


def write_encoder(source: str | Path, target: Path, *, half: bool = True) -> ModelFile:
    """Write only the encoder of a run of ours to a file of its own, for use as `--init`.

    half: in float16, half the size; it is loaded into float32. Decoder and head are left out.

    Returns what the file holds. Raises UserError and LoadError as `read_model_file`.
    """
    found = read_model_file(source)
    if not isinstance(found.info.architecture, EncoderConfig):
        raise UserError(f"{found.path} holds a model of timm, whose head cannot be separated: use the file itself")
    tensors = {name: tensor for name, tensor in found.encoder().items() if not name.startswith("head.")}
    if half:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    info = replace(found.info, kind="encoder", classes=(), multi_label=False, crop_pct=None, options={})
    return replace(found, info=info, tensors=tensors, averaged=False).write(target)


def find_weights(source: Path, which: str | None = None) -> Path:
    """Return the `model.safetensors` of a run's folder, of a checkpoint's folder, or the file itself."""
    check_choice(which=which)
    if source.is_file():
        return source
    if not source.is_dir():
        raise nothing_at(source)
    if (source / "model.safetensors").is_file():
        return source / "model.safetensors"
    found = checkpoint_of(source, which) if which else checkpoint_of(source, "best") or checkpoint_of(source)
    if found is None:
        raise UserError(f"{source} holds no checkpoint yet" if which != "best" else f"{source} has no best checkpoint")
    return found / "model.safetensors"


def check_choice(weights: Weights = "average", which: str | None = None) -> None:
    """Check which weights of a source are requested. Raises UserError for another word than the known ones."""
    converted("weights", weights, Weights)
    converted("checkpoint", which, Checkpoint | None)


def _preprocessing(said: Mapping[str, Any]) -> Preprocessing:
    """Return what the metadata say of the model's input. Raises LookupError, ValueError or TypeError."""
    if said.get("bands") is not None:
        return values.bands(said["bands"], said["mean"], said["std"])
    found = values.statistics(said["mean"], said["std"])
    return replace(found, value_range=as_value_range(said.get("value_range")))


def _check_size(info: ModelInfo, tensors: int) -> None:
    """Raise ValueError if metadata claims more blocks than the file can hold, before any is made."""
    assert isinstance(info.architecture, EncoderConfig)
    decoder = info.options.get("decoder_depth", 0)  # other options are their task's own, whatever they are called
    if sum(info.architecture.depths) + (decoder if isinstance(decoder, int) else 0) > tensors:
        raise ValueError("more blocks than tensors")


def _steps(said: str | None) -> tuple[TrainingStep, ...] | None:
    if said is None:
        return None
    steps = seal.parse(said)
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ValueError("its trained_from is no list of steps")
    names = [f.name for f in fields(TrainingStep)]
    return tuple(TrainingStep(**{n: values.line(step[n], n) for n in names if n in step}) for step in steps)
