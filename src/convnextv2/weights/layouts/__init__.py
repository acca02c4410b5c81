"""How each project names and shapes the tensors of a ConvNeXt."""
