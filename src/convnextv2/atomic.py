"""Files that are either the old or the new one, never a torn one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from convnextv2.errors import RunFailedError, UserError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, flush it to disk, then rename it over `path`.

    Permissions follow the umask. A partial file is removed on failure.

    Raises:
        RunFailedError: the disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        write(partial)
        partial.chmod(mode)
        flush_to_disk(partial)
        os.replace(partial, path)
        flush_to_disk(path.parent)
    except UserError:  # of `write`: the file is another process's
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        # torch.save reports a full disk with a bare RuntimeError, safetensors with an exception of its own.
        if isinstance(error, OSError) or type(error) is RuntimeError or type(error).__name__ == "SafetensorError":
            raise RunFailedError(f"{path} could not be written: {' '.join(str(error).split())[:200]}") from error
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8: afterwards the file holds all of it, or what it held before."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def flush_to_disk(path: Path) -> None:
    """fsync a file, or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_room(*files: Path) -> None:
    """Check that new files can be written, all in the folder of the first, which is made.

    Raises:
        UserError: one of them exists, or the folder cannot be made.
    """
    for file in files:
        if file.exists():
            raise UserError(f"{file} is there already, and nothing is overwritten: remove it, or name another --out")
    try:
        files[0].parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {files[0]}: {error.strerror or error}; name a file in a folder that can be written"
        ) from error
