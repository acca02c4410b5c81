"""Files that are either the old or the new one, never a torn one, and never somebody else's behind a link."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from convnextv2.errors import RunFailedError, UserError

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{12}\.partial")


def write_atomically(path: Path, write: Callable[[Path], object], *, partial: Path | None = None) -> None:
    """Let `write` fill a file beside `path`, flush it to disk, then rename it over `path`.

    Permissions follow the umask. A partial file is removed on failure. If `path` is a link, the link is replaced.

    partial: the file to fill, if other processes must know it; by default a new one of a random name (`tidy`).

    Raises:
        RunFailedError: the disk is full, or the folder cannot be written.
    """
    shared, partial = partial is not None, partial or partial_name(path)
    try:
        if shared:
            open_to_append(partial).close()
        else:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        mode = partial.stat().st_mode
        write(partial)
        partial.chmod(mode)
        flush_to_disk(partial)
        os.replace(partial, path)
        flush_to_disk(path.parent)
    except BaseException as error:
        if not (shared and isinstance(error, UserError)):  # of `write`: the file is another process's
            with contextlib.suppress(OSError):
                partial.unlink()
        # torch.save reports a full disk with a bare RuntimeError, safetensors with an exception of its own.
        if isinstance(error, OSError) or type(error) is RuntimeError or type(error).__name__ == "SafetensorError":
            raise RunFailedError(f"{path} could not be written: {' '.join(str(error).split())[:200]}") from error
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8: afterwards the file holds all of it, or what it held before."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def partial_name(path: Path) -> Path:
    """Return a random name beside `path` for what becomes it once it is whole."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.partial")


def tidy(folder: Path) -> None:
    """Remove the partial files that killed processes left in a folder, which no other process may be writing."""
    for path in folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ():
        if is_leftover(path):
            path.unlink()


def is_leftover(path: Path) -> bool:
    """Whether it is a partial file of ours, which is being written, or was when its process was killed."""
    return _LEFTOVER.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def open_to_append(path: Path) -> TextIO:
    """Open a text file for appending, made if need be; never another file behind a link.

    A file that has a second name (`cp -al`) becomes a copy of its own first.

    Raises UserError for a symbolic link and for what is no file; OSError if it cannot be written.
    """
    file = open_unshared(path)
    if os.fstat(file.fileno()).st_nlink > 1:
        file.close()
        write_atomically(path, lambda partial: shutil.copyfile(path, partial))
        file = open_unshared(path)
    return file


def open_unshared(path: Path) -> TextIO:
    """The same, but leave a second name of the file as it is: a lock is one for all names."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise UserError(_not_a_file(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(_not_a_file(path))
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="surrogateescape")


def _not_a_file(path: Path) -> str:
    what = f"a link to {os.readlink(path)}" if path.is_symlink() else "no file"
    return f"{path} is {what}, and nothing is written through it: remove it, or name another --out"


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
