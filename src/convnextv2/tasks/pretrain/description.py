"""What the report says of a pre-training run."""

from __future__ import annotations

from convnextv2.records import RunDescription


def describe_run(model: str, images: int) -> RunDescription:
    """model: name of the encoder.  images: how many it learns from."""
    return RunDescription(
        headline=f"pretrain {model}",
        learns=f"on {images:,} images",
        loss="The mean squared error over masked patches. It is about 1.0 for a model that knows nothing, as each "
        "patch is predicted normalised by its own mean and deviation.",
        samples={
            "reconstruction": "Each row: an image, what the encoder sees of it, what is predicted, and the prediction "
            "with the visible patches pasted in."
        },
        commands=(
            ("convnextv2 embed --run {run} DIR --out features.npy", "Extract one feature vector per image in DIR."),
            (
                "convnextv2 reconstruct --run {run} IMAGE",
                "Mask most of an image of your own and see what the model makes of the rest.",
            ),
        ),
    )
