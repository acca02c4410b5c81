"""`convnextv2 embed`"""

from __future__ import annotations

from pathlib import Path


def embed(data: Path, *, run: Path, out: Path, batch_size: int = 64, workers: int = 1, device: str = "auto") -> None:
    """Turn every picture into the model's pooled features, with file names.

    Parameters
    ----------
    data
        A folder of pictures, or a text file of paths.
    run
        The folder of a run of pretrain or classify, or its model.safetensors.
    out
        features.npy (and features.names.txt with the names, line by line) or features.csv (name, then the features).
    batch_size
        Pictures at a time.
    workers
        Processes that read pictures.
    device
        auto, cpu, cuda or cuda:N.
    """
    from convnextv2.text import shown
    from convnextv2.verbs.embed import embed_folder

    done = embed_folder(run, data, out, batch_size=batch_size, workers=workers, device=device)
    skipped = f"; {len(done.bad)} files could not be read (named above)" if done.bad else ""
    for name, reason in done.bad:
        print(f"skipped {shown(name)}: {reason}")
    print(
        f"{len(done.names)} pictures x {done.features.shape[1]} features in {', '.join(map(str, done.files))}{skipped}"
    )
