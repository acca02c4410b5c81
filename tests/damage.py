"""Damage to the bytes of files."""

import struct
import zlib

import numpy as np


def bomb(rng: np.random.Generator) -> bytes:
    """A PNG whose header claims between a million and 3.6 thousand million pixels."""
    width, height = (int(side) for side in rng.integers(1_001, 60_001, 2))
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(bytes(1_000_000), 9)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, pixels)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def mutate(kind: str, data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    if kind == "flipped bits":
        # Half of them in the first 200 bytes, where the structure of most formats lies.
        reach = min(200, len(data)) if rng.random() < 0.5 else len(data)
        for bit in rng.integers(0, 8 * reach, rng.integers(1, 20)):
            changed[bit // 8] ^= 1 << (bit % 8)
    elif kind == "cut short":
        del changed[int(rng.integers(1, len(data))) :]
    elif kind == "another's header":
        length = int(rng.integers(4, 64))
        changed[:length] = other[:length]
    elif kind == "zeroed block":
        start = int(rng.integers(0, len(data)))
        changed[start : start + 64] = bytes(len(changed[start : start + 64]))
    elif kind == "random bytes":
        # Half of them after a genuine first sixteen bytes, so that a decoder takes them up.
        kept = data[:16] if rng.random() < 0.5 else b""
        return kept + rng.bytes(int(rng.integers(1, 4_000)))
    elif kind == "empty":
        return b""
    elif kind == "bomb":
        return bomb(rng)
    return bytes(changed)
