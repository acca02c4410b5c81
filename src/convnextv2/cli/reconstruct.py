"""`convnextv2 reconstruct`"""

from __future__ import annotations

from pathlib import Path


def reconstruct(
    *images: Path, run: Path, out: Path = Path("reconstructions"), mask_ratio: float | None = None, seed: int = 0
) -> None:
    """Hide most of a picture and let a pre-trained model fill it in: original, masked, predicted, pasted.

    Parameters
    ----------
    images
        Pictures; each gives one PNG.
    run
        The folder of a pre-training run, or its model.safetensors.
    out
        Folder for the PNG files.
    mask_ratio
        Part that is hidden; by default as in training.
    seed
        Of the masks.
    """
    from convnextv2.tasks.pretrain.reconstruct import reconstruct as run_reconstruct

    for path in run_reconstruct(run, images, out, mask_ratio=mask_ratio, seed=seed):
        print(path)
