"""The one table of published weights: ConvNeXt V2 (Woo et al. 2023) and V1 (Liu et al. 2022), by timm's tag names.

Sources: the official repositories' tables of models (top-1), the addresses of their files, timm's tags. The encoders of
DINOv3 (Simeoni et al. 2025) and EUPE (Zhu et al. 2026), both V1, come from timm's repositories of them.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convnextv2.errors import UserError
from convnextv2.weights.licences import DINOV3, EUPE

Stage = Literal["fcmae", "distilled", "in1k", "in22k", "in22k-in1k"]
ENCODERS: tuple[Stage, ...] = ("fcmae", "distilled")
"""Stages without a head; the others are classifiers."""

HOST = "https://dl.fbaipublicfiles.com/convnext"
V2_LICENCE, V1_LICENCE = "CC-BY-NC-4.0", "MIT"


@dataclass(frozen=True)
class Published:
    """One published file.

    name: timm's tag.  stage: how it was trained, see `ENCODERS`.  image_size: pixels on a side.  top1: published
    accuracy on ImageNet-1K, per cent; None for an encoder and for 21,841 classes.  url: of the file, or hf:OWNER/NAME.
    file: its name if people have it by hand; empty if it has none of its own.
    """

    name: str
    stage: Stage
    image_size: int
    top1: float | None
    url: str
    licence: str
    file: str

    @property
    def model(self) -> str:
        """The size's name in `models.SIZES`."""
        return self.name.partition(".")[0]

    @property
    def crop_pct(self) -> float | None:
        """Of the published evaluation: a centre crop below 384 pixels; None, the whole image, from there on."""
        if self.stage == "distilled":
            return 1.0
        return 0.875 if self.image_size < 384 else None

    @property
    def data(self) -> str:
        """The images that it was trained on last."""
        return {"in22k": "ImageNet-22K", "distilled": "LVD-1689M"}.get(self.stage, "ImageNet-1K")


_IN1K = {
    "atto": 76.7,
    "femto": 78.5,
    "pico": 80.3,
    "nano": 81.9,
    "tiny": 83.0,
    "base": 84.9,
    "large": 85.8,
    "huge": 86.3,
}
_IN22K_IN1K = {
    ("nano", 224): 82.1,
    ("nano", 384): 83.4,
    ("tiny", 224): 83.9,
    ("tiny", 384): 85.1,
    ("base", 224): 86.8,
    ("base", 384): 87.7,
    ("large", 224): 87.3,
    ("large", 384): 88.2,
    ("huge", 384): 88.7,
    ("huge", 512): 88.9,
}
_V1_IN1K = {"tiny": 82.1, "small": 83.1, "base": 83.8, "large": 84.3}
_V1_IN1K_384 = {"base": 85.1, "large": 85.5}
_V1_IN22K = ("tiny", "small", "base", "large", "xlarge")
_V1_IN22K_IN1K = {
    ("tiny", 224): 82.9,
    ("tiny", 384): 84.1,
    ("small", 224): 84.6,
    ("small", 384): 85.8,
    ("base", 224): 85.8,
    ("base", 384): 86.8,
    ("large", 224): 86.6,
    ("large", 384): 87.5,
    ("xlarge", 224): 87.0,
    ("xlarge", 384): 87.8,
}


_DINOV3 = {"tiny": "21b726bb", "small": "296db49d", "base": "801f2ba9", "large": "61fa432d"}  # of the file's hash
_EUPE = ("tiny", "small", "base")


def _v2(size: str, tag: str, stage: Stage, pixels: int, top1: float | None, path: str) -> Published:
    what = {"pt_only": "1k_224_fcmae", "im1k": "1k_224_ema", "im22k": f"22k_{pixels}_ema"}[path]
    name, file = f"convnextv2_{size}.{tag}", f"convnextv2_{size}_{what}.pt"
    return Published(name, stage, pixels, top1, f"{HOST}/convnextv2/{path}/{file}", V2_LICENCE, file)


def _v1(size: str, tag: str, stage: Stage, pixels: int, top1: float | None, what: str) -> Published:
    file = f"convnext_{size}_{what}.pth"
    return Published(f"convnext_{size}.{tag}", stage, pixels, top1, f"{HOST}/{file}", V1_LICENCE, file)


def _distilled(size: str, tag: str, licence: str, file: str = "") -> Published:
    """An encoder distilled at 256 pixels, from timm's repository; the originals are given to those who ask."""
    name = f"convnext_{size}.{tag}_lvd1689m"
    return Published(name, "distilled", 256, None, f"hf:timm/{name}", licence, file)


