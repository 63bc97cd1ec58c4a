"""Open a composite, a mask or a truth: rows of pixels, upright, in the depth of the file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from hzcli.core.window import Size, Window, bands
from hzcli.errors import MaskError, PictureError
from hzcli.io import raster, tags
from hzcli.io.meta import Header, Meta, orient, stored_box
from hzcli.io.scratch import TILE, Scratch
from hzcli.io.segments import TiffRows
from hzcli.io.tags import Page

__all__ = ["Header", "Meta", "RowReader", "open_mask", "open_picture", "orient", "peek"]

# Decoded pixels that a reader may keep in memory when the caller does not say.
_DEFAULT_BUDGET = 256 << 20
# Channels of a mask that differ by no more than this, in 8-bit codes, are the same (JPEG noise).
_SAME_CODES = 2
_SCAN_ROWS = 256

_KINDS = {
    "rgb": "RGB",
    "rgba": "RGB with alpha",
    "grey": "grey",
    "greya": "grey with alpha",
    "palette": "a palette (indexed) picture",
    "cmyk": "CMYK",
    "bilevel": "black and white (1 bit)",
}


class RowReader(Protocol):
    """Pixels of one file, window by window.

    `read` returns (h, w, 3) uint8 or uint16 for a picture and (h, w) for a mask, in the depth
    of the file. It may be a view of what the reader keeps: do not write to it.
    """

    path: Path
    size: Size
    depth: int
    meta: Meta

    def read(self, window: Window) -> np.ndarray: ...

    def close(self) -> None: ...

    def __enter__(self) -> RowReader: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Source(Protocol):
    """Stored pixels: (h, w, samples), not turned."""

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray: ...

    def close(self) -> None: ...


def peek(path: Path) -> Header:
    """What the head of a file says; no pixel is decoded.

    Raises:
        PictureError: unreadable, not a picture, or of a kind that hz does not read at all.
    """
    return _examine(Path(path))[0]


def open_picture(path: Path, *, budget_bytes: int | None = None) -> RowReader:
    """Open an RGB picture. Alpha, if there is any, is left out.

    Args:
        path: JPEG, PNG, TIFF or WebP.
        budget_bytes: decoded pixels to keep in memory at most (256 MiB if None); what must be
            decoded whole and is larger goes to a file in the temporary folder.

    Raises:
        PictureError: unreadable, or not RGB. Damage inside the pixels shows at the first read.
    """
    header, meta, page = _examine(Path(path))
    if header.channels not in ("rgb", "rgba"):
        hint = {
            "cmyk": "Convert it to RGB in a photo editor, with its profile, and run again.",
            "palette": "Save it as RGB (not indexed colour) and run again.",
        }.get(header.channels, "Save it as RGB and run again.")
        raise PictureError(f"{path} is {_KINDS[header.channels]}, expected RGB", hint)
    source = _source(header, page, budget_bytes, keep=_rgb)
    return _Reader(header, meta, source, _rgb)


def open_mask(path: Path, *, source: str = "auto", budget_bytes: int | None = None) -> RowReader:
    """Open a soft mask: `read` gives (h, w), 0 for background, full scale for foreground.

    Args:
        path: JPEG, PNG, TIFF or WebP.
        source: "auto" takes grey, RGB or palette with equal channels, 1 bit; with alpha the
            colours if they vary, else the alpha. "alpha" takes the alpha channel.
        budget_bytes: as for `open_picture`.

    Raises:
        MaskError: there is no alpha, or the colours are no grey (at the first read).
        PictureError: unreadable.
    """
    if source not in ("auto", "alpha"):
        raise ValueError(f'source must be "auto" or "alpha", not {source!r}')
    header, meta, page = _examine(Path(path))
    if source == "alpha" and header.channels not in ("rgba", "greya"):
        raise MaskError(
            f"{path} is {_KINDS[header.channels]} and has no alpha channel to take the mask from",
            "Save it with transparency, or give a mask file.",
        )
    if header.channels == "cmyk":
        raise MaskError(f"{path} is CMYK, expected a grey mask", "Save the mask as grey.")
    return _MaskReader(header, meta, page, source, budget_bytes)


def _examine(path: Path) -> tuple[Header, Meta, Page | None]:
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        hint = "Check the path." if isinstance(error, FileNotFoundError) else ""
        raise PictureError(f"{path} cannot be opened: {error.strerror}", hint) from error
    kind = raster.sniff(path, head)
    if kind == "tiff":
        page = tags.examine(path)
        return page.header, page.meta, page
    return *raster.examine(path, kind), None


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


def _source(
    header: Header,
    page: Page | None,
    budget_bytes: int | None,
    keep: Callable[[np.ndarray], np.ndarray],
) -> _Source:
    """Stored pixels of a file; where they are held, only the channels of `keep` are."""
    budget = _DEFAULT_BUDGET if budget_bytes is None else budget_bytes
    if page is None:
        return _Whole(lambda: _hold(keep(raster.decode(header)), budget))
    # Turning by a quarter makes a band of rows out of a band of columns, which meets every
    # strip; and one huge compressed strip would be decoded for every band.
    bytes_whole = header.stored.height * page.row_bytes
    if header.orientation >= 5 or page.held_bytes * 2 > max(budget, 1):
        return _Whole(lambda: _gather(page, keep, budget, bytes_whole))
    return TiffRows(page)


def _hold(pixels: np.ndarray, budget: int) -> np.ndarray | Scratch:
    """Decoded pixels, moved to a scratch file if they are larger than `budget` bytes."""
    if pixels.nbytes <= budget:
        return np.ascontiguousarray(pixels)
    scratch = Scratch(Size(*pixels.shape[:2]), pixels.shape[2], pixels.dtype)
    scratch.write(0, pixels)
    return scratch


def _gather(
    page: Page, keep: Callable[[np.ndarray], np.ndarray], budget: int, bytes_whole: int
) -> np.ndarray | Scratch:
    """All pixels of a TIFF page, read once from top to bottom."""
    size = page.header.stored
    rows = TiffRows(page)
    held: np.ndarray | Scratch | None = None
    try:
        for band in bands(size, TILE):
            part = keep(rows.read(band.top, band.bottom, 0, size.width))
            if held is None:
                if bytes_whole <= budget:
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


class _Reader:
    """Turns stored pixels upright and hands on the channels that were asked for."""

    def __init__(
        self, header: Header, meta: Meta, source: _Source, pick: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self.path, self.size, self.depth, self.meta = header.path, header.size, header.depth, meta
        self.header = header
        self._source, self._pick = source, pick

    def read(self, window: Window) -> np.ndarray:
        """Pixels of `window`, which belongs to a picture of this reader's size."""
        assert window.size == self.size, f"window of {window.size} read from {self.size}"
        stored = self._source.read(*stored_box(window, self.header.orientation))
        return orient(self._pick(stored), self.header.orientation)

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _MaskReader(_Reader):
    """One channel; which one may need a look at the whole mask first."""

    def __init__(
        self,
        header: Header,
        meta: Meta,
        page: Page | None,
        source: str,
        budget_bytes: int | None,
    ) -> None:
        self._palette = page.palette if page else None
        self._alpha_named = source == "alpha"
        self._alpha_at = {"rgba": 3, "greya": 1}.get(header.channels)
        if page is None:
            # Decoded whole: one channel is kept, the others are freed at once.
            stored = _source(header, page, budget_bytes, keep=self._collapse)
            super().__init__(header, meta, stored, lambda pixels: pixels[..., 0])
        else:
            stored = _source(header, page, budget_bytes, keep=lambda pixels: pixels)
            super().__init__(header, meta, stored, self._choose)

    def _collapse(self, pixels: np.ndarray) -> np.ndarray:
        """(h, w, c) of a whole mask to (h, w, 1)."""
        # A palette expands to RGB, or to RGBA where it has transparent colours.
        alpha_at = {2: 1, 4: 3}.get(pixels.shape[2]) if self._alpha_at is None else self._alpha_at
        if alpha_at is not None and self._takes_alpha(alpha_at, _bands_of(pixels)):
            return np.ascontiguousarray(pixels[..., alpha_at : alpha_at + 1])
        return np.concatenate([self._grey(band) for band in _bands_of(pixels)])[..., None]

    def _choose(self, stored: np.ndarray) -> np.ndarray:
        size, alpha_at = self.header.stored, self._alpha_at
        rows = (
            self._source.read(band.top, band.bottom, 0, size.width)
            for band in bands(size, _SCAN_ROWS)
        )
        if alpha_at is not None and self._takes_alpha(alpha_at, rows):
            self._pick = lambda pixels: pixels[..., alpha_at]
        else:
            self._pick = self._grey
        return self._pick(stored)

    def _takes_alpha(self, alpha_at: int, rows: Iterable[np.ndarray]) -> bool:
        """Whether alpha is the mask: it was named, or the colours are the same everywhere."""
        if self._alpha_named:
            return True
        first: np.ndarray | None = None
        for pixels in rows:
            colours = pixels[..., :alpha_at]
            first = colours[0, 0].copy() if first is None else first
            if (colours != first).any():
                return False
        return True

    def _grey(self, stored: np.ndarray) -> np.ndarray:
        """(h, w, c) to (h, w), or MaskError where the colours are no grey."""
        if self._palette is not None:
            stored = self._palette.T[stored[..., 0]]
        if stored.shape[2] < 3:
            return stored[..., 0]
        red, green, blue = stored[..., 0], stored[..., 1], stored[..., 2]
        most = np.maximum(np.maximum(red, green), blue)
        spread = int((most - np.minimum(np.minimum(red, green), blue)).max(initial=0))
        if spread > _SAME_CODES * (257 if self.depth == 16 else 1):
            hint = "Save the mask as grey (white is the foreground), or pair another file."
            if self._alpha_at is not None:
                hint = "If its transparency is the mask, pass --mask-from alpha."
            raise MaskError(
                f"{self.path} is coloured: its channels differ by up to {spread} of "
                f"{2**self.depth - 1}, expected a grey mask",
                hint,
            )
        return green


def _bands_of(pixels: np.ndarray) -> Iterator[np.ndarray]:
    for top in range(0, len(pixels), _SCAN_ROWS):
        yield pixels[top : top + _SCAN_ROWS]


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., :3]
