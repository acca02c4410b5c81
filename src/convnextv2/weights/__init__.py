"""Dictionaries of tensors in and out of files."""
