"""Pass 2 over parts of a picture: the segments of its file that the mask meets, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from hzcli.core.window import Size, Window
from hzcli.engine.plan import MULTIPLE, Plan
from hzcli.engine.thumbnail import Reader

# Of a part, where that is more than one segment: what is decoded, recoloured and encoded at once.
PIXELS = 1 << 19


class CopyingWriter(Protocol):
    """What the engine asks of a writer that copies, see `io.writers.verbatim`."""

    page: Any
    cells: Size

    def windows(self, met: np.ndarray, pixels: int) -> Iterator[Window]: ...
    def put(self, window: Window, rows: np.ndarray, alpha: np.ndarray | None = None) -> None: ...


def copying(writer: Any, reader: Reader) -> CopyingWriter | None:
    """`writer`, if it can copy from the very file that `reader` reads."""
    page = getattr(reader, "page", None)
    return writer if page is not None and getattr(writer, "page", None) is page else None


def pieces(
    writer: CopyingWriter, met: np.ndarray, chosen: Plan, size: Size
) -> Iterator[tuple[Window, bool]]:
    """What `recolour.windows_of` gives, for the segments that are `met` alone."""
    pixels = min(PIXELS, chosen.band_rows * size.width)
    return ((window, True) for window in writer.windows(met, pixels))


def columns(chosen: Plan, height: int) -> int:
    """Columns of a tile so high that it is as large as planned."""
    area = chosen.band_rows * chosen.tile_columns
    return max(MULTIPLE, area // height // MULTIPLE * MULTIPLE)


class Rows:
    """A reader that keeps the last full-width rows: the next window is often beside the last."""

    def __init__(self, reader: Reader) -> None:
        self.size, self.depth = reader.size, reader.depth
        self._reader = reader
        self._kept = np.empty(0)
        self._top = self._bottom = 0

    def read(self, window: Window) -> np.ndarray:
        if not self._top <= window.top < window.bottom <= self._bottom:
            self._kept = np.empty(0)  # not both at once
            rows = Window(window.top, window.bottom, 0, self.size.width, self.size)
            self._kept = self._reader.read(rows)
            self._top, self._bottom = window.top, window.bottom
        top, bottom = window.top - self._top, window.bottom - self._top
        # A copy, which does not hold the rows beside it.
        return self._kept[top:bottom, window.left : window.right].copy()
