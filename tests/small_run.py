"""A run that takes a second, as settings and as command-line flags."""

# A model of 20 thousand parameters on cells of 8 pixels: a step takes milliseconds.
SMALL = {
    "model": "convnextv2_atto",
    "depths": (1, 1, 1, 1),
    "dims": (8, 8, 16, 16),
    "decoder_dim": 16,
    "image_size": 32,
    "stem_stride": 1,
    "batch_size": 8,
    "precision": "fp32",
    "workers": 1,
    "pictures": 0,
}


def small_flags(**changes):
    """SMALL as command-line flags."""
    flags = []
    for name, value in (SMALL | changes).items():
        values = value if isinstance(value, tuple) else (value,)
        flags += [f"--{name.replace('_', '-')}", *map(str, values)]
    return flags
