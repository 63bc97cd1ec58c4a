"""PNG in from top to bottom, for pictures that are too large to be decoded whole.

The stream is inflated piece by piece. Undoing the filters is left to libpng: each piece is given
to it, not compressed, as a PNG of its own, whose first row is the last one before the piece.
W3C PNG Specification, third edition, sections 5.3 (chunks), 7.2 (scanlines), 9 (filters).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np

from hzcli.io.formats.faults import BROKEN, truncated, unreadable
from hzcli.io.formats.layout import widened
from hzcli.io.formats.raster import PNG_CHANNELS
from hzcli.io.formats.segments import unpacked
from hzcli.io.meta import Header

_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type, but for palettes
_AT_ONCE = 4 << 20  # bytes of rows
_FROM_FILE = 1 << 18


def readable(header: Header) -> bool:
    """Whether `PngRows` can read a file: not interlaced, and no colours looked up."""
    try:
        with open(header.path, "rb") as file:
            head = file.read(29)
        bits, colour, _, _, interlaced = head[24:29]
    except (OSError, ValueError):
        return False  # those who decode it will say why
    channels = "bilevel" if (colour, bits) == (0, 1) else PNG_CHANNELS.get(colour)
    return colour in _SAMPLES and channels == header.channels and not interlaced


class PngRows:
    """Stored pixels of a PNG that is `readable`; the next rows each time."""

    def __init__(self, header: Header) -> None:
        self._header, self._row = header, 0
        self._file = open(header.path, "rb")  # noqa: SIM115 - lives until close()
        self._bits, colour = self._file.read(26)[24:26]
        self._samples = _SAMPLES[colour]
        width = header.stored.width
        self._bytes = -(-width * self._samples * self._bits // 8)
        # What the filters see: bytes at the distance of a pixel, or of one byte at least.
        self._as = (width, self._bits, colour) if self._bits >= 8 else (self._bytes, 8, 0)
        self._last = bytes(self._bytes)
        self._stream = zlib.decompressobj()
        self._data = self._chunks()
        self._waiting = b""

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Columns [left, right) of rows [top, bottom), the first that were not read yet.

        Returns:
            (h, w, samples) uint8 or uint16, a new array; codes of less than 8 bits spread over 8.

        Raises:
            PictureError: the file is damaged or ends too early.
        """
        assert top == self._row, f"row {top} read after row {self._row}"
        step = max(1, _AT_ONCE // self._bytes)
        kind = np.uint16 if self._bits == 16 else np.uint8
        out = np.empty((bottom - top, right - left, self._samples), kind)
        try:
            for start in range(0, len(out), step):
                part = out[start : start + step]
                part[...] = self._next(len(part))[:, left:right]
            self._row = bottom
            if bottom == self._header.stored.height:
                for _ in self._data:  # whose checks are still to be made
                    pass
        except (*BROKEN, zlib.error) as error:
            raise unreadable(self._header.path, "png", error) from error
        return out

    def _next(self, rows: int) -> np.ndarray:
        """(rows, width, samples)."""
        width, bits, colour = self._as
        filtered = self._inflated(rows * (1 + self._bytes))
        head = struct.pack(">IIBBBBB", width, rows + 1, bits, colour, 0, 0, 0)
        body = zlib.compress(b"\0" + self._last + filtered, 0)
        parts = (b"IHDR", head), (b"IDAT", body), (b"IEND", b"")
        whole = b"".join(
            struct.pack(">I", len(data)) + kind + data
            + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
            for kind, data in parts
        )  # fmt: skip
        pixels = np.asarray(imagecodecs.png_decode(b"\x89PNG\r\n\x1a\n" + whole))[1:]
        stored = pixels.reshape(rows, -1)
        self._last = stored[-1].astype(stored.dtype.newbyteorder(">")).tobytes()
        if self._bits < 8:
            stored = widened(unpacked(stored, self._bits, self._header.stored.width), self._bits)
        return stored.reshape(rows, -1, self._samples)

    def _inflated(self, count: int) -> bytes:
        """The next bytes of the stream."""
        found = bytearray()
        while len(found) < count:
            # What was put in may have more to give, also when all of it was taken.
            more = self._stream.decompress(self._waiting, count - len(found))
            self._waiting = self._stream.unconsumed_tail
            if not more and not self._waiting:
                self._waiting = next(self._data, b"")
                if not self._waiting:
                    raise truncated(self._header.path, "png", "it ends inside its pixels")
            found += more
        return bytes(found)

    def _chunks(self) -> Iterator[bytes]:
        """What the file's IDAT chunks hold, some of it at a time."""
        self._file.seek(8)
        while len(start := self._file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            if kind != b"IDAT":
                self._file.seek(length + 4, 1)
                continue
            check = zlib.crc32(kind)
            while length:
                data = self._file.read(min(length, _FROM_FILE))
                if not data:
                    return
                check, length = zlib.crc32(data, check), length - len(data)
                yield data
            found = self._file.read(4)
            if len(found) == 4 and struct.unpack(">I", found)[0] != check:
                raise ValueError("the checksum of its pixels is wrong")

    def close(self) -> None:
        self._file.close()
