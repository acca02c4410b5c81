"""A class for each pixel: from mask files, colours or COCO's polygons to integers."""
