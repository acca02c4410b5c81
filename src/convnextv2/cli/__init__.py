"""The command `convnextv2`: one file a verb. Each parses, calls one function below, and prints."""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings

from cyclopts import App
from rich.console import Console

import convnextv2
from convnextv2.errors import ConvNeXtV2Error, RunFailedError, StoppedError, UserError

app = App(
    name="convnextv2",
    help="Pre-train ConvNeXt V2 on your own pictures, and see what it learned.",
    version=convnextv2.__version__,
    version_flags=["--version"],
    help_format="plaintext",
    result_action="return_value",
)
_LEARN = ("pretrain", "classify")
_JUDGE = ("evaluate", "predict", "reconstruct", "embed", "probe")
_WEIGHTS = ("zoo", "convert", "push")
for _verb in (*_LEARN, *_JUDGE, *_WEIGHTS, "demo"):
    app.command(f"convnextv2.cli.{_verb}:{_verb}", name=_verb)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0; 1 a run failed; 2 a mistake in the command; 128 + signal when stopped.

    `--debug` anywhere shows the traceback behind an error's one line.
    """
    tokens = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in tokens
    warnings.showwarning = _note
    try:
        app([token for token in tokens if token != "--debug"], exit_on_error=True, print_error=True)
    except ConvNeXtV2Error as error:
        if debug:
            raise
        _say(error)
        sys.exit(_exit_code(error))
    except OSError as error:  # a full disk, a folder that may not be written, a file that went away
        if debug:
            raise
        _say(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def named(settings: type) -> set[str]:
    """The settings that the command line names, also where it names the default value."""
    flags = (argument.partition("=")[0] for argument in sys.argv if argument.startswith("--"))
    names = {flag.removeprefix("--").replace("-", "_") for flag in flags}
    known = (field.name for field in dataclasses.fields(settings))
    return {name for name in known if name in names or f"no_{name}" in names}


def _say(error: Exception) -> None:
    if isinstance(error, StoppedError) and os.environ.get("RANK", "0") != "0":
        return  # said once for all processes
    text = f"convnextv2: {error}".encode(errors="backslashreplace").decode()
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def _note(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """A warning as one line, once for all processes; of others than ours with its kind."""
    if os.environ.get("RANK", "0") != "0":
        return
    kind = "" if category.__module__.startswith("convnextv2") else f"{category.__name__}: "
    Console(stderr=True, highlight=False).print(f"note: {kind}{message}", markup=False, soft_wrap=True)


def _exit_code(error: ConvNeXtV2Error) -> int:
    match error:
        case StoppedError():
            return 128 + error.signal
        case UserError():
            return 2
        case RunFailedError() | _:
            return 1
