"""How many modules a setting visits on its way from the call of `classify` to the end of the first training step.

    PYTHONPATH=src python benchmarks/visits.py

Trains the smallest classifier for one epoch on 16 drawn images, in this process, with `smoothing`, `lr` and `mixup` of
values that nothing else has, and watches every call of a function of the package (sys.setprofile): from the call until
the first step has been made (`_step` of engine/loop.py has returned; that of the measurement before it does not count).
A module is entered if one of its functions is called; what only runs when a module is loaded or a class is made, and
methods that dataclasses generate, do not count. It is entered with a setting in hand if at such a call an argument or a
variable of an enclosing function is the value, or an entry of it is, or an attribute of a record of ours, or one of a
record in that (so `self.settings.lr` is in hand). Prints JSON, the functions called as module:name:
{"all": [function], "with": {setting: [function]}}.
`structure.py` makes its last rows of it.
"""

from __future__ import annotations

import inspect
import json
import random
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from PIL import Image

from convnextv2 import classify

PACKAGE = "convnextv2"
VALUES: dict[str, Any] = {"smoothing": 0.0612345, "lr": 0.000123456, "mixup": 0.7654321}
SETTINGS: dict[str, Any] = {
    "recipe": "small-data",
    "model": "convnextv2_atto",
    "depths": (1, 1, 1, 1),
    "dims": (8, 8, 8, 8),
    "image_size": 16,
    "stem_stride": 1,
    "batch_size": 4,
    "micro_batch": 4,
    "epochs": 1,
    "precision": "fp32",
    "device": "cpu",
    "workers": 0,
}
_DEEP = 2  # attributes of attributes


class Watch:
    """Notes which functions are called, and with which settings in hand, until the first step is done."""

    def __init__(self) -> None:
        self.entered: set[str] = set()
        self.carried: dict[str, set[str]] = {name: set() for name in VALUES}
        self.done = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """A profile function, see sys.setprofile."""
        module, code = str(frame.f_globals.get("__name__", "")), frame.f_code
        if self.done or not module.startswith(f"{PACKAGE}.") or not _is_written(code):
            return
        if event == "return" and module == f"{PACKAGE}.engine.loop" and code.co_name == "_step":
            self.done = True
            sys.setprofile(None)
        if event == "call":
            called = f"{module.removeprefix(f'{PACKAGE}.')}:{code.co_qualname}"
            self.entered.add(called)
            count = code.co_argcount + code.co_kwonlyargcount
            names = [*code.co_varnames[:count], *_rest(code, count), *code.co_freevars]
            values = list(_values(list(map(frame.f_locals.get, names)), _DEEP))
            for name, value in VALUES.items():
                if any(value == each for each in values):
                    self.carried[name].add(called)


def _is_written(code: CodeType) -> bool:
    """Whether it is a function that somebody wrote: no body of a module or of a class, nothing generated."""
    return bool(code.co_flags & inspect.CO_OPTIMIZED) and not code.co_filename.startswith("<")


def _rest(code: CodeType, count: int) -> tuple[str, ...]:
    """The names of *args and **kwargs."""
    stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_varnames[count : count + stars]


def _values(values: list[Any], deep: int) -> Iterator[float]:
    """All numbers in some values: they themselves, entries, and attributes of objects of ours."""
    for value in values:
        if type(value) is float:
            yield value
        elif isinstance(value, Mapping):
            yield from (each for each in value.values() if type(each) is float)
        elif isinstance(value, tuple | list):
            yield from (each for each in value if type(each) is float)
        elif deep and type(value).__module__.startswith(f"{PACKAGE}.") and not isinstance(value, type):
            yield from _values(list(getattr(value, "__dict__", {}).values()), deep - 1)


def draw(folder: Path) -> Path:
    """16 images of noise, 20 pixels on a side, in two class folders."""
    noise = random.Random(0)
    for number in range(16):
        target = folder / "ab"[number % 2] / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", (20, 20), noise.randbytes(1200)).save(target)
    return folder


def main() -> None:
    """Print what was seen."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        data = draw(Path(folder) / "images")
        threading.setprofile(watch)
        sys.setprofile(watch)
        classify(data, Path(folder) / "run", **SETTINGS, **VALUES)
    assert watch.done
    carried = {name: sorted(modules) for name, modules in watch.carried.items()}
    print(json.dumps({"all": sorted(watch.entered), "with": carried}))


if __name__ == "__main__":
    main()
