"""Repositories of the Hugging Face hub: `hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION`."""

from __future__ import annotations

import re
from pathlib import Path

from convnextv2.errors import UserError
from convnextv2.weights.shards import SHARDS
from convnextv2.weights.sources.sidecar import CARD, CONFIG, PROCESSOR, WEIGHTS

_ADDRESS = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_BESIDE = (CONFIG, PROCESSOR, CARD)


def is_address(source: str) -> bool:
    """Whether it begins as an address of the hub."""
    return source.startswith("hf:")


def parts(source: str) -> tuple[str, str | None]:
    """Return OWNER/NAME of an address, and its revision if it names one. Raises UserError for an invalid address."""
    match = _ADDRESS.fullmatch(source)
    if match is None:
        raise UserError(
            f"{source} is not a repository of the hub: give hf:OWNER/NAME, as hf:timm/convnextv2_tiny.fcmae"
        )
    return match[1], match[2]


def fetch_folder(source: str) -> Path:
    """Return the local folder with a repository's weights, config and card, downloaded if they are not there yet.

    Safetensors are preferred to a pickle. Raises UserError if the address is invalid, the library is not installed,
    the hub cannot be reached, or the repository has no weights.
    """
    repository, revision = parts(source)
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"{source} needs the hub's library: pip install 'convnextv2[hub]'") from None
    try:
        for weights in WEIGHTS:
            wanted = [weights, *_BESIDE, *([SHARDS[weights]] if weights in SHARDS else [])]
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
            if (folder / weights).is_file():
                return folder
    except Exception as error:  # the library's and its network library's own
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{source} cannot be fetched ({said}); download it by hand and give the folder") from error
    raise UserError(f"{source} has neither model.safetensors nor pytorch_model.bin, nor parts of them")
