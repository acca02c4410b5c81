"""Draw a terminal with commands and what they printed, as docs/terminal.svg.

python scripts/terminal_picture.py --out docs/terminal.svg "convnextv2 probe --run run --data images/" probe.txt ...

Arguments come in pairs: a command, and a file with what it printed. Of a long output the first and last lines are kept,
with a line of dots between them.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 118  # characters of a line
FIRST, LAST = 9, 5  # lines of a long output that are kept

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, required=True, help="the picture")
parser.add_argument("pairs", nargs="+", help="a command and the file with its output, and so on")
asked = parser.parse_args()

console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"))  # noqa: SIM115 (as long as the process)
for number, (command, file) in enumerate(zip(asked.pairs[::2], asked.pairs[1::2], strict=True)):
    lines = Path(file).read_text().splitlines()
    if len(lines) > FIRST + LAST:
        lines = [*lines[:FIRST], "...", *lines[-LAST:]]
    console.print(Text("\n" * bool(number) + "$ ", "bold green") + Text(command, "bold"))
    for line in lines:
        console.print(Text(line))
console.print()  # the frame cuts through the last line
picture = console.export_svg(title="convnextv2", font_aspect_ratio=0.61)
picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # nothing is fetched: the reader's own font
asked.out.write_text(picture)
