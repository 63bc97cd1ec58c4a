"""Photoshop documents made by rule, byte by byte from Adobe's specification."""

from __future__ import annotations

import struct
import zlib

import numpy as np

MODES = {"bilevel": 0, "grey": 1, "palette": 2, "rgb": 3, "cmyk": 4, "multichannel": 7, "lab": 9}


def packbits(row: bytes) -> bytes:
    """Apple's PackBits, without looking for runs but of whole rows of one value."""
    if len(set(row)) == 1:
        out = b""
        for start in range(0, len(row), 128):
            count = min(128, len(row) - start)
            out += bytes([257 - count if count > 1 else 0, row[0]])
        return out
    parts = [row[start : start + 128] for start in range(0, len(row), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def resource(number: int, body: bytes) -> bytes:
    padded = body + b"\0" * (len(body) % 2)
    return b"8BIM" + struct.pack(">HHI", number, 0, len(body)) + padded


def psd(
    stored: np.ndarray,
    mode: str = "rgb",
    *,
    coding: str = "packbits",
    big: bool = False,
    resources: bytes = b"",
    palette: bytes = b"",
    layers: int = 0,
    transparency_block: bool = False,
) -> bytes:
    """A document whose flattened picture is `stored`.

    Args:
        stored: (h, w, channels) uint8, uint16, float32, or bool for 1 bit (True is black).
        coding: "raw" | "packbits" | "zip" | "zip with prediction".
        big: PSB.
        layers: what to write as the count of layers (none follows); negative: with transparency.
        transparency_block: say the same in a block "Mt16".
    """
    height, width, channels = stored.shape
    bits = 1 if stored.dtype == bool else stored.dtype.itemsize * 8
    head = struct.pack(
        ">4sH6xHIIHH", b"8BPS", 2 if big else 1, channels, height, width, bits, MODES[mode]
    )
    length = ">Q" if big else ">I"
    section = b""
    if layers or transparency_block:
        info = struct.pack(">h", layers) if layers else b""
        section = struct.pack(length, len(info)) + info + struct.pack(">I", 0)
        if transparency_block:
            section += b"8BIMMt16" + struct.pack(length, 0)
        section = struct.pack(length, len(section)) + section
    else:
        section = struct.pack(length, 0)
    body = struct.pack(">I", len(palette)) + palette
    body += struct.pack(">I", len(resources)) + resources + section
    planes = np.moveaxis(stored, 2, 0)
    rows = planes.reshape(-1, width)
    if stored.dtype == bool:
        lines = [np.packbits(row).tobytes() for row in rows]
    else:
        order = stored.dtype.newbyteorder(">")
        if coding == "zip with prediction":
            rows = predicted(rows)
            order = np.dtype(np.uint8) if rows.dtype == np.uint8 else order
        lines = [row.astype(order).tobytes() for row in rows]
    if coding == "raw":
        pixels = struct.pack(">H", 0) + b"".join(lines)
    elif coding == "packbits":
        packed = [packbits(line) for line in lines]
        table = b"".join(struct.pack(">I" if big else ">H", len(line)) for line in packed)
        pixels = struct.pack(">H", 1) + table + b"".join(packed)
    else:
        number = 2 if coding == "zip" else 3
        pixels = struct.pack(">H", number) + zlib.compress(b"".join(lines))
    return head + body + pixels


def predicted(rows: np.ndarray) -> np.ndarray:
    """Differences to the left neighbour; of floats, of their bytes sorted by significance."""
    if rows.dtype == np.float32:
        sorted_bytes = rows.astype(">f4").view(np.uint8).reshape(len(rows), -1, 4)
        rows = np.ascontiguousarray(sorted_bytes.swapaxes(1, 2)).reshape(len(rows), -1)
    out = rows.copy()
    out[:, 1:] -= rows[:, :-1]
    return out
