"""Small folders of images with masks, drawn so that a class is a colour."""

import json

import numpy as np
from PIL import Image

COLOURS = np.array([(40, 60, 200), (200, 60, 40), (60, 190, 60)], np.uint8)
NAMES = ["sky", "brick", "grass"]


def draw(seed, size=(48, 40)):
    """An image (H, W, 3) and its classes (H, W), 0 to 2: a background, a rectangle and a disc, with noise."""
    random, (width, height) = np.random.default_rng(seed), size
    classes = np.zeros((height, width), np.uint8)
    top, left = random.integers(0, height // 2), random.integers(0, width // 2)
    classes[top : top + height // 2, left : left + width // 3] = 1
    y, x = np.mgrid[:height, :width]
    middle = random.integers(8, height - 8), random.integers(8, width - 8)
    classes[(y - middle[0]) ** 2 + (x - middle[1]) ** 2 < 64] = 2
    noise = random.integers(-20, 20, (height, width, 3))
    return np.clip(COLOURS[classes] + noise, 0, 255).astype(np.uint8), classes


def write_scenes(root, counts, *, size=(48, 40), save=None, classes_file=True):
    """Write `{split: number}` of images and masks below `root`; `""` for no split. save: (classes, path) to a file."""
    seed = 0
    for split, count in counts.items():
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image, classes = draw(seed, size)
            seed += 1
            Image.fromarray(image).save(root / split / "images" / f"{number:03}.png")
            path = root / split / "masks" / f"{number:03}.png"
            Image.fromarray(classes).save(path) if save is None else save(classes, path)
    if classes_file:
        (root / "classes.json").write_text(json.dumps({"classes": NAMES, "palette": COLOURS.tolist(), "ignore": 9}))
    return root
