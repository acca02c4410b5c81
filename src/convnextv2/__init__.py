"""ConvNeXt V2 and FCMAE: pre-train on your own pictures, exactly and fast."""

__version__ = "0.1.0.dev0"
