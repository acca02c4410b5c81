"""Images a second from folders of 8-bit RGB files: two versions of the source, taking turns in one run.

    git worktree add ../before v0.1
    python benchmarks/image_loading.py --before ../before/src --after src --data imagenet1k_sample_256

The images of --data are written anew as JPEG, PNG, TIFF (plain, LZW, deflate, JPEG), WebP and BMP. Each version decodes
in a process of its own; the two take turns, round by round, so that a machine that gets busy slows both alike. Where
the heap puts libjpeg's buffers changes its speed by up to half, the same in every round of a process: so both start
anew --starts times, each time with another amount of memory taken first. A line per format: the median processor time
of a round per image, the median of the ratios of neighbouring rounds with its quartiles, and whether the pixels are
equal byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processor import processor

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("jpg", {"quality": 90}),
    "JPEG, header only": ("jpg", {"quality": 90}),
    "PNG": ("png", {"compress_level": 3}),
    "WebP": ("webp", {"quality": 80}),
    "BMP": ("bmp", {}),
    "TIFF": ("tif", {}),
    "TIFF, LZW": ("tif", {"compression": "tiff_lzw"}),
    "TIFF, deflate": ("tif", {"compression": "tiff_adobe_deflate"}),
    "TIFF, JPEG": ("tif", {"compression": "jpeg"}),
}

WORKER = """
import hashlib, json, random, sys, time
from pathlib import Path
from convnextv2.data.files.decode import decode, header_pixels
chance = random.Random(int(sys.argv[1]))
held = [bytearray(chance.randrange(1, 4096)) for _ in range(chance.randrange(1, 2000))]
del held[::2]
for line in sys.stdin:
    folder, what = json.loads(line)
    paths = sorted(Path(folder).iterdir())
    act = header_pixels if what == "header" else decode
    start = time.process_time()
    for path in paths:
        act(path)
    seconds = time.process_time() - start
    digest = hashlib.sha256(b"".join(decode(path).tobytes() for path in paths)).hexdigest() if what == "hash" else ""
    print(json.dumps([seconds / len(paths), digest]), flush=True)
"""


class Version:
    """A process that decodes with one version of the source."""

    def __init__(self, source: Path, seed: int) -> None:
        environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WORKER, str(seed)]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def seconds(self, folder: Path, what: str) -> tuple[float, str]:
        """Return the seconds per image of one pass over a folder, and a hash of all pixels if `what` is "hash"."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([str(folder), what]) + "\n")
        stdin.flush()
        taken, digest = json.loads(stdout.readline())
        return taken, digest


def write(images: list[Path], folder: Path, extension: str, options: dict[str, Any]) -> None:
    """Write images anew in another format."""
    from PIL import Image

    folder.mkdir()
    for number, path in enumerate(images):
        with Image.open(path) as image:
            image.convert("RGB").save(folder / f"{number:04}.{extension}", **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the folder `src` of one version")
    parser.add_argument("--after", type=Path, required=True, help="that of the other")
    parser.add_argument("--data", type=Path, required=True, help="a folder of images")
    parser.add_argument("--images", type=int, default=60, help="how many of them, spread over the folder")
    parser.add_argument("--rounds", type=int, default=3, help="of each start, after one that is not counted")
    parser.add_argument("--starts", type=int, default=12)
    args = parser.parse_args()
    found = sorted(path for path in args.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise SystemExit(f"no JPEG or PNG in {args.data}: give a folder of them as --data")
    images = [found[number * len(found) // args.images] for number in range(min(args.images, len(found)))]
    print(json.dumps(processor() | {"images": len(images), "rounds": args.rounds, "starts": args.starts}))
    print(f"{'format':20}{'before':>10}{'after':>10}{'after / before':>18}   pixels")
    with tempfile.TemporaryDirectory() as folder:
        for name, (extension, options) in FORMATS.items():
            place = Path(folder) / name.replace(", ", "-").replace(" ", "-")
            write(images, place, extension, options)
            what = "header" if "header" in name else "decode"
            rounds, same = [], True
            for start in range(args.starts):
                before, after = Version(args.before.resolve(), 2 * start), Version(args.after.resolve(), 2 * start + 1)
                same = same and before.seconds(place, "hash")[1] == after.seconds(place, "hash")[1]
                for number in range(args.rounds):
                    order = (before, after) if number % 2 else (after, before)
                    taken = {version: version.seconds(place, what)[0] for version in order}
                    rounds.append((taken[before], taken[after]))
                before.close()
                after.close()
            ratios = [two / one for one, two in rounds]
            low, middle, high = statistics.quantiles(ratios, n=4)
            one, two = (1000 * statistics.median(column) for column in zip(*rounds, strict=True))
            ratio = f"{middle:.3f} ({low:.2f}-{high:.2f})"
            print(f"{name:20}{one:7.2f} ms{two:7.2f} ms{ratio:>18}   {'same' if same else 'DIFFERENT'}", flush=True)


if __name__ == "__main__":
    main()
