"""Finding image files and decoding them."""
