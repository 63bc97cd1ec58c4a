"""The boxes of a HEIF file: which items there are, what is said of them, where they lie.

ISO/IEC 14496-12 (boxes, `iloc`), 23008-12 (HEIF: items and their properties). They are walked
here because no decoder tells size, profile and turn without decoding, nor all of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from hzcli.io.formats.faults import truncated

_LARGEST_META = 64 << 20


@dataclass
class Boxes:
    """What the `meta` box lists."""

    brand: bytes = b""
    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    properties: dict[int, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    references: list[tuple[bytes, int, list[int]]] = field(default_factory=list)
    extents: dict[int, tuple[int, int]] = field(default_factory=dict)  # start, length

    def all(self, item: int, kind: bytes) -> list[bytes]:
        return [body for name, body in self.properties.get(item, []) if name == kind]


def read(path: Path, kind: str, file: BinaryIO) -> Boxes:
    """Find and parse the `meta` box of an open HEIC or AVIF file.

    Raises:
        PictureError: it is missing, or items lie beyond the end of the file.
        ValueError, LookupError, EOFError, struct.error: damaged.
    """
    brand, found, end = b"", None, path.stat().st_size
    for name, start, size in boxes_of(file, end):
        if name == b"ftyp":
            brand = file.read(4)
        elif name == b"meta":
            if size > _LARGEST_META:
                raise ValueError(f"a header of {size} bytes")
            data = file.read(start + size - file.tell())
            if file.tell() < start + size:
                raise truncated(path, kind, "it ends inside its header")
            found = _parse(data[4:])
            break
    if found is None:
        raise truncated(path, kind, "its header is missing")
    found.brand = brand
    for start, length in found.extents.values():
        if start + length > end:
            raise truncated(path, kind, f"its pixels go on to byte {start + length} of {end}")
    return found


def boxes_of(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, length) of the boxes of a file of `end` bytes, which is left at each's body.

    Raises:
        ValueError, struct.error: damaged.
    """
    while file.tell() + 8 <= end:
        start = file.tell()
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:
            size = struct.unpack(">Q", file.read(8))[0]
        size = size or end - start
        if size < 8:
            raise ValueError(f"a box of {size} bytes")
        yield name, start, size
        file.seek(start + size)


def _walk(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, body) of the boxes in `data`."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        size = size or len(data) - at
        if size < head or at + size > len(data):
            raise ValueError(f"a box of {size} bytes in {len(data)}")
        yield kind, data[at + head : at + size]
        at += size


def _parse(data: bytes) -> Boxes:
    found, shared = Boxes(), []
    for kind, body in _walk(data):
        version = body[0] if body else 0
        if kind == b"pitm":
            found.primary = struct.unpack(">I" if version else ">H", body[4 : 8 if version else 6])[
                0
            ]
        elif kind == b"iinf":
            for name, entry in _walk(body[8 if version else 6 :]):
                if name == b"infe" and entry[0] >= 2:
                    form = ">H2x4s" if entry[0] == 2 else ">I2x4s"
                    item, sort = struct.unpack_from(form, entry, 4)
                    found.kinds[item] = sort
        elif kind == b"iref":
            form = ">I" if version else ">H"
            for name, entry in _walk(body[4:]):
                step = struct.calcsize(form)
                source = struct.unpack_from(form, entry)[0]
                count = struct.unpack_from(">H", entry, step)[0]
                at = range(step + 2, step + 2 + count * step, step)
                targets = [struct.unpack_from(form, entry, place)[0] for place in at]
                found.references.append((name, source, targets))
        elif kind == b"iprp":
            for name, inner in _walk(body):
                if name == b"ipco":
                    shared = list(_walk(inner))
                elif name == b"ipma":
                    _associate(inner, shared, found)
        elif kind == b"iloc":
            _locate(body, version, found)
    return found


def _associate(body: bytes, shared: list[tuple[bytes, bytes]], found: Boxes) -> None:
    """Which properties belong to which item (23008-12, 9.3)."""
    version, flags = body[0], body[3]
    count, at = struct.unpack_from(">I", body, 4)[0], 8
    for _ in range(count):
        item = struct.unpack_from(">I" if version else ">H", body, at)[0]
        at += 4 if version else 2
        number, at = body[at], at + 1
        for _ in range(number):
            if flags & 1:
                place, at = struct.unpack_from(">H", body, at)[0] & 0x7FFF, at + 2
            else:
                place, at = body[at] & 0x7F, at + 1
            if place:
                found.properties.setdefault(item, []).append(shared[place - 1])


def _locate(body: bytes, version: int, found: Boxes) -> None:
    """Where the bytes of each item lie (14496-12, 8.11.3); the first extent of each."""
    sizes = struct.unpack_from(">H", body, 4)[0]
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    at = 6

    def take(size: int) -> int:
        nonlocal at
        if at + size > len(body):
            raise EOFError("it ends inside its header")
        at += size
        return int.from_bytes(body[at - size : at], "big")

    for _ in range(take(4 if version == 2 else 2)):
        item = take(4 if version == 2 else 2)
        in_file = not (take(2) & 15 if version else 0)
        take(2)
        base = take(base_size)
        for number in range(take(2)):
            take(index_size)
            start, length = base + take(offset_size), take(length_size)
            if in_file and (number == 0 or start + length > sum(found.extents[item])):
                # The first extent, which for EXIF is all; or the last, which must be there too.
                found.extents[item] = (start, length)
