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
    from convnextv2.weights.licences import terms
    from convnextv2.weights.load import fetch_published
    from convnextv2.weights.sources.download import cache_folder
    from convnextv2.weights.sources.published import HOST, PUBLISHED, published

    entries = [published(name) for name in names]
    for entry in entries:
        print(shown(fetch_published(entry)))
    if not names:
        table = Table("name", "stage", "pixels", "top-1, %", "licence", "here", "file", box=None)
        for entry in PUBLISHED.values():
            here = "yes" if entry.file and (cache_folder() / entry.file).is_file() else ""
            top1 = "" if entry.top1 is None else f"{entry.top1:.1f}"
            path = entry.url.removeprefix(f"{HOST}/")
            table.add_row(entry.name, entry.stage, str(entry.image_size), top1, entry.licence, here, path)
        licences = dict.fromkeys(entry.licence for entry in PUBLISHED.values())
        asked = [f"{licence}: {terms(licence)}" for licence in licences if terms(licence)]
        table.caption_justify = "left"
        table.caption = "\n".join([f"files of {HOST}/", *asked])
        Console(width=None if Console().is_terminal else 200).print(table)
