"""The folder of a new run: nothing in it is overwritten, and nothing is written through a link. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from convnextv2.atomic import is_leftover
from convnextv2.errors import UserError
from convnextv2.text import shown

# What a run writes before it has its config.json: a folder that holds no more never was a run.
BEFORE_CONFIG = {"log.txt", ".lock", ".config.json.partial"}
FILES = ("config.json", "metrics.jsonl", "log.txt", ".lock", "report.html", "bad_images.json", "scores.json")
FOLDERS = ("checkpoints", "pictures", "tensorboard")


def was_begun(run: Path) -> bool:
    """Whether a run was started in this folder, even if it ended before its first step; or it holds other files."""
    return run.is_dir() and any(run.iterdir())


def open_new(run: Path, *, resume: bool | None = None) -> None:
    """Make a new folder. Raises UserError if it holds anything: nothing is ever overwritten.

    resume: for the folder of a run, whether the user requested to resume it, and there is none; None for any other.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_written(run, error) from error
    check_new(run, resume=resume)


def check_new(run: Path, *, resume: bool | None = None) -> None:
    """Check that a folder, if it is there, holds nothing; as `open_new` does."""
    if not run.exists():
        return
    try:
        refuse_links(run)
        held = {path.name for path in run.iterdir() if not is_leftover(path)} - BEFORE_CONFIG
    except OSError as error:
        raise _cannot_be_written(run, error) from error
    if held and resume:
        raise UserError(f"--resume: {run} holds files but no config.json, so it is no run; name a new --out")
    if held:
        hint = "add --resume to continue that run, or " if "config.json" in held and resume is not None else ""
        raise UserError(f"--out {run} is not empty; {hint}name a new folder")


def _cannot_be_written(run: Path, error: OSError) -> UserError:
    return UserError(f"--out {run}: {error.strerror or error}; name a new folder that can be written")


def refuse_links(run: Path) -> None:
    """Raise UserError if anything that a run writes is a link, or no file or folder as it should be.

    The folder itself may be a link. What lies behind a link inside may be somebody else's.
    """
    below = [run / "checkpoints" / name for name in ("latest", "best")]
    for path in [*(run / name for name in (*FILES, *FOLDERS)), *below]:
        if path.is_symlink():
            raise UserError(
                f"{path} is a link to {shown(path.readlink())}, and a run writes only into its own folder: put the "
                f"{'folder' if path.is_dir() else 'file'} itself there (--out may be a link to a folder elsewhere)"
            )
        if path.exists() and not (path.is_dir() if path.name in FOLDERS else path.is_file()):
            raise UserError(
                f"{path} is no {'folder' if path.name in FOLDERS else 'file'}: move it, or name a new --out"
            )
