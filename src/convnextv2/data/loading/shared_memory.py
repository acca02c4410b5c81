"""Memory that processes of a machine share and that vanishes with them."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TOKEN = 16


@dataclass(frozen=True)
class Address:
    """Where another process of this machine finds the memory: a process that has it, its descriptor, what it holds."""

    process: int
    descriptor: int
    token: bytes


class SharedMemory:
    """Bytes, zeros at first, that forked processes share with this one, and others by their `address`.

    They belong to an anonymous file: nothing of them lies in a folder, such as a container's small /dev/shm, and they
    are gone as soon as the last process that holds them is, however it ends. Bytes that were never written take no
    memory.
    """

    def __init__(self, file: int, size: int) -> None:
        """Map a file of `_TOKEN` + `size` bytes; see `create` and `join`."""
        weakref.finalize(self, os.close, file)
        self._file = file
        self._map = np.frombuffer(mmap.mmap(file, _TOKEN + size), np.uint8)
        self._threads = threading.Lock()

    @staticmethod
    def create(size: int) -> SharedMemory:
        """Return new memory of `size` bytes. Raises OSError if the system refuses it."""
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("convnextv2")
        else:
            with tempfile.TemporaryFile() as temporary:
                file = os.dup(temporary.fileno())
        os.ftruncate(file, _TOKEN + size)
        os.pwrite(file, os.urandom(_TOKEN), 0)
        return SharedMemory(file, size)

    @staticmethod
    def join(address: Address) -> SharedMemory:
        """Return the memory of another process that is still there; it need not be a relative.

        Raises OSError if it cannot be reached from here, such as from another container.
        """
        file = os.open(f"/proc/{address.process}/fd/{address.descriptor}", os.O_RDWR | os.O_CLOEXEC)
        if os.pread(file, _TOKEN, 0) != address.token:
            os.close(file)
            raise FileNotFoundError(f"process {address.process} is another one here")
        return SharedMemory(file, os.fstat(file).st_size - _TOKEN)

    @property
    def address(self) -> Address:
        """What `join` needs, in another process, while this process lives."""
        return Address(os.getpid(), self._file, self._map[:_TOKEN].tobytes())

    @property
    def bytes(self) -> NDArray[np.uint8]:
        """The memory, uint8 (size,), to read and to write."""
        return self._map[_TOKEN:]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all others out, in any process; the system lets them in if this process dies inside."""
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
