"""Open a composite, a mask or a truth: rows of pixels, upright, in the depth of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hzcli.core.window import Size, Window, bands
from hzcli.errors import MaskError
from hzcli.io.formats import layout as meaning
from hzcli.io.formats.faults import check_pixels
from hzcli.io.formats.found import Found, Source, examine
from hzcli.io.formats.held import in_pieces
from hzcli.io.formats.held import source as stored_pixels
from hzcli.io.meta import Header, Meta, orient, stored_box

if TYPE_CHECKING:
    from hzcli.io.formats.tags import Page

__all__ = ["Header", "Meta", "RowReader", "open_mask", "open_picture", "orient", "peek"]

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

    `read` returns (h, w, 3) for a picture and (h, w) for a mask, in the depth of the file: uint8,
    uint16, or float32, whose values may leave 0..1. `read_alpha` returns (h, w) in that depth, if
    `has_alpha`. It may be a view of what the reader keeps: do not write to it. `page` says how
    the pixels of a TIFF lie, None for others.
    """

    path: Path
    size: Size
    depth: int
    meta: Meta
    header: Header
    has_alpha: bool
    page: Page | None

    def read(self, window: Window) -> np.ndarray: ...

    def read_alpha(self, window: Window) -> np.ndarray: ...

    def close(self) -> None: ...

    def __enter__(self) -> RowReader: ...

    def __exit__(self, *error: object) -> None: ...


def peek(path: Path) -> Header:
    """What the head of a file says; no pixel is decoded.

    Raises:
        PictureError: unreadable, not a picture, or of a kind that hz does not read at all.
    """
    return examine(Path(path)).header


def open_picture(
    path: Path, *, budget_bytes: int | None = None, max_pixels: int | None = None
) -> RowReader:
    """Open a picture: RGB, and transparency beside it.

    Grey, palette and 1-bit pictures are expanded to RGB, CMYK is converted to sRGB;
    `reader.header.notes` says what a user should know of it.

    Args:
        path: JPEG, PNG, TIFF, WebP, PSD, PSB, HEIC, AVIF, JPEG XL or OpenEXR.
        budget_bytes: decoded pixels to keep in memory at most (256 MiB if None); what must be
            decoded whole and is larger goes to a file in the temporary folder.
        max_pixels: the largest picture that is opened (2 gigapixels if None).

    Raises:
        PictureError: unreadable. Damage inside the pixels shows at the first read.
        BudgetError: larger than `max_pixels`, or than the memory where it is decoded whole.
    """
    found = in_pieces(examine(Path(path)), budget_bytes)
    check_pixels(found.header, max_pixels)
    return _Reader(found, stored_pixels(found, budget_bytes))


def open_mask(
    path: Path,
    *,
    source: str = "auto",
    budget_bytes: int | None = None,
    max_pixels: int | None = None,
) -> RowReader:
    """Open a soft mask: `read` gives (h, w), 0 for background, full scale for foreground.

    Args:
        path: any picture that `open_picture` reads.
        source: "auto" takes grey, RGB or palette with equal channels, 1 bit; with alpha the
            colours if they vary, else the alpha. "alpha" takes the alpha channel.
        budget_bytes, max_pixels: as for `open_picture`.

    Raises:
        MaskError: there is no alpha, or the colours are no grey (at the first read).
        PictureError: unreadable.
    """
    if source not in ("auto", "alpha"):
        raise ValueError(f'source must be "auto" or "alpha", not {source!r}')
    found = in_pieces(examine(Path(path)), budget_bytes)
    check_pixels(found.header, max_pixels)
    if source == "alpha" and found.layout.alpha_at is None:
        raise MaskError(
            f"{path} is {_KINDS[found.header.channels]} and has no alpha channel to take the mask "
            "from",
            "Save it with transparency, or give a mask file.",
        )
    if source == "auto" and found.header.channels == "cmyk":
        raise MaskError(f"{path} is CMYK, expected a grey mask", "Save the mask as grey.")
    return _MaskReader(found, source, budget_bytes)


