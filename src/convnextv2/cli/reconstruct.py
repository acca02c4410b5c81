"""`convnextv2 reconstruct`"""

from __future__ import annotations

from pathlib import Path

from convnextv2.cli.early import check_use


def reconstruct(
    *images: Path, run: str, out: Path = Path("reconstructions"), mask_ratio: float | None = None, seed: int = 0
) -> None:
    """Mask most of an image and show what a pre-trained model fills in.

    Each PNG shows the image, what is visible, the prediction, and the prediction with the visible patches pasted in.

    Parameters
    ----------
    images
        Image files, folders of them, or text files of paths; each image gives one PNG.
    run
        The folder of a pre-training run, or a model.safetensors of one.
    out
        Folder for the PNG files.
    mask_ratio
        Share of the patches that is masked; by default as trained.
    seed
        Of the masks.
    """
    check_use(run)
    from convnextv2.tasks.pretrain.reconstruct import reconstruct as run_reconstruct
    from convnextv2.text import printable

    run_reconstruct(run, images, out, mask_ratio=mask_ratio, seed=seed, say=lambda line: print(printable(line)))
