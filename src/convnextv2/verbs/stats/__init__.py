"""`stats`: what the numbers of images mean, band by band."""
