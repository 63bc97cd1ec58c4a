"""TIFF in: rows from strips and tiles, only those that a window meets.

imagecodecs undoes the compression; sizes are checked here, because some decoders return what
they have when the data end early, and others fill up with black.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from hzcli.io.raster import too_large, truncated, unreadable
from hzcli.io.tags import JPEG, NONE, Page, main_page

_DECODERS = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    32773: imagecodecs.packbits_decode,
    50000: imagecodecs.zstd_decode,
}
# Kept decoded for the next window: two rows of segments, so that windows that overlap by a
# halo across the border of two rows decode neither twice; never less than this.
_CACHE_BYTES = 16 << 20
_WORKERS = min(4, os.cpu_count() or 1)


class TiffRows:
    """Stored pixels of a TIFF page, window by window. Not turned, nothing dropped."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._lock = threading.Lock()
        self._kept: dict[int, np.ndarray] = {}
        self._limit = max(_CACHE_BYTES, 2 * page.held_bytes)
        self._pool: ThreadPoolExecutor | None = None
        self._decode_jpeg: Callable[..., Any] | None = None
        path = page.header.path
        if page.compression == JPEG:
            with tifffile.TiffFile(path) as tiff:
                stored = main_page(path, tiff)
                self._decode_jpeg = functools.partial(
                    stored.decode, jpegtables=stored.jpegtables, jpegheader=stored.jpegheader
                )
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - lives until close()

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Rows [top, bottom) and columns [left, right) as stored.

        Returns:
            (h, w, samples) uint8 or uint16, a new array; 1-bit samples are 0 and 255.
        """
        page = self.page
        with self._lock:
            try:
                read = self._read_direct if page.direct else self._read_segments
                out = read(top, bottom, left, right)
            except (RuntimeError, ValueError, OSError) as error:
                raise unreadable(page.header.path, "tiff", error) from error
            except MemoryError as error:
                raise too_large(page.header) from error
        if page.inverted:
            np.invert(out, out=out)
        return out

    def close(self) -> None:
        self._kept.clear()
        self._file.close()
        if self._pool is not None:
            self._pool.shutdown()

    def _read_direct(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        page = self.page
        rows = np.empty((bottom - top, page.header.stored.width, page.samples), page.dtype)
        flat = rows.reshape(-1).view(np.uint8).data
        row, step = top, page.segment.height
        while row < bottom:
            strip = row // step
            last = min((strip + 1) * step, bottom)
            start = page.offsets[strip] + (row - strip * step) * page.row_bytes
            target = flat[(row - top) * page.row_bytes : (last - top) * page.row_bytes]
            self._read_into(start, target)
            row = last
        if page.bits == 16 and page.big_endian != (sys.byteorder == "big"):
            rows.byteswap(inplace=True)
        return rows[:, left:right]

    def _read_segments(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        page, step = self.page, self.page.segment
        out = np.empty((bottom - top, right - left, page.samples), page.dtype)
        wanted = [
            plane * page.per_plane + y * page.across + x
            for y in range(top // step.height, -(-bottom // step.height))
            for plane in range(page.samples if page.planar else 1)
            for x in range(left // step.width, -(-right // step.width))
        ]
        # A few at a time: as many as decode at once, so that little is held besides `out`.
        for start in range(0, len(wanted), _WORKERS):
            for index, pixels in self._segments(wanted[start : start + _WORKERS]):
                plane, place = divmod(index, page.per_plane)
                y0, x0 = place // page.across * step.height, place % page.across * step.width
                y, y_end = max(top, y0), min(bottom, y0 + step.height)
                x, x_end = max(left, x0), min(right, x0 + step.width)
                channels = slice(plane, plane + 1) if page.planar else slice(None)
                out[y - top : y_end - top, x - left : x_end - left, channels] = pixels[
                    y - y0 : y_end - y0, x - x0 : x_end - x0
                ]
        return out

    def _segments(self, wanted: list[int]) -> list[tuple[int, np.ndarray]]:
        """Decoded segments, from the last ones kept or from the file."""
        missing = [index for index in wanted if index not in self._kept]
        encoded = [self._read_encoded(index) for index in missing]
        if len(missing) > 1:
            self._pool = self._pool or ThreadPoolExecutor(_WORKERS, "hz-tiff")
            fresh = dict(zip(missing, self._pool.map(self._decode, missing, encoded), strict=True))
        else:
            fresh = {i: self._decode(i, data) for i, data in zip(missing, encoded, strict=True)}
        found = [(i, fresh[i] if i in fresh else self._kept[i]) for i in wanted]
        self._kept |= fresh
        held = sum(pixels.nbytes for pixels in self._kept.values())
        while held > self._limit:
            held -= self._kept.pop(next(iter(self._kept))).nbytes  # the oldest
        return found

    def _read_encoded(self, index: int) -> bytes:
        data = bytearray(self.page.lengths[index])
        self._read_into(self.page.offsets[index], memoryview(data))
        return bytes(data)

    def _read_into(self, start: int, target: memoryview) -> None:
        self._file.seek(start)
        while len(target):
            count = self._file.readinto(target)
            if not count:
                raise truncated(self.page.header.path, "tiff", "it ends inside its pixels")
            target = target[count:]

    def _decode(self, index: int, encoded: bytes) -> np.ndarray:
        """One segment as (h, w, samples or 1) in native byte order."""
        page, size = self.page, self.page.header.stored
        height, width = page.segment.height, page.segment.width
        full = height
        if not page.tiled:
            height = min(height, size.height - index % page.per_plane * height)
        samples = 1 if page.planar else page.samples
        if self._decode_jpeg is not None:
            if not encoded.rstrip(b"\0").endswith(b"\xff\xd9"):
                raise ValueError(f"segment {index} has no JPEG end marker")
            return np.asarray(self._decode_jpeg(encoded, index)[0])[0]
        row = -(-width * samples * page.bits // 8)
        data: bytes | bytearray = encoded
        if page.compression != NONE:
            # Writers may pad the last strip to full height, so that much room is offered.
            data = _DECODERS[page.compression](encoded, out=full * row)
        if len(data) < height * row:
            raise ValueError(f"segment {index} holds {len(data)} of {height * row} bytes")
        stored = np.frombuffer(data, np.uint8, height * row).reshape(height, row)
        if page.bits == 1:
            return np.unpackbits(stored, axis=1, count=width)[..., None] * np.uint8(255)
        order = np.dtype(page.dtype).newbyteorder(">" if page.big_endian else "<")
        pixels = (
            stored.view(order)
            .astype(page.dtype, copy=page.predictor)
            .reshape(height, width, samples)
        )
        if page.predictor:
            imagecodecs.delta_decode(pixels, axis=-2, out=pixels)
        return pixels
