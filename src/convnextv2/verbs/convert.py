"""Convert weights of any known layout to that of another tool."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from convnextv2.atomic import partial_name, write_atomically, write_text_atomically
from convnextv2.errors import Notice, UserError
from convnextv2.models.config import EncoderConfig
from convnextv2.records import Preprocessing
from convnextv2.settings import StrPath
from convnextv2.signatures import verb
from convnextv2.verbs.loading_code import loading_code
from convnextv2.weights.layouts.recognise import writer
from convnextv2.weights.load import read
from convnextv2.weights.model_file import ModelFile, Weights

Target = Literal["convnextv2", "official", "minkowski", "timm", "transformers", "mmpretrain", "torchvision"]
_ENDINGS = {
    "convnextv2": (".safetensors",),
    "timm": (".safetensors", ".pth", ".pt"),
    "torchvision": (".safetensors",),  # it takes tensors alone, so that a licence has no place in a pickle of it
}
_WITH_DECODER = ("minkowski", "convnextv2")
_CONTAINER = {"official": "model", "minkowski": "model", "timm": "state_dict", "mmpretrain": "state_dict"}


class Converted(tuple[Path, ...]):
    """The files that a conversion wrote.

    code: one line of Python that makes `model` of them in the project that they are for.
    """

    code: str

    def __new__(cls, files: Iterable[Path], code: str) -> Converted:
        """Make it of both."""
        made = super().__new__(cls, files)
        made.code = code
        return made


@verb()
def convert(source: str | Path, to: Target, out: StrPath, *, weights: Weights = "average") -> Converted:
    """Write weights in another layout; type and head are kept, and no value changes.

    What a layout cannot hold is left out with a warning: a decoder in all but "minkowski" and "convnextv2"; the
    final norm and the head in "minkowski"; the range of values of images, or what the numbers of bands mean, in all
    but "convnextv2".

    source: as `load` takes it.  to: "official" (.pt), "minkowski" (.pt as official pre-training writes it, without
    final norm and head), "timm" (.safetensors or .pth, for `checkpoint_path`), "mmpretrain" (.pth), "convnextv2"
    (.safetensors of ours), "torchvision" (.safetensors, V1), or "transformers", for which `out` is a new folder with
    config.json and preprocessor_config.json.  weights: of a file that holds both, the averaged or the plain ones.

    A licence goes along, in the metadata that each of them has. Raises UserError for an unknown layout, a target that
    exists or an ending that the layout does not have, and as `load`; RunFailedError if the target cannot be written.
    """
    held, out = read(source, weights=weights), Path(out)
    _check(held, to, out)
    if held.beside_encoder() and to not in _WITH_DECODER:
        warnings.warn(f"the decoder of {held.path.name} is left out: {to} has no place for it", Notice, 2)
    if to != "convnextv2" and (said := _values(held.info.preprocessing)):
        warnings.warn(f"{held.path.name} takes {said}, {to} has no place for them", Notice, 2)
    out.parent.mkdir(parents=True, exist_ok=True)
    return Converted(_write(held, to, out), loading_code(held, to, str(out)))


def _values(preprocessing: Preprocessing) -> str:
    """What other values than bytes a model takes, and how they become its input; empty for pictures of 8 bits."""
    if preprocessing.bands is not None:
        bands, count = preprocessing.bands, len(preprocessing.mean)
        named = ", ".join(map(bands.name, range(min(count, 20)))) + (", ..." if count > 20 else "")
        return f"numbers of {count} bands ({named}): clip each to its limits, subtract its mean and divide by its std"
    if preprocessing.value_range is not None:
        low, high = preprocessing.value_range
        return f"values from {low:g} to {high:g} (--value-range): scale images to 0..255 from these"
    return ""


def _write(held: ModelFile, to: Target, out: Path) -> list[Path]:
    if to == "convnextv2":
        held.write(out)
        return [out]
    tensors = _layout(held, to)
    if to == "transformers":
        return _write_transformers(held, tensors, out)
    licence = held.info.licence or ""
    if out.suffix == ".safetensors":
        metadata = {"format": "pt"} | ({"licence": licence} if licence else {})
        write_atomically(out, lambda partial: save_file(tensors, partial, metadata))
    else:
        content = {_CONTAINER[to]: tensors} | ({"licence": licence} if licence else {})

        def save(partial: Path) -> None:
            with partial.open("wb") as file:  # given a path, torch would write its random name into the file
                torch.save(content, file)

        write_atomically(out, save)
    return [out]


def _check(held: ModelFile, to: Target, out: Path) -> None:
    config = held.info.architecture
    if not isinstance(config, EncoderConfig):
        raise UserError(f"{held.path} holds a {config.name}, not a ConvNeXt: only these are converted")
    if out.exists():
        raise UserError(f"{out} exists: name a new --out")
    if to == "transformers" and out.suffix in _ENDINGS["timm"]:
        raise UserError(f"--out {out}: {to} is written to a folder, whose name has no such ending")
    allowed = _ENDINGS.get(to, (".pt", ".pth"))
    if to != "transformers" and out.suffix not in allowed:
        raise UserError(f"--out {out}: {to} is written to a name that ends in {' or '.join(allowed)}")
    if to == "torchvision" and config.grn:
        raise UserError(f"{held.path} holds a V2, which torchvision does not have: use --to timm")
    if to == "minkowski" and not config.grn:
        raise UserError(f"{held.path} holds a V1, which official pre-training does not support: use --to official")


def _layout(held: ModelFile, to: str) -> dict[str, Tensor]:
    encoder, decoder = held.encoder(), {}
    if to == "minkowski":
        encoder = {name: tensor for name, tensor in encoder.items() if not name.startswith(("norm.", "head."))}
        if held.info.classes:
            message = f"head and final norm of {held.path.name} are left out: {to} has no place for them"
            warnings.warn(message, Notice, 4)
        decoder = held.beside_encoder()
    return writer(to, held.info.architecture.name).write(encoder) | decoder


def _write_transformers(held: ModelFile, tensors: Mapping[str, Tensor], folder: Path) -> list[Path]:
    info = held.info
    architecture = info.architecture
    assert isinstance(architecture, EncoderConfig)
    kind, family = ("ConvNextV2" if architecture.grn else "ConvNext"), architecture.family
    has_head = bool(info.classes)
    if not has_head:
        tensors = {name.removeprefix(f"{family}."): tensor for name, tensor in tensors.items()}
    config: dict[str, Any] = {
        "architectures": [f"{kind}ForImageClassification" if has_head else f"{kind}Model"],
        "model_type": family,
        "depths": list(architecture.depths),
        "hidden_sizes": list(architecture.dims),
        "num_channels": architecture.in_chans,
        "patch_size": architecture.stem_stride,
        "image_size": info.image_size,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,  # of the final norm only; the default there differs from ours
        "drop_path_rate": 0.0,
        "torch_dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
    }
    if has_head:
        config["id2label"] = {str(index): name for index, name in enumerate(info.classes)}
        config["label2id"] = {name: index for index, name in enumerate(info.classes)}
        if info.multi_label:
            config["problem_type"] = "multi_label_classification"
    crop = info.crop_pct or 0.875
    processor = {
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": info.image_size},
        "crop_pct": crop,
        "resample": 3,
        "do_rescale": info.preprocessing.bands is None,
        "rescale_factor": 1 / info.preprocessing.scale,
        "do_normalize": True,
        "image_mean": list(info.preprocessing.mean),
        "image_std": list(info.preprocessing.std),
    }
    metadata = {"format": "pt"} | ({} if info.licence is None else {"licence": info.licence})
    unfinished = partial_name(folder)
    unfinished.mkdir()
    try:
        write_atomically(unfinished / "model.safetensors", lambda partial: save_file(dict(tensors), partial, metadata))
        write_text_atomically(unfinished / "preprocessor_config.json", json.dumps(processor, indent=1) + "\n")
        write_text_atomically(unfinished / "config.json", json.dumps(config, indent=1) + "\n")
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return [folder / name for name in ("model.safetensors", "config.json", "preprocessor_config.json")]
