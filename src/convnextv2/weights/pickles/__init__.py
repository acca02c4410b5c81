"""Tensors out of files of `torch.save`, without running any code."""
