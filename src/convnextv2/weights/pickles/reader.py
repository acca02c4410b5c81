"""The tensors of a pickle, and inert stand-ins for all else in it."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnextv2.weights.pickles.allowed import REBUILD
from convnextv2.weights.pickles.pickle_scan import GETATTR, modern

_STORAGES = {
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Double": torch.float64,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_KINDS = {f"torch.{name}Storage": dtype for name, dtype in _STORAGES.items()} | {
    "torch.storage.UntypedStorage": torch.uint8
}


class StandIn(dict[Any, Any]):
    """In place of an object of any class but a tensor: made of anything, and empty but for items that are set.

    So a dictionary of a class of its own is read as one. named: the class, as the file has it.
    """

    named = ""

    def __init__(self, *given: object, **by_name: object) -> None:
        super().__init__()

    def __new__(cls, *given: object, **by_name: object) -> StandIn:
        """Take any arguments, and keep none."""
        return super().__new__(cls)

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it may be a key, or in a set)
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __setstate__(self, state: object) -> None:
        """Keep nothing of an object's attributes."""

    def append(self, item: object) -> None:
        """Keep nothing of a list of another class."""

    def extend(self, items: object) -> None:
        """Keep nothing of a list of another class."""

    def add(self, item: object) -> None:
        """Keep nothing of a set of another class."""


def read_pickle(path: Path) -> Any:
    """Return what a `torch.save` file holds: its tensors (any shapes), mapped from the file, in plain containers.

    No name in the file is looked up, so nothing of it can run: tensors are made by functions here, and an instance of
    any other class is a `StandIn`. pickle_scan.py has seen the instructions before.

    Raises all kinds of exceptions for a damaged file.
    """
    archive: Any = torch._C.PyTorchFileReader(str(path))
    if archive.has_record("byteorder") and archive.get_record("byteorder") != b"little":
        raise ValueError("it was written on a machine of another byte order")
    return _Reader(archive, path).load()


class _Reader(pickle.Unpickler):
    """An unpickler that finds nothing but functions of this module."""

    def __init__(self, archive: Any, path: Path) -> None:
        super().__init__(io.BytesIO(archive.get_record("data.pkl")))
        self._archive = archive
        self._file: Any = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)

    def find_class(self, module: str, name: str, /) -> Any:
        """Return what stands for a name; it is not looked up."""
        full = modern(module, name)
        if full in _FUNCTIONS:
            return _FUNCTIONS[full]
        if full in _KINDS:
            return _KINDS[full]
        dtype = getattr(torch, name, None) if module == "torch" else None
        return dtype if isinstance(dtype, torch.dtype) else _stand_in(full)

    def persistent_load(self, pid: Any, /) -> Tensor:
        """Return a storage as a tensor of one axis, mapped from the file: it cannot be larger than that."""
        _, dtype, key, _, count = pid
        record, size = f"data/{key}", count * dtype.itemsize
        if not isinstance(dtype, torch.dtype) or not 0 <= size <= self._archive.get_record_size(record):
            raise ValueError(f"record {record!r} does not hold {count} numbers of {dtype}")
        begin = self._archive.get_record_offset(record)
        return torch.empty(0, dtype=dtype).set_(self._file[begin : begin + size])


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _typed_tensor(storage: Tensor, offset: int, size: Any, stride: Any, _: object, __: object, dtype: Any) -> Tensor:
    return storage.view(dtype).as_strided(size, stride, offset)


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


def _attribute(of: object, name: str) -> type[StandIn]:
    return _stand_in(name)


def _stand_in(name: str) -> type[StandIn]:
    return type("StandIn", (StandIn,), {"named": name})


_FUNCTIONS = {
    f"{REBUILD}tensor_v2": _tensor,
    f"{REBUILD}tensor_v3": _typed_tensor,
    f"{REBUILD}parameter": _parameter,
    f"{REBUILD}parameter_with_state": _parameter,
    GETATTR: _attribute,
}
