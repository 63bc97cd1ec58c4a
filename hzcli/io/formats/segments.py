"""TIFF (and flattened PSD) in: rows from strips and tiles, only those that a window meets.

imagecodecs undoes the compression; sizes are checked here, because some decoders return what
they have when the data end early, and others fill up with black.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from hzcli.io.formats.faults import BROKEN, exactly, too_large, truncated, unreadable
from hzcli.io.formats.layout import widened
from hzcli.io.formats.tags import JPEG, NONE, Page

_DECODERS = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    32773: imagecodecs.packbits_decode,
    50000: imagecodecs.zstd_decode,
    34925: imagecodecs.lzma_decode,
}
_FAX = (2, 3, 4)
# Pictures that decode to no more are kept; of others `Page.kept_bytes` for the next window, or the
# like part of it where windows are not as wide as the picture.
_SMALL_BYTES = 16 << 20
_WORKERS = min(4, os.cpu_count() or 1)


class TiffRows:
    """Stored pixels of a TIFF page, window by window. Not turned, nothing dropped."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._lock = threading.Lock()
        self._kept: dict[int, Future[np.ndarray]] = {}
        self._small = page.row_bytes * page.header.stored.height <= _SMALL_BYTES
        self._pool: ThreadPoolExecutor | None = None
        self._rooms = threading.local()
        self._decode_whole: Callable[..., Any] | None = None
        path = page.header.path
        if page.compression in (JPEG, *_FAX):
            # What these need besides the bytes stands in many tags: tifffile has read them.
            with tifffile.TiffFile(path) as tiff:
                stored = tiff.pages[page.number].aspage()
                self._decode_whole = functools.partial(
                    stored.decode, jpegtables=stored.jpegtables, jpegheader=stored.jpegheader
                )
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - lives until close()

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Rows [top, bottom) and columns [left, right) as stored. Several threads may ask at once.

        Returns:
            (h, w, samples) uint8, uint16 or float32, a new array; codes of other widths are
            spread over 8 or 16 bits (not those of a palette), 32-bit codes over 0..1.
        """
        page = self.page
        try:
            read = self._read_direct if page.direct else self._read_segments
            out = read(top, bottom, left, right)
        except BROKEN as error:
            raise unreadable(page.header.path, page.header.format, error) from error
        except MemoryError as error:
            raise too_large(page.header) from error
        if page.inverted:
            if out.dtype.kind == "f":
                np.subtract(1, out, out=out)
            else:
                np.invert(out, out=out)
        return out

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._kept.clear()
        self._file.close()

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
        if page.bits > 8 and page.big_endian != (sys.byteorder == "big"):
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
        share = (-(-right // step.width) - left // step.width) / page.across
        limit = _SMALL_BYTES if self._small else int(page.kept_bytes * share)
        for index, pixels in self._segments(wanted, limit):
            plane, place = divmod(index, page.per_plane)
            y0, x0 = place // page.across * step.height, place % page.across * step.width
            y, y_end = max(top, y0), min(bottom, y0 + step.height)
            x, x_end = max(left, x0), min(right, x0 + step.width)
            channels = slice(plane, plane + 1) if page.planar else slice(None)
            out[y - top : y_end - top, x - left : x_end - left, channels] = pixels[
                y - y0 : y_end - y0, x - x0 : x_end - x0
            ]
        return out

    def _segments(self, wanted: list[int], limit: int) -> Iterator[tuple[int, np.ndarray]]:
        """Decoded segments in order, from the last ones kept or from the file. While one is used
        the next are decoded: only so many that little is held besides."""
        coming: deque[tuple[int, Future[np.ndarray]]] = deque()
        for index in wanted:
            coming.append((index, self._segment(index, limit, alone=len(wanted) == 1)))
            if len(coming) > _WORKERS:
                first, future = coming.popleft()
                yield first, future.result()
        for index, future in coming:
            yield index, future.result()

    def _segment(self, index: int, limit: int, alone: bool) -> Future[np.ndarray]:
        """A segment that is decoded, or will be: by this thread at once, where it is `alone`."""
        with self._lock:
            if index in self._kept:
                return self._kept[index]
            encoded = self._encoded(index)
            self._kept[index] = future = Future[np.ndarray]()
            count = self.page.segment.pixels * self.page.dtype.itemsize
            count *= 1 if self.page.planar else self.page.samples
            while len(self._kept) * count > limit:
                del self._kept[next(iter(self._kept))]  # the oldest
            if not alone and self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, "hz-tiff")
        if alone or self._pool is None:
            self._fill(future, index, encoded)
        else:
            self._pool.submit(self._fill, future, index, encoded)
        return future

    def _fill(self, future: Future[np.ndarray], index: int, encoded: bytes) -> None:
        try:
            future.set_result(self._decode(index, encoded))
        except BaseException as error:
            with self._lock:
                if self._kept.get(index) is future:
                    del self._kept[index]
            future.set_exception(error)

    def _encoded(self, index: int) -> bytes:
        page = self.page
        return exactly(self._file, page.offsets[index], page.lengths[index], page.header)

    def _read_into(self, start: int, target: memoryview) -> None:
        with self._lock:
            self._file.seek(start)
            while len(target):
                count = self._file.readinto(target)
                if not count:
                    header = self.page.header
                    raise truncated(header.path, header.format, "it ends inside its pixels")
                target = target[count:]

    def _decode(self, index: int, encoded: bytes) -> np.ndarray:
        """One segment as (h, w, samples or 1) in native byte order."""
        page, size = self.page, self.page.header.stored
        height, width = page.segment.height, page.segment.width
        full = height
        if not page.tiled:
            height = min(height, size.height - index % page.per_plane * height)
        samples = 1 if page.planar else page.samples
        if self._decode_whole is not None:
            if page.compression == JPEG and not encoded.rstrip(b"\0").endswith(b"\xff\xd9"):
                raise ValueError(f"segment {index} has no JPEG end marker")
            whole = np.asarray(self._decode_whole(encoded, index)[0])[0]
            return whole * np.uint8(255) if page.bits == 1 else whole
        row = -(-width * samples * page.bits // 8)
        data: bytes | bytearray = encoded
        if page.reversed_bits:
            data = imagecodecs.bitorder_decode(data)
        if page.compression != NONE:
            # Writers may pad the last strip to full height, so that much room is offered. What
            # differences are undone of is not looked at again: its room is for all segments.
            room = self._room(full * row) if page.predictor != 1 else full * row
            data = _DECODERS[page.compression](data, out=room)
        if len(data) < height * row:
            raise ValueError(f"segment {index} holds {len(data)} of {height * row} bytes")
        stored = np.frombuffer(data, np.uint8, height * row).reshape(height, row)
        return self._samples(stored, (height, width, samples))

    def _room(self, count: int) -> memoryview:
        """Bytes that belong to this thread."""
        if len(getattr(self._rooms, "bytes", b"")) < count:
            self._rooms.bytes = bytearray(count)
        return memoryview(self._rooms.bytes)[:count]

    def _samples(self, stored: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Rows of decompressed bytes as samples of `shape` in native byte order."""
        page, width = self.page, shape[1] * shape[2]
        bits = page.bits
        if bits not in (8, 16, 32, 64):
            codes = unpacked(stored, bits, width)
            spread = codes if page.layout.palette is not None else widened(codes, bits)
            return spread.reshape(shape)
        kind = np.dtype(f"{'f' if page.floating else 'u'}{bits // 8}")
        order = kind.newbyteorder(">" if page.big_endian else "<")
        if page.predictor == 3:
            # Differences of bytes that were sorted by significance: no byte order of its own.
            raw = stored.reshape(-1).view(kind).reshape(shape)
            pixels = np.empty(shape, kind)
            imagecodecs.floatpred_decode(raw, axis=-2, out=pixels)
        elif page.predictor == 2:
            # Differences of the bits of a float are differences of whole numbers, too.
            pixels = np.empty(shape, kind)
            whole = np.dtype(f"u{bits // 8}")
            differences = stored.view(order).view(whole.newbyteorder(order.byteorder))
            imagecodecs.delta_decode(
                differences.astype(whole, copy=False).reshape(shape),
                axis=-2,
                out=pixels.view(whole),
            )
        else:
            pixels = stored.view(order).astype(kind, copy=False).reshape(shape)
        if kind == np.uint32:
            return (pixels / np.float64(2**32 - 1)).astype(np.float32)
        return pixels.astype(page.dtype, copy=False)


def unpacked(stored: np.ndarray, bits: int, width: int) -> np.ndarray:
    """Codes of `bits` bits, highest bit first, rows padded to bytes: (h, width)."""
    if bits == 1:
        return np.unpackbits(stored, axis=1, count=width)
    dtype = np.uint8 if bits < 8 else np.uint16
    codes = imagecodecs.packints_decode(stored.tobytes(), dtype, bits, runlen=width)
    return np.asarray(codes).reshape(len(stored), width)
