"""What a file is, from its head: the facts, what its samples mean, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hzcli.errors import PictureError
from hzcli.io.formats.layout import Layout
from hzcli.io.formats.sniff import sniff
from hzcli.io.meta import Header, Meta

if TYPE_CHECKING:
    from hzcli.io.formats.tags import Page


class Source(Protocol):
    """Stored pixels: (h, w, samples), not turned."""

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Found:
    """A file whose head was read: what it says, what its samples mean, where they come from."""

    header: Header
    meta: Meta
    layout: Layout
    held_bytes: int = 0  # that full-width bands need where the file is read piece by piece
    rows: Callable[[], Source] | None = None  # None where it must be decoded whole
    decode: Callable[[], np.ndarray] | None = None
    # Instead of `decode`: rows once, from top to bottom.
    forward: Callable[[], Source] | None = None
    page: Page | None = None  # of a TIFF


def examine(path: Path) -> Found:
    """Read the head of any file that hz reads; no pixel is decoded.

    Raises:
        PictureError: unreadable, not a picture, or of a kind that hz does not read at all.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        hint = "Check the path." if isinstance(error, FileNotFoundError) else ""
        raise PictureError(f"{path} cannot be opened: {error.strerror}", hint) from error
    kind = sniff(path, head)
    if kind in ("tiff", "psd"):
        found = _examine_paged(path, kind)
    elif kind == "exr":
        from hzcli.io.formats import exr

        part = exr.examine(path)
        row = part.header.stored.width * len(part.channels) * 4
        held = row * (part.tile.height if part.tile else 1)
        found = Found(part.header, part.meta, part.layout, 2 * held, lambda: exr.ExrRows(part))
    else:
        found = _examine_whole(path, kind)
    if found.header.channels != "cmyk":
        return found
    note = "its inks (CMYK) are converted to sRGB"
    return replace(found, header=replace(found.header, notes=(*found.header.notes, note)))


def _examine_paged(path: Path, kind: str) -> Found:
    """TIFF and PSD: strips or tiles, but for a PSD that is one deflated stream."""
    from hzcli.io.formats import psd, tags
    from hzcli.io.formats.segments import TiffRows

    if kind == "tiff":
        page = tags.examine(path)
    else:
        document = psd.examine(path)
        page = document.page
        if document.deflated_at is not None:
            return Found(page.header, page.meta, page.layout, decode=lambda: psd.decode(document))
    found = Found(page.header, page.meta, page.layout, page.kept_bytes, lambda: TiffRows(page))
    return replace(found, page=page) if kind == "tiff" else found


def _examine_whole(path: Path, kind: str) -> Found:
    """What codecs give only as a whole; they expand palettes and put transparency last."""
    associated = False
    if kind in ("heic", "avif"):
        from hzcli.io.formats import heif

        header, meta = heif.examine(path, kind)
        decode, associated = heif.decode, heif.associated(header)
    elif kind == "jxl":
        from hzcli.io.formats import heif, jxl

        header, meta = jxl.examine(path)
        decode, associated = jxl.decode, heif.associated(header)
    else:
        from hzcli.io.formats import raster

        header, meta = raster.examine(path, kind)
        decode = raster.decode
    channels = {"rgba": "rgb", "greya": "grey"}.get(header.channels, header.channels)
    alpha_at = None if not header.alpha else 1 if channels == "grey" else 3
    layout = Layout(channels, alpha_at, header.alpha, associated=associated, icc=meta.icc)
    found = Found(header, meta, layout, decode=lambda: decode(header))
    return replace(found, forward=_png_rows(header)) if kind == "png" else found


def _png_rows(header: Header) -> Callable[[], Source] | None:
    from hzcli.io.formats import png_rows

    return (lambda: png_rows.PngRows(header)) if png_rows.readable(header) else None
