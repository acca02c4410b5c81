"""Repositories of the Hugging Face hub: `hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION`."""

from __future__ import annotations

import re
from pathlib import Path

from convnextv2.errors import UserError

_ADDRESS = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_WANTED = ("config.json", "model.safetensors")


def is_address(source: str) -> bool:
    """Whether it begins as an address of the hub."""
    return source.startswith("hf:")


def fetch_folder(source: str) -> Path:
    """The local folder with a repository's config.json and weights, downloaded where they are not there yet.

    Safetensors are preferred to a pickle. Raises UserError where the address is none, the library is not installed,
    the hub cannot be reached, or the repository has no weights.
    """
    match = _ADDRESS.fullmatch(source)
    if match is None:
        raise UserError(f"{source} is no repository of the hub: give hf:OWNER/NAME, as hf:timm/convnextv2_tiny.fcmae")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"{source} needs the hub's library: pip install 'convnextv2[hub]'") from None
    repository, revision = match.groups()
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(_WANTED)))
        if not (folder / "model.safetensors").is_file():
            allowed = ["config.json", "pytorch_model.bin"]
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=allowed))
    except Exception as error:  # the library's and its network library's own
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{source} cannot be fetched ({said}); download it by hand and name the folder") from error
    if not any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin")):
        raise UserError(f"{source} has neither model.safetensors nor pytorch_model.bin")
    return folder
