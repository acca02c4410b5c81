"""The version, in a file that any room may read."""

__version__ = "0.1.0.dev0"
