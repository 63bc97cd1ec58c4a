"""Profiles made of tables, by rule: ICC.1:2022 section 10.10 (lut16Type), XYZ between."""

from __future__ import annotations

import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])


def lut_profile(to_xyz: np.ndarray, gamma: float, back: bool = True) -> bytes:
    """An RGB display profile without curves or matrix tags: A2B0 and, where `back`, B2A0.

    Args:
        to_xyz: (3, 3), linear colours to XYZ under D50. gamma: of its numbers.
    """
    x = np.linspace(0, 1, 4096)
    corners = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    line = np.array([0, 1.0])
    tags = {b"A2B0": _lut(np.eye(3), x**gamma, corners @ to_xyz.T / 2, line, 2)}
    if back:
        # XYZ come as halves; the matrix leaves half the light, the last tables double it.
        light = (x * 2).clip(0, 1) ** (1 / gamma)
        tags[b"B2A0"] = _lut(np.linalg.inv(to_xyz), line, corners, light, 2)
    words = "Tables by rule".encode("utf-16-be")
    tags[b"desc"] = struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(words), 28)
    tags[b"desc"] += words
    tags[b"wtpt"] = struct.pack(">4s4x3i", b"XYZ ", *(round(v * 65536) for v in D50))
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">8xI4s4s4s12s4s", 0x04400000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp")
    head += bytes(28) + struct.pack(">3i", *(round(v * 65536) for v in D50)) + bytes(48)
    whole = head[:128] + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def _lut(
    matrix: np.ndarray, first: np.ndarray, grid: np.ndarray, last: np.ndarray, points: int
) -> bytes:
    """matrix, then the table `first` on each channel, then the grid, then `last`."""
    fixed = [round(float(v) * 65536) for v in matrix.flat]
    out = struct.pack(">4s4x4B9iHH", b"mft2", 3, 3, points, 0, *fixed, len(first), len(last))
    for values in (np.tile(first, 3), grid.reshape(-1), np.tile(last, 3)):
        out += np.rint(np.clip(values, 0, 1) * 65535).astype(">u2").tobytes()
    return out
