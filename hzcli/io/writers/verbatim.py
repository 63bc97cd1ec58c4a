"""TIFF to TIFF: segments that the mask leaves alone are copied as they lie in the source's file.

The result has the form of its source (`tiff_form.kept`): strips or tiles, compression, predictor,
byte order. Only segments with foreground are given as pixels, window by window, and encoded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from hzcli.core.window import Size, Window
from hzcli.io.formats.encoded import Encoded
from hzcli.io.tiff import AbandonedError, TiffWriter
from hzcli.io.writers.rows import gather

if TYPE_CHECKING:
    from hzcli.io.formats.tags import Page

# Rows of a window, where segments are lower than that: of tiles, whose rows may be large, and of
# strips, where the number of pixels decides before this does.
_TILE_ROWS, _ROWS = 64, 1024


class VerbatimWriter(TiffWriter):
    """A `TiffWriter` that can take pixels window by window, and the rest from the source's file.

    Either `write` all rows, which are encoded afresh, or take `windows` and `put` each of them.

    Args:
        page: of the source; it lies as `form` says, which must be given.
    """

    def __init__(self, *args: Any, page: Page, **named: Any) -> None:
        super().__init__(*args, **named)
        self.page = page
        height, width = self._form.segment.height, self._form.segment.width
        self._across = -(-self.size.width // width)
        self._down = -(-self.size.height // height)
        self._met = np.zeros(0, bool)
        self._awaited = 0  # met segments that were not put yet
        # Guards what follows, and wakes those who wait for it to change.
        self._news = threading.Condition()
        self._pending: dict[int, Future[bytes]] = {}
        self._next = 0  # the segment that is to be written next

    @property
    def cells(self) -> Size:
        """Of a segment."""
        return self._form.segment

    def windows(self, met: np.ndarray, pixels: int) -> Iterator[Window]:
        """The windows to `put`, in this order; every one of them, before `close`.

        Args:
            met: (down, across) bool, the segments of which a pixel may have changed.
            pixels: that a window should have at most; a segment is never divided.
        """
        assert met.shape == (self._down, self._across), met.shape
        self._met = met.ravel()
        self._awaited = int(np.count_nonzero(met))
        self._begin(self._merged)
        self._settle()
        return self._cut(met, pixels)

    def _cut(self, met: np.ndarray, pixels: int) -> Iterator[Window]:
        cell, size = self._form.segment, self.size
        at_once = self._together(pixels)
        most = max(1, pixels // (at_once * cell.height * cell.width))
        for first in range(0, self._down, at_once):
            group = met[first : first + at_once]
            for left, right in _runs(np.logical_or.reduce(group, axis=0)):
                for start in range(left, right, most):
                    stop = min(start + most, right)
                    for top, bottom in _runs(np.logical_or.reduce(group[:, start:stop], axis=1)):
                        yield Window(
                            (first + top) * cell.height,
                            min((first + bottom) * cell.height, size.height),
                            start * cell.width,
                            min(stop * cell.width, size.width),
                            size,
                        )

    def _together(self, pixels: int) -> int:
        """Rows of segments in a window: one, unless they are low."""
        cell = self._form.segment
        rows = min(_TILE_ROWS if self._across > 1 else _ROWS, pixels // cell.width)
        self._rows_together = max(1, rows // cell.height)
        return self._rows_together

    def put(self, window: Window, rows: np.ndarray, alpha: np.ndarray | None = None) -> None:
        """Take one of `windows`.

        Args:
            rows, alpha: as of `write`, but of this window.

        Raises:
            PictureError: the disk refused, or the source's file cannot be read.
        """
        cell = self._form.segment
        assert rows.shape[:2] == (window.height, window.width), (rows.shape, window)
        assert rows.dtype == self._coming, rows.dtype
        assert (alpha is not None) == self.wants_alpha
        top = window.top // cell.height
        # What lies before has been put, so its writing waits for nobody.
        before = top // self._rows_together * self._rows_together * self._across
        if self._rows_together == 1:
            before += window.left // cell.width
        self._wait_until(before)
        for y in range(window.top, window.bottom, cell.height):
            for x in range(window.left, window.right, cell.width):
                index = y // cell.height * self._across + x // cell.width
                if not self._met[index]:
                    continue
                part = Window(
                    y,
                    min(y + cell.height, window.bottom),
                    x,
                    min(x + cell.width, window.right),
                    self.size,
                )
                pixels = self._own(part.inside(window), part, rows, alpha)
                future = self._pool.submit(self._form.encode, pixels)
                with self._news:
                    self._pending[index] = future
                    self._awaited -= 1
                    self._news.notify_all()
        self._settle()

    def _own(
        self,
        where: tuple[slice, slice],
        part: Window,
        rows: np.ndarray,
        alpha: np.ndarray | None,
    ) -> np.ndarray:
        """A copy of a segment's pixels, tiles filled up with zeros."""
        cell = self._form.segment
        shape = (cell.height, cell.width) if self._form.tiled else (part.height, part.width)
        pixels = np.zeros((*shape, self._samples), self._dtype)
        inner = pixels[: part.height, : part.width]
        gather(inner, rows[where], None if alpha is None else alpha[where])
        return pixels

    def _settle(self) -> None:
        if not self._awaited:
            self._taken = self.size.height

    def _wait_until(self, index: int) -> None:
        """Wait while much is pending and something before `index` is yet to be written."""
        with self._news:
            while len(self._pending) > self._ahead and self._next < index:
                if self._thread is None or not self._thread.is_alive():
                    break
                self._news.wait(0.1)
        self._raise_failure()

    def _merged(self) -> Iterator[bytes]:
        """All segments in the order of the file: copied, or encoded when they are there."""
        with Encoded(self.page, self._form.segment.height) as source:
            for index in range(self._down * self._across):
                if self._abandoned.is_set():
                    raise AbandonedError
                yield self._encoded_now(index) if self._met[index] else source.segment(index)

    def _encoded_now(self, index: int) -> bytes:
        with self._news:
            self._next = index
            self._news.notify_all()
            while index not in self._pending:
                if self._abandoned.is_set():
                    raise AbandonedError
                self._news.wait(0.1)
            future = self._pending.pop(index)
        return future.result()

    def _complete(self) -> None:
        if len(self._met):
            # Nobody puts an end mark: the thread counts for itself.
            self._join()
            self._raise_failure()
        else:
            super()._complete()


def _runs(hit: np.ndarray) -> Iterator[tuple[int, int]]:
    """[start, stop) of each run of True in a line.

    >>> list(_runs(np.array([True, True, False, True])))
    [(0, 2), (3, 4)]
    """
    borders = np.flatnonzero(np.diff(np.concatenate([[False], hit, [False]]).astype(np.int8)))
    yield from zip(borders[::2].tolist(), borders[1::2].tolist(), strict=True)
