"""`convnextv2 push`"""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter


def push(
    source: str,
    *,
    to: str,
    licence: Annotated[str | None, Parameter(name=["--licence", "--license"])] = None,
    relicense: bool = False,
    private: bool = False,
    dry_run: bool = False,
    weights: Literal["average", "plain"] = "average",
) -> None:
    """Upload a model and its card to the Hugging Face Hub.

    convnextv2 push run --to OWNER/NAME --licence apache-2.0 --dry-run

    It is then a source like any other: --init hf:OWNER/NAME.

    Parameters
    ----------
    source
        A run, a file or folder in any layout we know, or published weights (convnextv2 zoo).
    to
        OWNER/NAME; it is made where it does not exist.
    licence
        Under which the weights may be used, as apache-2.0; needed unless the weights carry one.
    relicense
        That licence is yours to give, although the weights were made from some under another, or an unknown one.
    private
        Make a new repository private.
    dry_run
        Show what would be sent, and send nothing.
    weights
        average: the EMA if the file has one; plain: the weights of the last step.
    """
    from convnextv2.text import printable_lines, shown
    from convnextv2.verbs.push import push as run

    done = run(source, to, licence=licence, relicense=relicense, private=private, dry_run=dry_run, weights=weights)
    for name, size in done.files.items():
        print(f"{shown(name)}  {size:,} bytes")
    if done.address:
        print(f"sent to {done.address}")
    else:
        print(f"nothing was sent to {done.repository}; its README.md would be:\n\n{printable_lines(done.card)}")
