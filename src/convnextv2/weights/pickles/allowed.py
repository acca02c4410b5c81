"""What a pickle of weights may import: tensors, and what people keep beside them.

Nothing here decides what runs: `reader.py` calls no name of any pickle. A file that would do harm in the hands of
another reader is still refused and named, as nothing that holds weights calls `os.system`. So:

- a name of Python's standard library is allowed if it stands for data (a path, a date, a `Namespace`);
- a name of any other package is allowed as a class whose instances are made without calling it, which is how pickle
  keeps nearly all objects, and where it is called, if it is spelt like a class (`Mode("train")`, an enumeration);
- a function is allowed if it is known to rebuild data (a NumPy scalar, a tensor), and refused otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from convnextv2.weights.pickles.pickle_scan import GETATTR, Imports

REBUILD = "torch._utils._rebuild_"
_TENSORS = {f"{REBUILD}{what}" for what in ("tensor_v2", "tensor_v3", "parameter", "parameter_with_state")}
_NUMPY = ("numpy.core", "numpy._core")  # before NumPy 2, and from there on

_DATA = {
    *_TENSORS,
    *("torch.Size", "torch.device", "torch.serialization._get_layout"),
    *(f"collections.{name}" for name in ("OrderedDict", "defaultdict", "Counter", "deque")),
    *("argparse.Namespace", "types.SimpleNamespace", "functools.partial"),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *("zoneinfo.ZoneInfo", "zoneinfo.ZoneInfo._unpickle"),
    *("uuid.UUID", "uuid.SafeUUID", "decimal.Decimal", "fractions.Fraction"),
    *(f"pathlib.{at}{name}Path" for at in ("", "_local.") for name in ("", "Posix", "Windows", "Pure")),
    *(f"pathlib.{at}Pure{name}Path" for at in ("", "_local.") for name in ("Posix", "Windows")),
    *(f"builtins.{name}" for name in ("set", "frozenset", "complex", "slice", "range")),
    *("_codecs.encode", "copyreg._reconstructor", GETATTR),  # of bytes, of old classes, of a method as a value
    *("numpy.dtype", "numpy.ndarray"),
    *(f"{core}.multiarray.{name}" for core in _NUMPY for name in ("scalar", "_reconstruct")),
    *(f"{core}.numeric._frombuffer" for core in _NUMPY),
    *(f"numpy.random._pickle.__{name}_ctor" for name in ("generator", "bit_generator", "randomstate")),
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
}
"""What may be called."""

_TYPES = {f"builtins.{name}" for name in ("object", "int", "float", "bool", "str", "bytes", "list", "dict", "tuple")}
"""What may be named, as the type of a setting is."""


def refused(found: Imports) -> list[str]:
    """Return what of a pickle's imports is not data, in order."""
    return sorted({*_refused(found)})


def _refused(found: Imports) -> Iterator[str]:
    for name in found.called - _DATA:
        last = name.rpartition(".")[2]
        is_class = last[:1].isupper() and not last.isupper() and "." in name
        if not is_class or _is_standard(name):
            yield name
    for name in found.named - _DATA - _TYPES:
        if _is_standard(name) and not name.startswith("typing."):
            yield name


def _is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names
