"""Files from the network into a folder of the user's, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from convnextv2.atomic import flush_to_disk, write_text_atomically
from convnextv2.errors import LoadError, RunFailedError, UserError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there, and with all there will be where the server says so."""

_BLOCK = 2**20
_TIMEOUT = 30.0
_TRIES = 5
_PAUSE = 1.0


def cache_folder() -> Path:
    """Where downloads are kept: $CONVNEXTV2_CACHE, else convnextv2 in $XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("CONVNEXTV2_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "convnextv2"


def fetch(url: str, *, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """The file of an address in the cache, downloaded where it is not there yet.

    The hash of what came first is kept beside it (`NAME.sha256`), and the file must have it ever after. A download
    that was cut off goes on where it stopped, also in another process; nobody sees half a file.

    Raises UserError where the server cannot be reached or has no such file, with what to do by hand; LoadError where
    the file has changed since it first came.
    """
    folder = folder or cache_folder()
    target = folder / url.rpartition("/")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not target.is_file():
                partial = target.with_name(f"{target.name}.part")
                _download(url, partial, target, progress)
                flush_to_disk(partial)
                _check(partial, target)
                partial.replace(target)
                partial.with_name(f"{partial.name}.version").unlink(missing_ok=True)
                flush_to_disk(folder)
                return target
            _check(target, target)
    except (OSError, RunFailedError) as error:
        raise UserError(
            f"{folder} cannot keep downloads ({error}); set CONVNEXTV2_CACHE to a folder that can"
        ) from error
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold the download of one file among processes."""
    with target.with_name(f".{target.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check(file: Path, target: Path) -> None:
    """The hash of `file` is the one recorded for `target`, or is recorded now."""
    recorded, found = target.with_name(f"{target.name}.sha256"), _sha256(file)
    if not recorded.is_file():
        write_text_atomically(recorded, f"{found}  {target.name}\n")
        return
    expected = recorded.read_text(encoding="utf-8", errors="replace").split()[:1]
    if expected != [found]:
        file.unlink() if file != target else None
        raise LoadError(
            f"{target.name}: its SHA-256 is {found}, not {' '.join(expected)} as when it first came, so it is damaged "
            f"or was replaced. Remove {target} to fetch it again, and {recorded.name} beside it if you trust a change"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _download(url: str, partial: Path, target: Path, progress: Progress | None) -> None:
    """Fill `partial`, from where it ends; it is given up after several tries in a row that bring nothing."""
    reason, tries = "", 0
    while tries < _TRIES:
        tries += 1
        there = _size(partial)
        try:
            if _go_on(url, partial, progress):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing lies beyond what is there: it is whole, or it is of another file
                if error.headers.get("Content-Range") == f"bytes */{there}":
                    return
                partial.unlink(missing_ok=True)
                reason = "the file there has changed"
            elif error.code == 429 or error.code >= 500:
                reason = f"the server says {error.code} {error.reason}"
                time.sleep(_PAUSE * tries)
            else:
                raise UserError(f"{url}: the server says {error.code} {error.reason}; check the address") from error
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            reason = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
        if _size(partial) > there:
            tries = 0
    raise UserError(
        f"{url} cannot be reached ({' '.join(reason.split())}). On a machine without network, put the file there "
        f"yourself: {target}"
    )


def _size(partial: Path) -> int:
    return partial.stat().st_size if partial.is_file() else 0


def _go_on(url: str, partial: Path, progress: Progress | None) -> bool:
    """Append what the server still has to give; whether that was all."""
    version = partial.with_name(f"{partial.name}.version")  # what the server called the file when we began
    began = version.read_text(encoding="latin-1") if version.is_file() else ""
    there = partial.stat().st_size if began and partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-", "If-Range": began} if there else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        if response.status == 206 and not re.match(rf"bytes {there}-", response.headers.get("Content-Range", "")):
            raise HTTPException(f"the server sent {response.headers.get('Content-Range')} in place of the rest")
        if response.status != 206:  # from the beginning
            there = 0
            write_text_atomically(version, response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
        whole = _whole(response, there)
        with partial.open("ab" if there else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                there += len(block)
                if progress is not None:
                    progress(there, whole)
    return whole is None or there == whole


def _whole(response: HTTPResponse, there: int) -> int | None:
    """Bytes of the whole file, where the server says."""
    length = response.headers.get("Content-Length", "")
    return there + int(length) if length.isdigit() else None
