"""Decoded pixels on disk, for pictures that must be whole before they can be turned."""

from __future__ import annotations

import tempfile

import numpy as np

from hzcli.core.window import Size

# Square, so that a band of rows and a band of columns cost the same to read.
TILE = 128


class Scratch:
    """A nameless file in the temporary folder that holds a picture as square tiles.

    Plain reads and writes, no memory map: mapped pages count as memory of the process.

    Args:
        size: of the picture.
        samples: channels.
        dtype: uint8, uint16 or float32.
    """

    def __init__(self, size: Size, samples: int, dtype: np.dtype) -> None:
        self.size, self.samples, self.dtype = size, samples, np.dtype(dtype)
        self._across = -(-size.width // TILE)
        self._row_bytes = TILE * samples * self.dtype.itemsize
        self._file = tempfile.TemporaryFile(prefix="hz-", buffering=0)  # noqa: SIM115

    def write(self, top: int, rows: np.ndarray) -> None:
        """Store (h, W, samples) rows; `top` is a multiple of TILE, and h too except at the end."""
        for start in range(0, len(rows), TILE):
            band = np.zeros((TILE, self._across * TILE, self.samples), self.dtype)
            part = rows[start : start + TILE]
            band[: len(part), : self.size.width] = part
            tiles = band.reshape(TILE, self._across, -1).swapaxes(0, 1)
            self._file.seek((top + start) // TILE * self._across * TILE * self._row_bytes)
            view = memoryview(tiles.tobytes())
            while len(view):
                view = view[self._file.write(view) :]

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Rows [top, bottom) and columns [left, right), (h, w, samples), a new array."""
        out = np.empty((bottom - top, right - left, self.samples), self.dtype)
        for y0 in range(top // TILE * TILE, bottom, TILE):
            y, y_end = max(top, y0), min(bottom, y0 + TILE)
            for x0 in range(left // TILE * TILE, right, TILE):
                x, x_end = max(left, x0), min(right, x0 + TILE)
                tile = y0 // TILE * self._across + x0 // TILE
                self._file.seek((tile * TILE + y - y0) * self._row_bytes)
                data = self._file.read((y_end - y) * self._row_bytes)
                pixels = np.frombuffer(data, self.dtype).reshape(y_end - y, TILE, self.samples)
                out[y - top : y_end - top, x - left : x_end - left] = pixels[:, x - x0 : x_end - x0]
        return out

    def close(self) -> None:
        self._file.close()
