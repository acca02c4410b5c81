"""`convnextv2 demo`"""

from __future__ import annotations

from pathlib import Path


def demo(*, out: Path = Path("demo"), minutes: float = 2.0) -> None:
    """Pre-train on handwritten digits and see what is learned, in four minutes.

    Parameters
    ----------
    out
        A new folder for the images and the run.
    minutes
        Time for pre-training.
    """
    from rich.console import Console
    from rich.table import Table

    from convnextv2.text import shown
    from convnextv2.verbs.demo import demo as run_demo

    result = run_demo(out, minutes=minutes)
    table = Table(*result.columns)
    for row in result.rows:
        table.add_row(*row)
    Console().print(table)
    print(f"open {shown(result.report)}")
