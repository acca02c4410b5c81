"""Evaluate frozen features."""
