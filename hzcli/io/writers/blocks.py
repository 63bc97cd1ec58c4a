"""What is embedded beside the pixels, and the places that containers have for it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Protocol

from hzcli.io.meta import Meta

_EXIF_MARK = b"Exif\0\0"
# A JPEG segment holds 65533 bytes; Pillow splits profiles over several, other blocks it cannot.
JPEG_SEGMENT = 65533
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"


class Carried(Protocol):
    """Blocks to embed, each None where there is none.

    exif: a TIFF structure, with or without the mark that JPEG puts before it. xmp: a packet of
    UTF-8. iptc: IPTC-IIM records. photoshop: image resources. extratags: (code, type, count,
    value, once) as tifffile takes them.
    """

    @property
    def exif(self) -> bytes | None: ...
    @property
    def xmp(self) -> bytes | None: ...
    @property
    def iptc(self) -> bytes | None: ...
    @property
    def photoshop(self) -> bytes | None: ...
    @property
    def extratags(self) -> Sequence[tuple[Any, ...]] | None: ...


def bare_exif(exif: bytes | None) -> bytes | None:
    """The TIFF structure alone: what PNG's eXIf chunk and WebP's EXIF chunk hold."""
    return exif.removeprefix(_EXIF_MARK) if exif else None


def jpeg_exif(exif: bytes | None) -> bytes | None:
    """The same with JPEG's mark before it (Exif 2.32, section 4.7.2)."""
    bare = bare_exif(exif)
    return _EXIF_MARK + bare if bare else None


def fits_jpeg(exif: bytes | None, xmp: bytes | None) -> tuple[bytes | None, bytes | None]:
    """The two blocks, None for one that is too long for a segment."""
    if exif is not None and len(exif) > JPEG_SEGMENT:
        exif = None
    if xmp is not None and len(xmp) > JPEG_SEGMENT - len(_XMP_MARK):
        xmp = None
    return exif, xmp


def dots_per_inch(meta: Meta) -> tuple[float, float] | None:
    """The resolution per inch, None where it is unknown or has no unit."""
    if meta.resolution is None or meta.resolution[2] == "none":
        return None
    x, y, unit = meta.resolution
    scale = 2.54 if unit == "centimetre" else 1.0
    return x * scale, y * scale


def png_chunks(
    meta: Meta, software: str | None, exif: bytes | None, xmp: bytes | None, grey: bool
) -> bytes:
    """The chunks that say what a PNG's pixels mean, in the order that belongs after IHDR.

    Pillow composes them, around one pixel of no interest: real pixels never pass through it.
    """
    from PIL import Image, PngImagePlugin

    text = PngImagePlugin.PngInfo()
    if software:
        text.add_text("Software", software)
    if xmp:
        # XMP part 3, section 1.1.5: an uncompressed iTXt chunk of this keyword.
        text.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    options: dict[str, Any] = {"pnginfo": text}
    if meta.icc:
        options["icc_profile"] = meta.icc
    if exif:
        options["exif"] = bare_exif(exif)
    dots = dots_per_inch(meta)
    if dots:
        options["dpi"] = dots
    held = io.BytesIO()
    Image.new("L" if grey else "RGB", (1, 1)).save(held, "PNG", **options)
    data = held.getvalue()
    at = PNG_HEAD
    chunks = []
    # PNG, section 5.3: length, type, data, check sum.
    while data[at + 4 : at + 8] != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] != b"IDAT":
            chunks.append(data[at:end])
        at = end
    return b"".join(chunks)


# Signature and IHDR, which come first in every PNG (PNG, sections 5.2 and 5.6).
PNG_HEAD = 8 + 12 + 13
