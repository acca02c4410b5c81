"""Labelled images: class folders, tables, splits."""
