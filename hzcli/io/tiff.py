"""TIFF out: 16-bit RGB, strip by strip, with what photo applications can read.

Deflate (Adobe's number 8) at level 1 with the horizontal predictor: on 16-bit photographs higher
levels are slower and no smaller, LZW is larger, and zstd is unknown to most readers.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io import atomic
from hzcli.io.meta import Meta

_STRIP_ROWS = 64
_STRIP_BYTES = 8 << 20
# A classic TIFF ends at 4 GiB; the margin is for pixels that deflate cannot make smaller.
_CLASSIC_BYTES = 3_900_000_000
_UNITS = {"none": 1, "inch": 2, "centimetre": 3}


class _AbandonedError(Exception):
    """Tells the writing thread that the picture is given up."""


class TiffWriter:
    """Rows of a picture into a file, top to bottom; the file appears when all are there.

    Strips are encoded by a few threads and written by another, and `write` waits when these
    fall behind, so memory does not grow with the picture. Use as a context manager: leaving it
    well finishes the file, leaving it by an exception removes what was written.

    Args:
        path: where the picture goes; missing folders are made.
        size: of the whole picture.
        meta: profile and resolution to carry.
        compression: "deflate" | "none".
        level: of deflate, 1..9.
        overwrite: replace a file that is there.
        software, description: TIFF tags 305 and 270.

    Raises:
        PictureError: the file exists, or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size: Size,
        meta: Meta,
        *,
        compression: str = "deflate",
        level: int = 1,
        overwrite: bool = False,
        software: str | None = None,
        description: str | None = None,
    ) -> None:
        if compression not in ("deflate", "none"):
            raise ValueError(f'compression must be "deflate" or "none", not {compression!r}')
        self.path, self.size = Path(path), size
        self._overwrite, self._compression, self._level = overwrite, compression, level
        if not overwrite:
            atomic.refuse_existing(self.path)
        try:
            self._temporary = atomic.temporary_beside(self.path)
            self._temporary.touch(exist_ok=False)
        except OSError as error:
            raise self._unwritable(error) from error
        row_bytes = size.width * 3 * 2
        self._strip_rows = max(1, min(_STRIP_ROWS, _STRIP_BYTES // row_bytes, size.height))
        self._strip = np.empty((0, size.width, 3), np.uint16)
        self._filled = 0  # rows in self._strip
        self._taken = 0  # rows so far
        self._error: BaseException | None = None
        self._done = False
        workers = min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(workers, "hz-encode")
        self._strips: queue.Queue[Future[bytes] | None] = queue.Queue(2 * workers)
        self._abandoned = threading.Event()
        tags: dict[str, Any] = {
            "photometric": "rgb",
            "planarconfig": "contig",
            "rowsperstrip": self._strip_rows,
            "metadata": None,
            "software": software or False,
            "description": description,
            "iccprofile": meta.icc,
            "extratags": [(274, 3, 1, 1, True)],  # upright: the pixels were turned when read
        }
        if meta.resolution is not None:
            tags["resolution"] = meta.resolution[:2]
            tags["resolutionunit"] = _UNITS[meta.resolution[2]]
        if compression == "deflate":
            tags |= {"compression": "adobe_deflate", "predictor": 2}
        self._thread = threading.Thread(target=self._run, args=(tags,), daemon=True)
        self._thread.start()

    def write(self, rows: np.ndarray) -> None:
        """Take the next rows.

        Args:
            rows: (h, W, 3) uint16, any h; may be changed by the caller afterwards.

        Raises:
            PictureError: the disk refused.
        """
        if rows.dtype != np.uint16 or rows.ndim != 3 or rows.shape[1:] != (self.size.width, 3):
            raise ValueError(
                f"rows must be (h, {self.size.width}, 3) uint16, got {rows.shape} {rows.dtype}"
            )
        if self._taken + len(rows) > self.size.height:
            raise ValueError(f"more than {self.size.height} rows")
        start = 0
        while start < len(rows):
            if self._filled == 0:
                height = min(self._strip_rows, self.size.height - self._taken)
                self._strip = np.empty((height, self.size.width, 3), np.uint16)
            count = min(len(self._strip) - self._filled, len(rows) - start)
            self._strip[self._filled : self._filled + count] = rows[start : start + count]
            self._filled, self._taken, start = (
                self._filled + count,
                self._taken + count,
                start + count,
            )
            if self._filled == len(self._strip):
                self._put(self._pool.submit(self._encode, self._strip))
                self._filled = 0

    def close(self) -> None:
        """Finish the file and give it its name; after `abort` or a second time, do nothing."""
        if self._done:
            return
        if self._taken != self.size.height:
            self.abort()
            raise ValueError(f"{self._taken} of {self.size.height} rows were written")
        try:
            self._put(None)
            self._thread.join()
            self._raise_failure()
            try:
                atomic.settle(self._temporary, self.path, overwrite=self._overwrite)
            except OSError as error:
                raise self._unwritable(error) from error
            self._done = True
        finally:
            self.abort()
        self._pool.shutdown()

    def abort(self) -> None:
        """Give the picture up and remove what was written; after `close`, do nothing."""
        if self._done:
            return
        self._done = True
        self._abandoned.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> TiffWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _encode(self, strip: np.ndarray) -> bytes:
        if self._compression == "none":
            return strip.astype("<u2", copy=False).tobytes()
        differences = imagecodecs.delta_encode(strip, axis=-2).astype("<u2", copy=False)
        return bytes(imagecodecs.deflate_encode(differences.tobytes(), level=self._level))

    def _put(self, strip: Future[bytes] | None) -> None:
        while True:
            if not self._thread.is_alive():
                self._raise_failure()
                # Every strip was written, nobody waits for the end mark.
                return
            try:
                self._strips.put(strip, timeout=0.1)
                return
            except queue.Full:
                continue

    def _raise_failure(self) -> None:
        error = self._error
        if isinstance(error, OSError):
            raise self._unwritable(error) from error
        if error is not None:
            raise error

    def _unwritable(self, error: OSError) -> PictureError:
        return PictureError(
            f"{self.path} cannot be written: {error.strerror or error}",
            "Check the free space and the rights of the output folder.",
        )

    def _run(self, tags: dict[str, Any]) -> None:
        """The writing thread: tifffile pulls encoded strips until it has them all."""
        height, width = self.size.height, self.size.width
        big = height * width * 3 * 2 > _CLASSIC_BYTES
        try:
            with tifffile.TiffWriter(self._temporary, bigtiff=big, byteorder="<") as tiff:
                tiff.write(self._encoded(), shape=(height, width, 3), dtype=np.uint16, **tags)
        except _AbandonedError:
            pass
        except BaseException as error:
            # Carried to the caller's thread, which raises it.
            self._error = error

    def _encoded(self) -> Iterator[bytes]:
        while True:
            try:
                strip = self._strips.get(timeout=0.1)
            except queue.Empty:
                if self._abandoned.is_set():
                    raise _AbandonedError from None
                continue
            if strip is None:
                return
            if self._abandoned.is_set():
                raise _AbandonedError
            yield strip.result()
