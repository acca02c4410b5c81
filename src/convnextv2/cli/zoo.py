"""`convnextv2 zoo`"""

from __future__ import annotations


def zoo(*names: str) -> None:
    """List published weights, or download them.

    convnextv2 zoo
    convnextv2 zoo convnextv2_tiny.fcmae convnextv2_tiny.fcmae_ft_in1k

    top-1 is the published accuracy on ImageNet-1K; what the licences ask stands below the list. Weights of V2 are
    CC-BY-NC 4.0: not for commercial use.

    Parameters
    ----------
    names
        What to download into $CONVNEXTV2_CACHE (by default ~/.cache/convnextv2), or from the hub into its own cache.
    """
    from rich.console import Console
    from rich.table import Table

    from convnextv2.text import shown
    from convnextv2.verbs.zoo import COLUMNS
    from convnextv2.verbs.zoo import zoo as run
    from convnextv2.weights.sources.published import HOST

    found = run(*names)
    if names:
        for file in found.files.values():
            print(shown(file))
        return
    table = Table(*COLUMNS, "file", box=None)
    for entry, row in zip(found, found.rows(), strict=True):
        table.add_row(*row, entry.url.removeprefix(f"{HOST}/"))
    table.caption_justify = "left"
    table.caption = "\n".join([f"files of {HOST}/", *found.terms])
    Console(width=None if Console().is_terminal else 200).print(table)
