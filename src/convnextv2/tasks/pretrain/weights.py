"""A masked autoencoder that goes on from weights that exist."""

from __future__ import annotations

from convnextv2.tasks.pretrain.fcmae import FCMAE
from convnextv2.weights.adapt import adapt
from convnextv2.weights.model_file import PRETRAINED, ModelFile
from convnextv2.weights.strict import check


def fill(model: FCMAE, init: ModelFile, inflate: str = "repeat") -> str:
    """Load a file's encoder, and its decoder where it has one that fits; says in words what was done.

    The stem is adapted to other channels and another stride; the head of a classifier is left out. All of the encoder
    loads, or nothing does: LoadError lists what is missing, unexpected or misshaped.
    """
    encoder = {name: tensor for name, tensor in init.encoder().items() if not name.startswith("head.")}
    encoder, said = adapt(encoder, in_chans=model.encoder.in_chans, stem_stride=model.encoder.stem_stride, how=inflate)
    target = model.state_dict()
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    needed = {name: tuple(tensor.shape) for name, tensor in target.items() if name.startswith("encoder.")}
    advice = "Leave out --model and the options of its shape, so that the file decides"
    check(needed, tensors, what=f"{init.file} (a {init.architecture['model']})", advice=advice)
    decoder = {} if init.format != PRETRAINED else {n: t for n, t in init.tensors.items() if n not in tensors}
    own = {name: tensor.shape for name, tensor in target.items() if name not in tensors}
    if decoder and {name: tensor.shape for name, tensor in decoder.items()} == own:
        model.load_state_dict(tensors | decoder)
        said.insert(0, f"encoder and decoder from {init.file}")
    else:
        model.load_state_dict(target | tensors)
        what = "its decoder is of another shape and left out" if decoder else "a new decoder"
        said.insert(0, f"encoder from {init.file}; {what}")
    said += [f"licence of these weights: {init.metadata['licence']}"] if "licence" in init.metadata else []
    return "; ".join(said)
