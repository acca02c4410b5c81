"""Download files into a folder of the user's, complete or not at all."""

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
"""Called with the bytes received so far, and with the total if the server reports it."""

_BLOCK = 2**20
_TIMEOUT = 30.0
_TRIES = 5
_PAUSE = 1.0


def cache_folder() -> Path:
    """Return where downloads are kept: $CONVNEXTV2_CACHE, else convnextv2 in $XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("CONVNEXTV2_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "convnextv2"


def fetch(url: str, *, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """Return the cached file of an address, downloaded if it is not there yet.

    The hash of the first download is kept beside it (`NAME.sha256`), and the file must match it from then on. An
    interrupted download resumes where it stopped, also in another process; a partial file is never visible.

    Raises UserError if the server cannot be reached or has no such file, with what to do by hand; LoadError if the
    file has changed since its first download.
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
            f"{folder} cannot be used for downloads ({error}); set CONVNEXTV2_CACHE to a folder that can"
        ) from error
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold the download of one file among processes."""
    with target.with_name(f".{target.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check(file: Path, target: Path) -> None:
    """Compare the hash of `file` with the one recorded for `target`, or record it."""
    recorded, found = target.with_name(f"{target.name}.sha256"), _sha256(file)
    if not recorded.is_file():
        write_text_atomically(recorded, f"{found}  {target.name}\n")
        return
    expected = recorded.read_text(encoding="utf-8", errors="replace").split()[:1]
    if expected != [found]:
        file.unlink() if file != target else None
        raise LoadError(
            f"{target.name}: its SHA-256 is {found}, not {' '.join(expected)} as at its first download, so it is "
            f"damaged or was replaced. Remove {target} to fetch it again, and {recorded.name} beside it if you trust "
            "the change"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _download(url: str, partial: Path, target: Path, progress: Progress | None) -> None:
    """Fill `partial`, from where it ends; give up after several tries in a row without progress."""
    reason, tries = "", 0
    while tries < _TRIES:
        tries += 1
        there = _size(partial)
        try:
            if _go_on(url, partial, progress):
                return
            reason = "the connection was interrupted"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # no bytes beyond those received: the file is complete, or it is another one
                if error.headers.get("Content-Range") == f"bytes */{there}":
                    return
                partial.unlink(missing_ok=True)
                reason = "the file there has changed"
            elif error.code == 429 or error.code >= 500:
                reason = f"the server returned {error.code} {error.reason}"
                time.sleep(_PAUSE * tries)
            else:
                raise UserError(f"{url}: the server returned {error.code} {error.reason}; check the address") from error
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
    """Append the rest of the file; return whether it is complete."""
    version = partial.with_name(f"{partial.name}.version")  # the server's version of the file when the download began
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
    """Return the bytes of the whole file, if the server reports them."""
    length = response.headers.get("Content-Length", "")
    return there + int(length) if length.isdigit() else None
