"""HEIC and AVIF files of libheif and libavif, with boxes changed by rule."""

from __future__ import annotations

import struct

import numpy as np


def boxes(data: bytes, start: int, end: int) -> list[tuple[bytes, int, int]]:
    """(type, first byte, end) of the boxes between two places, headers included."""
    found = []
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        found.append((kind, start, start + size))
        start += size
    return found


def with_properties(data: bytes, added: list[bytes]) -> bytes:
    """`data` with boxes put behind the others in `ipco`, and said of item 1.

    Where the pixels lie (`iloc`, with offsets of 4 bytes) is moved by what was added.
    """
    top = {kind: (a, b) for kind, a, b in boxes(data, 0, len(data))}
    meta = {k: (a, b) for k, a, b in boxes(data, top[b"meta"][0] + 12, top[b"meta"][1])}
    inner = {k: (a, b) for k, a, b in boxes(data, meta[b"iprp"][0] + 8, meta[b"iprp"][1])}
    count = len(boxes(data, inner[b"ipco"][0] + 8, inner[b"ipco"][1]))
    ipco = data[inner[b"ipco"][0] + 8 : inner[b"ipco"][1]] + b"".join(added)
    ipma = bytearray(data[inner[b"ipma"][0] + 8 : inner[b"ipma"][1]])
    assert ipma[0] == 0 and not ipma[3] & 1 and struct.unpack_from(">H", ipma, 8)[0] == 1
    ipma[10] += len(added)
    place = 11 + ipma[10] - len(added)
    ipma[place:place] = bytes(0x80 | (count + 1 + n) for n in range(len(added)))
    iprp = box(b"iprp", box(b"ipco", ipco) + box(b"ipma", bytes(ipma)))
    grown = len(iprp) - (meta[b"iprp"][1] - meta[b"iprp"][0])
    out = bytearray()
    for kind, (a, b) in meta.items():
        out += iprp if kind == b"iprp" else data[a:b]
        if kind == b"iloc":
            shift_offsets(out, len(out) - (b - a), grown)
    a, b = top[b"meta"]
    return data[:a] + box(b"meta", data[a + 8 : a + 12] + bytes(out)) + data[b:]


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def shift_offsets(out: bytearray, at: int, grown: int) -> None:
    version, sizes, base = out[at + 8], out[at + 12], out[at + 13] >> 4
    assert version in (0, 1) and sizes == 0x44 and base in (0, 4)
    count, at = struct.unpack_from(">H", out, at + 14)[0], at + 16
    for _ in range(count):
        at += 2 + 2 * version + 2
        if base:
            value = struct.unpack_from(">I", out, at)[0]
            struct.pack_into(">I", out, at, value + (grown if value else 0))
        moved = bool(base and value)
        at += base
        extents, at = struct.unpack_from(">H", out, at)[0], at + 2
        for _ in range(extents):
            if not moved:
                offset = struct.unpack_from(">I", out, at)[0]
                struct.pack_into(">I", out, at, offset + grown)
            at += 8


def turned(stored: np.ndarray, angle: int, axis: int | None) -> np.ndarray:
    """What `irot` (quarters, anticlockwise) and then `imir` make of stored pixels."""
    out = np.rot90(stored, angle)
    if axis is not None:
        out = out[:, ::-1] if axis else out[::-1]
    return out
