"""Pictures out: which container, which depth, and rows from top to bottom into a file.

`resolve` says what will be written for one picture, and refuses what cannot be; `open_writer`
opens it. TIFF and OpenEXR are written as the rows come, the others when all are there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hzcli.core.window import Size
from hzcli.io.meta import Meta
from hzcli.io.writers.choices import (
    FORMATS,
    OutputOptions,
    Resolved,
    check_options,
    expected_suffix,
    resolve,
)
from hzcli.io.writers.colours import StoredColours, stored_colours
from hzcli.io.writers.rows import RowWriter, Writer

if TYPE_CHECKING:
    from hzcli.io.formats.tags import Page
    from hzcli.io.writers.blocks import Carried

__all__ = [
    "FORMATS",
    "OutputOptions",
    "Resolved",
    "RowWriter",
    "Writer",
    "check_options",
    "expected_suffix",
    "open_writer",
    "resolve",
]


def open_writer(
    target: Path,
    size: Size,
    resolved: Resolved,
    *,
    meta: Meta,
    channels: Literal["rgb", "grey"] = "rgb",
    alpha: bool = False,
    overwrite: bool = False,
    software: str | None = None,
    description: str | None = None,
    metadata: Carried | None = None,
    presumed: bytes | None = None,
    finish: Callable[[Path], None] | None = None,
    page: Page | None = None,
) -> RowWriter:
    """Open `target` for the rows of one picture.

    Args:
        target: where the picture goes; its folders are made.
        size: of the picture.
        resolved: what `resolve` found for it.
        meta: the profile that the rows are in, and the resolution; see `colours` for what
            becomes of the profile.
        channels: "grey" stores the one channel that all three are equal to.
        alpha: whether the rows come with an alpha channel; formats without one leave it out.
        overwrite: replace a file that is there.
        software, description: what made the picture, and what it shows.
        metadata: blocks to embed as far as the format has a place (`RowWriter.embeds`).
        presumed: the profile that the rows are in where `meta` has none: embedded where the
            source was known not to be sRGB, and what OpenEXR is converted from.
        finish: called with the temporary path of the complete file before it gets its name.
        page: of the source where it is a TIFF, and where rows that are not recoloured come as
            they are in it: a result in TIFF keeps its form if it can.

    Returns:
        A context manager: left well it finishes the file, left by an exception it removes
        what was written.

    Raises:
        PictureError: the file exists, cannot be written, or needs a library that is missing.
    """
    stored = stored_colours(meta, channels, resolved.format, presumed)
    common: dict[str, Any] = {
        "depth": resolved.depth,
        "channels": stored.channels,
        "convert": stored.convert,
        "alpha": alpha and resolved.holds_alpha,
        "overwrite": overwrite,
        "software": software,
        "carried": metadata,
        "finish": finish,
    }
    if resolved.format == "tiff":
        options = resolved.options
        common |= {"bigtiff": options.bigtiff, "description": description}
        writer: RowWriter = _tiff(target, size, stored, options, page, common)
    elif resolved.format in ("exr", "jxl"):
        from hzcli.io.writers.vfx import ExrWriter, JxlWriter

        if resolved.format == "exr":
            writer = ExrWriter(target, size, stored.meta, half=resolved.half, **common)
        else:
            writer = JxlWriter(target, size, stored.meta, **common)
    else:
        from hzcli.io.writers.held import HeldWriter

        writer = HeldWriter(
            target,
            size,
            stored.meta,
            format=resolved.format,
            quality=resolved.options.quality,
            **common,
        )
    writer.notes.extend(stored.notes)
    return writer


def _tiff(
    target: Path,
    size: Size,
    stored: StoredColours,
    options: OutputOptions,
    page: Page | None,
    common: dict[str, Any],
) -> RowWriter:
    """A writer of TIFF, which copies from the source's file where that has the same form."""
    from hzcli.io.tiff import TiffWriter
    from hzcli.io.writers.tiff_form import kept
    from hzcli.io.writers.verbatim import VerbatimWriter

    form = None
    if page is not None and stored.convert is None and stored.channels == page.layout.channels:
        samples = page.layout.colours + common["alpha"]
        form = kept(page, common["depth"], samples, options.compression, options.tile)
    if page is not None and form is not None:
        return VerbatimWriter(target, size, stored.meta, form=form, page=page, **common)
    return TiffWriter(
        target, size, stored.meta, compression=options.afresh, tile=options.tile, **common
    )
