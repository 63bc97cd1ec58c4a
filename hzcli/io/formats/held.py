"""Stored pixels of a file: read piece by piece, or decoded once and held."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hzcli.core.window import Size, bands
from hzcli.io.formats.found import Found, Source
from hzcli.io.scratch import TILE, Scratch

# Decoded pixels that a reader may keep in memory when the caller does not say.
_DEFAULT_BUDGET = 256 << 20


def in_pieces(found: Found, budget_bytes: int | None) -> Found:
    """The same file, read from top to bottom where that can be and it is too large to be decoded
    whole into `budget_bytes`, as of `source`."""
    if found.forward is None:
        return found
    layout, depth = found.layout, found.header.depth
    samples = layout.colours + (layout.alpha_at is not None)
    needed = found.header.size.pixels * samples * (depth // 8)
    if needed <= _given(budget_bytes):
        return found
    # So much to hold that `source` gathers it.
    return replace(found, rows=found.forward, held_bytes=needed)


def _given(budget_bytes: int | None) -> int:
    return _DEFAULT_BUDGET if budget_bytes is None else budget_bytes


def source(
    found: Found,
    budget_bytes: int | None,
    keep: Callable[[np.ndarray], np.ndarray] = lambda stored: stored,
) -> Source:
    """The stored pixels of a file.

    Args:
        found: the file.
        budget_bytes: decoded pixels to keep in memory at most (256 MiB if None); what is held and
            larger lies in a scratch file.
        keep: what of them is held, where the file is decoded whole.
    """
    budget = _given(budget_bytes)
    if found.rows is None:
        decode = found.decode
        assert decode is not None
        return _Whole(lambda: _hold(keep(decode()), budget))
    # Turning by a quarter makes a band of rows out of a band of columns, which meets every
    # strip; and one huge compressed strip would be decoded for every band.
    if found.header.orientation >= 5 or found.held_bytes > max(budget, 1):
        return _Whole(lambda: _gather(found, budget))
    return found.rows()


def _hold(pixels: np.ndarray, budget: int) -> np.ndarray | Scratch:
    """Decoded pixels, moved to a scratch file if they are larger than `budget` bytes."""
    if pixels.nbytes <= budget:
        return np.ascontiguousarray(pixels)
    scratch = Scratch(Size(*pixels.shape[:2]), pixels.shape[2], pixels.dtype)
    scratch.write(0, pixels)
    return scratch


def _gather(found: Found, budget: int) -> np.ndarray | Scratch:
    """All pixels of a file that is read piece by piece, read once from top to bottom."""
    size = found.header.stored
    assert found.rows is not None
    rows = found.rows()
    held: np.ndarray | Scratch | None = None
    try:
        for band in bands(size, TILE):
            part = rows.read(band.top, band.bottom, 0, size.width)
            if held is None:
                if part.nbytes * size.height <= budget * len(part):
                    held = np.empty((size.height, *part.shape[1:]), part.dtype)
                else:
                    held = Scratch(size, part.shape[2], part.dtype)
            if isinstance(held, Scratch):
                held.write(band.top, part)
            else:
                held[band.top : band.bottom] = part
    except BaseException:
        if isinstance(held, Scratch):
            held.close()
        raise
    finally:
        rows.close()
    assert held is not None
    return held


class _Whole:
    """A source that is decoded at the first read and kept, in memory or in a scratch file."""

    def __init__(self, load: Callable[[], np.ndarray | Scratch]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._pixels: np.ndarray | Scratch | None = None

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._load()
        if isinstance(self._pixels, Scratch):
            return self._pixels.read(top, bottom, left, right)
        return self._pixels[top:bottom, left:right]

    def close(self) -> None:
        if isinstance(self._pixels, Scratch):
            self._pixels.close()
        self._pixels = None
