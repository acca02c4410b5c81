"""The decoders of image files, one file each; `table.py` says which one reads what, by content."""
