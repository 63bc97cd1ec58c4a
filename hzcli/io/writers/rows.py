"""What every writer does: rows counted in, a file that appears whole or not at all."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io import atomic

# Converted at a time: what is read and written stays small, however high the bands are.
_CONVERTED_ROWS = 64


class Writer(Protocol):
    """What the engine asks of an output.

    depth: 8 and 16 want uint16 rows, 32 wants float32. wants_alpha: whether `write` wants the
    alpha channel too. Rows are consumed when `write` returns.
    """

    depth: int
    wants_alpha: bool

    def write(self, rows: np.ndarray, alpha: np.ndarray | None = None) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class RowWriter(ABC):
    """Rows of a picture into a file, top to bottom; the file appears when all are there.

    Use as a context manager: leaving it well finishes the file, leaving it by an exception
    removes what was written. Subclasses take rows in `_take`, finish the temporary file in
    `_complete` and let go of everything in `_release`.

    Args:
        path: where the picture goes; missing folders are made.
        size: of the whole picture.
        depth: 8 | 16 | 32.
        channels: "rgb" | "grey", what is stored.
        alpha: whether an alpha channel comes with the rows, and is stored, unassociated.
        overwrite: replace a file that is there.
        convert: rows to the colours that are stored; (h, W, 3) to the same, of one type.
        finish: called with the temporary path of the complete file, before it gets its name.

    Raises:
        PictureError: the file exists, or cannot be written.
    """

    # Blocks of `blocks.Carried` that the container takes.
    embeds: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        path: Path,
        size: Size,
        *,
        depth: int = 16,
        channels: str = "rgb",
        alpha: bool = False,
        overwrite: bool = False,
        convert: Callable[[np.ndarray], np.ndarray] | None = None,
        finish: Callable[[Path], None] | None = None,
    ) -> None:
        self.path, self.size, self.depth = Path(path), size, depth
        self.wants_alpha = alpha
        self.notes: list[str] = []
        self.channels = channels
        self._grey = channels == "grey"
        self._samples = (1 if self._grey else 3) + alpha
        self._overwrite, self._convert, self._finish = overwrite, convert, finish
        self._taken = 0  # rows so far
        self._sealed = self._done = False
        if not overwrite:
            atomic.refuse_existing(self.path)
        try:
            self._temporary = atomic.temporary_beside(self.path)
            self._temporary.touch(exist_ok=False)
        except OSError as error:
            raise self._unwritable(error) from error

    @property
    def _dtype(self) -> np.dtype[Any]:
        """Of the samples that the file holds."""
        return np.dtype({8: np.uint8, 16: np.uint16, 32: np.float32}[self.depth])

    @property
    def _coming(self) -> np.dtype[Any]:
        """Of the rows that `write` takes."""
        return np.dtype(np.float32 if self.depth == 32 else np.uint16)

    def write(self, rows: np.ndarray, alpha: np.ndarray | None = None) -> None:
        """Take the next rows.

        Args:
            rows: (h, W, 3), uint16 for depths 8 and 16, float32 for 32; grey pictures have
                three equal channels, or come as (h, W). May be changed by the caller afterwards.
            alpha: (h, W) of the same type, exactly where `wants_alpha`.

        Raises:
            PictureError: the disk refused.
        """
        width = self.size.width
        fit = rows.shape[1:] == (width, 3) or (self._grey and rows.shape[1:] == (width,))
        if rows.dtype != self._coming or not fit:
            raise ValueError(
                f"rows must be (h, {width}, 3) {self._coming}, got {rows.shape} {rows.dtype}"
            )
        if (alpha is not None) != self.wants_alpha:
            raise ValueError("alpha is given exactly where the writer wants it")
        if alpha is not None and (alpha.dtype, alpha.shape) != (rows.dtype, rows.shape[:2]):
            raise ValueError(
                f"alpha must be {rows.shape[:2]} {rows.dtype}, got {alpha.shape} {alpha.dtype}"
            )
        if self._taken + len(rows) > self.size.height:
            raise ValueError(f"more than {self.size.height} rows")
        if self._convert is None:
            self._add(rows, alpha)
            return
        for start in range(0, len(rows), _CONVERTED_ROWS):
            part = slice(start, start + _CONVERTED_ROWS)
            self._add(self._convert(rows[part]), None if alpha is None else alpha[part])

    def _add(self, rows: np.ndarray, alpha: np.ndarray | None) -> None:
        if len(rows):
            self._take(rows, alpha)
        self._taken += len(rows)

    def seal(self) -> None:
        """Finish the file, but for its name: all that is likely to fail. `close` does the rest.

        Raises:
            PictureError: the disk refused. ValueError: rows are missing.
        """
        if self._done or self._sealed:
            return
        if self._taken != self.size.height:
            raise ValueError(f"{self._taken} of {self.size.height} rows were written")
        try:
            self._complete()
            self._release()
            if self._finish is not None:
                self._finish(self._temporary)
        except OSError as error:
            raise self._unwritable(error) from error
        self._sealed = True

    def close(self) -> None:
        """Finish the file and give it its name; after `abort` or a second time, do nothing."""
        if self._done:
            return
        try:
            self.seal()
            try:
                atomic.settle(self._temporary, self.path, overwrite=self._overwrite)
            except OSError as error:
                raise self._unwritable(error) from error
            self._done = True
        finally:
            self.abort()

    def abort(self) -> None:
        """Give the picture up and remove what was written; after `close`, do nothing."""
        if self._done:
            return
        self._done = True
        try:
            self._release()
        finally:
            atomic.drop(self._temporary)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @abstractmethod
    def _take(self, rows: np.ndarray, alpha: np.ndarray | None) -> None:
        """Consume rows that were checked."""

    @abstractmethod
    def _complete(self) -> None:
        """Make the temporary file complete, and close it."""

    def _release(self) -> None:  # noqa: B027 (some hold nothing)
        """Let go of threads, files and memory; may be called more than once."""

    def _unwritable(self, error: OSError) -> PictureError:
        return PictureError(
            f"{self.path} cannot be written: {error.strerror or error}",
            "Check the free space and the rights of the output folder.",
        )


def gather(out: np.ndarray, rows: np.ndarray, alpha: np.ndarray | None) -> None:
    """Put rows and alpha into samples as they are stored.

    Args:
        out: (h, W, samples) of the rows' type, or uint8 for rows of uint16; filled.
        rows: (h, W, 3) or (h, W). alpha: (h, W) or None; the last of the samples.
    """
    colours = out.shape[-1] - (alpha is not None)
    if rows.ndim == 2:
        rows = rows[..., None]
    _put(out[..., :colours], rows[..., :colours])
    if alpha is not None:
        _put(out[..., -1], alpha)


def _put(out: np.ndarray, codes: np.ndarray) -> None:
    if out.dtype == np.uint8:
        # The nearest of the 8-bit codes, which lie at multiples of 257.
        np.floor_divide(codes.astype(np.uint32) + 128, 257, out=out, casting="unsafe")
    else:
        np.copyto(out, codes)


def raw_bytes(size: Size, samples: int, dtype: np.dtype[Any]) -> int:
    """Bytes of a picture before compression."""
    return math.prod((size.height, size.width, samples, dtype.itemsize))