class _Reader:
    """Turns stored pixels upright and hands on colours and transparency."""

    def __init__(self, found: Found, source: Source) -> None:
        header = found.header
        self.path, self.size, self.depth, self.meta = (
            header.path,
            header.size,
            header.depth,
            found.meta,
        )
        self.header, self.has_alpha, self.page = header, header.alpha, found.page
        self._source, self._layout = source, found.layout

    def read(self, window: Window) -> np.ndarray:
        """Pixels of `window`, which belongs to a picture of this reader's size."""
        return self._turned(window, self._pick)

    def read_alpha(self, window: Window) -> np.ndarray:
        """(h, w) transparency of `window`: 0 is clear, full scale (1.0) is solid."""
        assert self.has_alpha, f"{self.path} has no transparency"
        return self._turned(window, lambda stored: meaning.alpha(stored, self._layout))

    def _pick(self, stored: np.ndarray) -> np.ndarray:
        return meaning.colours(stored, self._layout)

    def _turned(self, window: Window, pick: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        assert window.size == self.size, f"window of {window.size} read from {self.size}"
        stored = self._source.read(*stored_box(window, self.header.orientation))
        return orient(pick(stored), self.header.orientation)

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _MaskReader(_Reader):
    """One channel; which one may need a look at the whole mask first."""

    def __init__(self, found: Found, source: str, budget_bytes: int | None) -> None:
        self._alpha_named = source == "alpha"
        self._alpha_at = found.layout.alpha_at
        self._palette = found.layout.palette
        self._chosen: Callable[[np.ndarray], np.ndarray] | None = None
        self._layout, self.header = found.layout, found.header
        self.path, self.depth = found.header.path, found.header.depth
        if found.rows is None:
            # Decoded whole: one channel is kept, the others are freed at once.
            stored = stored_pixels(found, budget_bytes, keep=self._collapse)
            self._chosen = lambda pixels: pixels[..., 0]
        else:
            stored = stored_pixels(found, budget_bytes)
        super().__init__(found, stored)
        self.has_alpha = False

    def _collapse(self, pixels: np.ndarray) -> np.ndarray:
        """(h, w, c) of a whole mask to (h, w, 1)."""
        at = self._alpha_at
        if at is not None and self._takes_alpha(at, _bands_of(pixels)):
            return np.ascontiguousarray(pixels[..., at : at + 1])
        return np.concatenate([self._grey(band) for band in _bands_of(pixels)])[..., None]

    def _pick(self, stored: np.ndarray) -> np.ndarray:
        if self._chosen is None:
            size, at = self.header.stored, self._alpha_at
            rows = (
                self._source.read(band.top, band.bottom, 0, size.width)
                for band in bands(size, _SCAN_ROWS)
            )
            if at is not None and self._takes_alpha(at, rows):
                self._chosen = lambda pixels: pixels[..., at]
            else:
                self._chosen = self._grey
        return self._chosen(stored)

    def _takes_alpha(self, alpha_at: int, rows: Iterable[np.ndarray]) -> bool:
        """Whether alpha is the mask: it was named, or the colours are the same everywhere."""
        if self._alpha_named:
            return True
        first: np.ndarray | None = None
        for pixels in rows:
            colours = pixels[..., : self._layout.colours]
            first = colours[0, 0].copy() if first is None else first
            if (colours != first).any():
                return False
        return True

    def _grey(self, stored: np.ndarray) -> np.ndarray:
        """(h, w, c) to (h, w), or MaskError where the colours are no grey."""
        if self._palette is None and self._layout.colours == 1:
            return stored[..., 0]
        found = meaning.colours(stored, self._layout)
        red, green, blue = found[..., 0], found[..., 1], found[..., 2]
        most = np.maximum(np.maximum(red, green), blue)
        spread = (most - np.minimum(np.minimum(red, green), blue)).max(initial=0)
        full, unit = {8: (255, 1), 16: (65535, 257), 32: (1, 1 / 255)}[self.depth]
        if spread > _SAME_CODES * unit:
            hint = "Save the mask as grey (white is the foreground), or pair another file."
            if self._alpha_at is not None:
                hint = "If its transparency is the mask, pass --mask-from alpha."
            raise MaskError(
                f"{self.path} is coloured: its channels differ by up to {spread:.5g} of {full}, "
                "expected a grey mask",
                hint,
            )
        return green


def _bands_of(pixels: np.ndarray) -> Iterator[np.ndarray]:
    for top in range(0, len(pixels), _SCAN_ROWS):
        yield pixels[top : top + _SCAN_ROWS]
