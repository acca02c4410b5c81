"""The command `convnextv2`: one file a verb. Each parses, calls one function below, and prints."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
import warnings
from types import FrameType

from cyclopts import App, CycloptsError, CycloptsPanel, Group
from rich.console import Console

import convnextv2
from convnextv2.cli import options
from convnextv2.errors import ConvNeXtV2Error, RunFailedError, StoppedError, UserError, spelled_for_command
from convnextv2.text import printable, printable_lines

VERBS = {  # title of the group: verb, and the first line of its docstring, which is only imported when it runs
    "Learn": {
        "stats": "Compute what the numbers of images mean, band by band, for --stats of a training.",
        "pretrain": "Pre-train on a folder of images, without labels (FCMAE).",
        "classify": "Train a classifier from pre-trained weights, or from scratch.",
        "segment": "Train a segmenter, a class for each pixel, from pre-trained weights or from scratch.",
    },
    "Use and evaluate": {
        "evaluate": "Evaluate a trained model on labelled images.",
        "predict": "Run a trained model on images and write its predictions.",
        "probe": "Evaluate frozen features: linear probe and k-NN.",
        "embed": "Extract one feature vector per image.",
        "reconstruct": "Mask most of an image and show what a pre-trained model fills in.",
    },
    "Weights": {
        "zoo": "List published weights, or download them.",
        "convert": "Convert weights to the layout of another project.",
        "push": "Upload a model and its card to the Hugging Face Hub.",
    },
    "Try": {"demo": "Pre-train on handwritten digits and see what is learned, in four minutes."},
}


def build_app(verb: str | None = None) -> App:
    """The command with all its verbs, none of which is imported yet.

    verb: the one that will run. Its own docstring is its help; the others show their line of `VERBS`.
    """
    app = App(
        name="convnextv2",
        help="Pre-train ConvNeXt V2 on your own images, and see what it learned.",
        version=convnextv2.__version__,
        version_flags=["--version"],
        help_format="plaintext",
        result_action="return_value",
    )
    for place, (title, verbs) in enumerate(VERBS.items()):
        group = Group(title, sort_key=place)
        for number, (name, line) in enumerate(verbs.items()):
            app.command(
                f"convnextv2.cli.{name}:{name}",
                name=name,
                help=None if name == verb else line,
                group=group,
                sort_key=number,
                help_epilogue=options.EPILOGUE if name in ("pretrain", "classify", "segment") else None,
            )
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0; 1 a run failed; 2 a mistake in the command; 128 + signal when stopped.

    arguments: by default those of this process.

    `--debug` anywhere shows the traceback behind an error's one line; `--help-all` every option of a verb.
    """
    given = sys.argv[1:] if arguments is None else arguments
    tokens, debug = given, "--debug" in given
    options.show_all = options.HELP_ALL in tokens
    tokens = ["--help" if token == options.HELP_ALL else token for token in tokens if token != "--debug"]
    tokens = options.separated(tokens)
    warnings.showwarning = _note
    in_charge = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, _interrupt) if in_charge else None
    with spelled_for_command(shlex.join(["convnextv2", *given])):
        _run(tokens, debug)
    if before is not None:  # after an error the process is about to end, and stays deaf
        signal.signal(signal.SIGINT, before)


def _run(tokens: list[str], debug: bool) -> None:
    try:
        build_app(tokens[0] if tokens else None)(tokens, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        text = printable_lines(str(error))
        Console(stderr=True).print(CycloptsPanel(text))
        sys.exit(2)
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


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first Ctrl-C ends the command; more of them do not disturb its end, which is quiet."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(error: Exception) -> None:
    from convnextv2.engine.launcher import is_first

    if isinstance(error, ConvNeXtV2Error) and error.everywhere and not is_first():
        return  # said once for all processes
    text = printable(f"convnextv2: {error}")
    with contextlib.suppress(OSError):  # the terminal may be gone
        Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def _note(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """A warning as one line, once for all processes; of others than ours with its kind."""
    from convnextv2.engine.launcher import is_first

    if not is_first():
        return
    kind = "" if category.__module__.startswith("convnextv2") else f"{category.__name__}: "
    Console(stderr=True, highlight=False).print(printable(f"note: {kind}{message}"), markup=False, soft_wrap=True)


def _exit_code(error: ConvNeXtV2Error) -> int:
    match error:
        case StoppedError():
            return 128 + error.signal
        case UserError():
            return 2
        case RunFailedError() | _:
            return 1
