"""TIFF out: strip by strip, or tile by tile, with what photo applications can read.

Deflate (Adobe's number 8) at level 1 with the horizontal predictor: on 16-bit photographs higher
levels are slower and no smaller, LZW is larger, and zstd is unknown to most readers. Floats have
the floating-point predictor (TIFF Technical Note 3). A picture that is a TIFF of the result's
depth keeps its own form instead, see `writers.tiff_form`.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tifffile

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io.meta import Meta
from hzcli.io.writers.rows import RowWriter, gather, raw_bytes
from hzcli.io.writers.tiff_form import Form, fresh

if TYPE_CHECKING:
    from hzcli.io.writers.blocks import Carried

# A classic TIFF ends at 4 GiB; the margin is for pixels that deflate cannot make smaller.
_CLASSIC_BYTES = 3_900_000_000
# Where "never" gives up: the rest is for what tifffile writes around the pixels.
_CLASSIC_END = (1 << 32) - (16 << 20)
_UNITS = {"none": 1, "inch": 2, "centimetre": 3}
# Tags that say how the pixels lie, and pointers into the source's file: never carried over.
_OWN_TAGS = frozenset(
    {*range(254, 267), 273, 274, *range(277, 285), 288, 289, 296, 301, 317, *range(320, 326)}
    | {330, *range(338, 348), *range(512, 522), *range(529, 533), 34665, 34675, 34853, 40965}
)
_SOFTWARE, _DESCRIPTION, _BYTE, _UNDEFINED = 305, 270, 1, 7
_XMP, _IPTC, _PHOTOSHOP = 700, 33723, 34377


class AbandonedError(Exception):
    """Tells the writing thread that the picture is given up."""


class TiffWriter(RowWriter):
    """Rows of a picture into a TIFF, top to bottom; the file appears when all are there.

    Strips are encoded by a few threads and written by another, and `write` waits when these
    fall behind, so memory does not grow with the picture.

    Args:
        path, size: see `RowWriter`, as for what is not named here.
        meta: profile and resolution to carry.
        compression: "deflate" | "lzw" | "zstd" | "none".
        level: of deflate, 1..9.
        bigtiff: "auto" | "always" | "never"; "auto" from 3.9 GB of pixels.
        tile: edge of square tiles, a multiple of 16; None writes strips.
        form: instead of compression, level and tile.
        software, description: TIFF tags 305 and 270.
        carried: further tags, XMP, IPTC and image resources.

    Raises:
        PictureError: the file exists, or cannot be written.
    """

    embeds = frozenset({"xmp", "iptc", "photoshop", "extratags"})

    def __init__(
        self,
        path: Path,
        size: Size,
        meta: Meta,
        *,
        depth: int = 16,
        channels: str = "rgb",
        alpha: bool = False,
        compression: str = "deflate",
        level: int = 1,
        bigtiff: str = "auto",
        tile: int | None = None,
        form: Form | None = None,
        overwrite: bool = False,
        software: str | None = None,
        description: str | None = None,
        carried: Carried | None = None,
        convert: Callable[[np.ndarray], np.ndarray] | None = None,
        finish: Callable[[Path], None] | None = None,
    ) -> None:
        if form is None:
            samples = (1 if channels == "grey" else 3) + alpha
            form = fresh(size, samples * depth // 8, depth, compression, level, tile)
        self._form = form
        super().__init__(
            path,
            size,
            depth=depth,
            channels=channels,
            alpha=alpha,
            overwrite=overwrite,
            convert=convert,
            finish=finish,
        )
        self._strip = np.empty((0, 0, 0), self._dtype)
        self._filled = 0  # rows in self._strip
        self._error: BaseException | None = None
        self._encoded_bytes = 0
        most = raw_bytes(size, self._samples, self._dtype)
        if form.compression == "lzw":
            most += most // 2  # at worst, a code of 12 bits for every byte
        self._big = bigtiff == "always" or (bigtiff == "auto" and most > _CLASSIC_BYTES)
        workers = min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(workers, "hz-encode")
        self._ahead = 2 * workers  # segments that may wait to be written
        self._strips: queue.Queue[Future[bytes] | None] = queue.Queue(self._ahead)
        self._abandoned = threading.Event()
        self._tags = self._layout() | _described(meta, software, description, carried)
        self._thread: threading.Thread | None = None

    def _layout(self) -> dict[str, Any]:
        """What tifffile is to say about how the pixels lie."""
        tags: dict[str, Any] = {
            "photometric": "minisblack" if self._grey else "rgb",
            "planarconfig": None if self._samples == 1 else "contig",
            "metadata": None,
        }
        if self.wants_alpha:
            tags["extrasamples"] = ["unassalpha"]
        return tags | self._form.tags

    def _take(self, rows: np.ndarray, alpha: np.ndarray | None) -> None:
        self._begin(self._encoded)
        start, segment = 0, self._form.segment
        while start < len(rows):
            if self._filled == 0:
                height = min(segment.height, self.size.height - self._taken - start)
                self._strip = np.empty((height, self.size.width, self._samples), self._dtype)
            count = min(len(self._strip) - self._filled, len(rows) - start)
            gather(
                self._strip[self._filled : self._filled + count],
                rows[start : start + count],
                None if alpha is None else alpha[start : start + count],
            )
            self._filled, start = self._filled + count, start + count
            if self._filled == len(self._strip):
                # A tile is cut out by the thread that encodes it.
                for left in range(0, self.size.width, segment.width):
                    self._put(self._pool.submit(self._encode, self._strip, left))
                self._filled = 0

    def _begin(self, segments: Callable[[], Iterator[bytes]]) -> None:
        """Have a thread write what `segments` gives, unless one does already."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(segments,), daemon=True)
            self._thread.start()

    def _complete(self) -> None:
        self._put(None)
        self._join()
        self._raise_failure()

    def _release(self) -> None:
        self._abandoned.set()
        self._join()
        self._pool.shutdown(cancel_futures=True)

    def _encode(self, strip: np.ndarray, left: int) -> bytes:
        return self._form.encode(self._form.cut(strip, left))

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _put(self, strip: Future[bytes] | None) -> None:
        while True:
            if self._thread is None or not self._thread.is_alive():
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

    def _run(self, segments: Callable[[], Iterator[bytes]]) -> None:
        """The writing thread: tifffile pulls encoded segments until it has them all."""
        order: Literal["<", ">"] = ">" if self._form.big_endian else "<"
        shape: tuple[int, ...] = (self.size.height, self.size.width)
        if self._samples > 1:
            shape = (*shape, self._samples)
        try:
            with tifffile.TiffWriter(self._temporary, bigtiff=self._big, byteorder=order) as tiff:
                tiff.write(self._counted(segments()), shape=shape, dtype=self._dtype, **self._tags)
        except AbandonedError:
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
                    raise AbandonedError from None
                continue
            if strip is None:
                return
            if self._abandoned.is_set():
                raise AbandonedError
            yield strip.result()

    def _counted(self, segments: Iterator[bytes]) -> Iterator[bytes]:
        """The same segments, as long as a classic TIFF has room for them."""
        for data in segments:
            self._encoded_bytes += len(data)
            if not self._big and self._encoded_bytes > _CLASSIC_END:
                raise PictureError(
                    f"{self.path} grows beyond 4 GB, where a classic TIFF ends",
                    "Leave --bigtiff at auto.",
                )
            yield data


def _described(
    meta: Meta, software: str | None, description: str | None, carried: Carried | None
) -> dict[str, Any]:
    """What tifffile is to say about the picture: profile, resolution, and what is carried."""
    # Upright: the pixels were turned when read.
    extra: dict[int, tuple[Any, ...]] = {274: (274, 3, 1, 1, True)}
    if carried is not None:
        for code, kind, block in (
            (_XMP, _BYTE, carried.xmp),
            (_IPTC, _UNDEFINED, carried.iptc),
            (_PHOTOSHOP, _BYTE, carried.photoshop),
        ):
            if block:
                extra[code] = (code, kind, len(block), block, True)
        ours = {
            *(_OWN_TAGS | extra.keys()),
            *([_SOFTWARE] if software else []),
            *([_DESCRIPTION] if description else []),
        }
        extra |= {tag[0]: tag for tag in carried.extratags or () if tag[0] not in ours}
    tags: dict[str, Any] = {
        "software": software or False,
        "description": description,
        "iccprofile": meta.icc,
        "extratags": list(extra.values()),
    }
    if meta.resolution is not None:
        tags["resolution"] = meta.resolution[:2]
        tags["resolutionunit"] = _UNITS[meta.resolution[2]]
    return tags
