"""Texts of the report of a pre-training run."""

from __future__ import annotations

from convnextv2.records import Baseline, RunDescription, SampleInfo

_CAPTION = """\
Each row is one image. Original: as the model would see it whole. Masked: what it did see; the blank patches were \
masked. Predicted: the model's output. Pasted: the output for the masked patches set into the original.

In "predicted", the patches that were visible carry no loss: the model was never trained on them, so \
whatever shows in them means nothing. Look at "pasted". If each patch's target is normalised (the usual setting), its \
average and contrast are taken from the original, and only the pattern inside is the model's: blurry patterns that \
carry edges and shading on across patch borders are good; the same smooth blot in every patch is not (or not yet)."""


def describe_run(model: str, images: int, *, normalised: bool = True) -> RunDescription:
    """Describe a pre-training run for its report.

    model: name of the encoder.  images: number of training images.  normalised: whether each patch is predicted
    normalised by its own mean and deviation.
    """
    return RunDescription(
        headline=f"Pre-training of {model}",
        learns=f"on {images:,} images",
        loss="The loss is the squared error in the masked patches only. If each patch is predicted normalised by its "
        "own mean and deviation (the usual setting), a model that knows nothing scores about 1.",
        samples=(SampleInfo("reconstruction", _CAPTION, columns=("original", "masked", "predicted", "pasted")),),
        # A prediction of zero everywhere, which is each patch's mean.
        baselines={"train": Baseline(1.0)} if normalised else {},
        commands=(
            (
                "convnextv2 probe --run {run} --data LABELLED",
                "Was it worth it? A linear probe and k-NN on labelled images, beside random weights; added to this "
                "page.",
            ),
            (
                "convnextv2 classify --init {run} --data LABELLED --out OUT",
                "Train a classifier that starts from these weights; few labels are enough to try.",
            ),
            ("convnextv2 embed --run {run} DIR --out features.npy", "Extract one feature vector per image in DIR."),
            (
                "convnextv2 reconstruct --run {run} IMAGE",
                "Mask most of an image of your own and see what the model predicts from the rest.",
            ),
        ),
    )
