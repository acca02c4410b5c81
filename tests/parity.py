"""The parity rule, and random weights that hide nothing: what every comparison of two results uses."""

import torch

# Largest difference allowed, relative to the largest absolute value of the reference.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-2}


def difference(result, reference):
    """The largest absolute difference over the largest absolute value of the reference."""
    assert result.shape == reference.shape
    result, reference = result.detach().double(), reference.detach().double()
    return ((result - reference).abs().max() / reference.abs().max()).item()


@torch.no_grad()
def randomise(module):
    """Every parameter random, GRN's and LayerScale's included, with activations near one."""
    for name, parameter in module.named_parameters():
        if name.endswith("weight") and parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5)
        elif name.endswith("weight"):
            parameter.normal_(1, 0.2)
        else:
            parameter.normal_(0, 0.3)
    return module