def _size(pixels: int) -> str:
    """What timm's tags add for another size than 224."""
    return "" if pixels == 224 else f"_{pixels}"


def _all() -> tuple[Published, ...]:
    found = [_v2(size, "fcmae", "fcmae", 224, None, "pt_only") for size in _IN1K]
    found += [_v2(size, "fcmae_ft_in1k", "in1k", 224, top1, "im1k") for size, top1 in _IN1K.items()]
    for (size, pixels), top1 in _IN22K_IN1K.items():
        found.append(_v2(size, f"fcmae_ft_in22k_in1k{_size(pixels)}", "in22k-in1k", pixels, top1, "im22k"))
    found += [_v1(size, "fb_in1k", "in1k", 224, top1, "1k_224_ema") for size, top1 in _V1_IN1K.items()]
    # timm has no tag for these two: their names follow its others.
    found += [_v1(size, "fb_in1k_384", "in1k", 384, top1, "1k_384") for size, top1 in _V1_IN1K_384.items()]
    found += [_v1(size, "fb_in22k", "in22k", 224, None, "22k_224") for size in _V1_IN22K]
    for (size, pixels), top1 in _V1_IN22K_IN1K.items():
        file = f"22k_1k_{pixels}" + ("_ema" if size == "xlarge" else "")
        found.append(_v1(size, f"fb_in22k_ft_in1k{_size(pixels)}", "in22k-in1k", pixels, top1, file))
    for size, part in _DINOV3.items():
        found.append(_distilled(size, "dinov3", DINOV3, f"dinov3_convnext_{size}_pretrain_lvd1689m-{part}.pth"))
    found += [_distilled(size, "eupe", EUPE) for size in _EUPE]
    return tuple(found)


PUBLISHED: dict[str, Published] = {entry.name: entry for entry in _all()}


def published(name: str) -> Published:
    """Return the entry of a name. Raises UserError for an unknown one, with the nearest."""
    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, PUBLISHED, n=3, cutoff=0.5)
        meant = f"did you mean {', '.join(near)}?" if near else "`convnextv2 zoo` lists them"
        raise UserError(f"no published weights are called {name!r}; {meant}")
    return PUBLISHED[name]


def check_weights(source: str | Path) -> None:
    """Check that a source of weights is there, or may be: a path, a name of published weights, an address of the hub.

    Raises UserError. Nothing is read or fetched.
    """
    text, path = str(source), Path(source)
    if path.exists() or text.startswith("hf:"):
        return
    size = text.partition(".")[0]
    if any(entry.model == size for entry in PUBLISHED.values()) and not text.endswith((".pt", ".pth", ".safetensors")):
        if text != size:
            published(text)
        return
    raise nothing_at(path)


def nothing_at(path: Path) -> UserError:
    """Return the error of a place where there are no weights."""
    hint = "name the --out folder of a run, or a file of weights"
    if (path.parent / "checkpoints").is_dir():
        hint = f"{path.parent} is a run: name that, or a file in its checkpoints"
    return UserError(f"no run and no file at {path}; {hint}")


def of_folder(folder: Path) -> Published | None:
    """Return the published weights of a folder named as their repository, or in the hub's own cache; else None."""
    cached = [
        part.removeprefix("models--").replace("--", "/", 1) for part in folder.parts if part.startswith("models--")
    ]
    names = [*cached, f"timm/{folder.name}", f"facebook/{folder.name}"]
    return next((found for found in map(of_repository, names) if found is not None), None)


def of_repository(repository: str) -> Published | None:
    """Return the published weights that a hub repository holds in timm's or transformers' layout; None for others."""
    owner, _, name = repository.partition("/")
    if owner == "timm":
        return PUBLISHED.get(name)
    if owner != "facebook":
        return None
    if match := re.fullmatch(r"dinov3-convnext-([a-z]+)-pretrain-lvd1689m", name):
        return PUBLISHED.get(f"convnext_{match[1]}.dinov3_lvd1689m")
    if match := re.fullmatch(r"EUPE-ConvNeXt-([TSB])", name):
        size = next(size for size in _EUPE if size[0].upper() == match[1])
        return PUBLISHED.get(f"convnext_{size}.eupe_lvd1689m")
    match = re.fullmatch(r"convnextv2-([a-z]+)-(1k|22k)-(\d+)", name)
    if match is None:
        return None
    size, data, pixels = match.groups()
    tag = "fcmae_ft_in1k" if data == "1k" else "fcmae_ft_in22k_in1k"
    return PUBLISHED.get(f"convnextv2_{size}.{tag}{_size(int(pixels))}")
