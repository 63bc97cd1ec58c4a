"""Photoshop documents in: the flattened picture that Photoshop stores behind the layers.

Adobe Photoshop File Formats Specification (2019). The flattened picture is planar, raw or
PackBits, row after row: what a planar TIFF in strips is, and so it is read as one, piece by piece.
Layers are never composited again; psd-tools reads the mask of one.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np

from hzcli.core.window import Size
from hzcli.errors import MaskError, PictureError
from hzcli.io.formats.faults import BROKEN, check_decoded, missing, too_large, unreadable
from hzcli.io.formats.layout import Layout
from hzcli.io.formats.tags import NONE, Page, check_extent
from hzcli.io.meta import Header, Meta, profile, read_exif, resolution

_MODES = {0: "bilevel", 1: "grey", 2: "palette", 3: "rgb", 4: "cmyk", 8: "grey"}
_OTHER_MODES = {7: "Multichannel", 9: "Lab"}
_CONVERT = "In Photoshop: Image > Mode > RGB Color, then save again."
_PACKBITS = 32773
# Rows that are decoded together: PackBits of a row follow those of the row before.
_STRIP = 64
_LARGEST_BLOCK = 64 << 20


@dataclass(frozen=True)
class Document:
    """A page to read like one of TIFF, or where the deflated pixels begin."""

    page: Page
    deflated_at: int | None = None
    predicted: bool = False


def examine(path: Path) -> Document:
    """Read the head of a PSD or PSB file; no pixel is decoded.

    Raises:
        PictureError: damaged, cut short, in Lab or Multichannel, or without a flattened picture.
    """
    try:
        with open(path, "rb") as file:
            found = _examine(path, file)
    except BROKEN as error:
        raise unreadable(path, "psd", error) from error
    if found.deflated_at is None:
        check_extent(found.page)
    return found


def _examine(path: Path, file: BinaryIO) -> Document:
    version, count, height, width, bits, mode = struct.unpack(">4xH6xHIIHH", _take(file, 26))
    big = version == 2
    if mode not in _MODES:
        name = _OTHER_MODES.get(mode, f"colour mode {mode}")
        raise PictureError(f"{path} is a Photoshop document in {name}, expected RGB", _CONVERT)
    channels, most = _MODES[mode], 300_000 if big else 30_000
    base = {"rgb": 3, "cmyk": 4}.get(channels, 1)
    if not (0 < height <= most and 0 < width <= most and base <= count <= 56):
        raise ValueError(f"{width} x {height} pixels in {count} channels")
    if bits not in ((1,) if mode == 0 else (8, 16, 32)) or (mode == 2 and bits != 8):
        raise ValueError(f"{bits} bits a channel")
    table = _take(file, _length(file))
    palette = np.frombuffer(table[:768], np.uint8).reshape(3, 256).T if mode == 2 else None
    meta, flattened = _resources(_take(file, _length(file)))
    layered, transparent = _layers(file, big)
    if layered and not flattened:
        raise PictureError(
            f"{path} has no flattened picture, only layers",
            "In Photoshop: save it again with Maximize Compatibility switched on.",
        )
    layout, notes = _layout(channels, base, count, transparent, palette, meta)
    header = Header(
        path,
        Size(height, width),
        bits if bits > 8 else 8,
        {"rgb": "rgba", "grey": "greya"}.get(channels, channels) if count > base else channels,
        1,  # Photoshop turns pixels, it does not tag them
        "psd",
        notes=notes,
        alpha=layout.transparent,
    )
    coding, start = struct.unpack(">H", _take(file, 2))[0], file.tell()
    if coding not in (0, 1, 2, 3):
        raise ValueError(f"compression {coding}")
    row = -(-width * bits // 8)
    if coding == 1:
        offsets, lengths = _packed_strips(file, start, count, height, big)
    else:
        tops = range(0, height, _STRIP)
        offsets = [start + (c * height + top) * row for c in range(count) for top in tops]
        lengths = [min(_STRIP, height - top) * row for _ in range(count) for top in tops]
    page = Page(
        header=header,
        meta=meta,
        layout=layout,
        samples=count,
        bits=bits,
        floating=bits == 32,
        planar=True,
        big_endian=True,
        inverted=mode in (0, 4),  # black is 1, and no ink is full scale
        reversed_bits=False,
        compression=_PACKBITS if coding == 1 else NONE,
        predictor=1,
        segment=Size(min(_STRIP, height), width),
        tiled=False,
        offsets=tuple(offsets),
        lengths=tuple(lengths),
    )
    return Document(page, start if coding > 1 else None, coding == 3)


def _layout(
    channels: str,
    base: int,
    count: int,
    transparent: bool,
    palette: np.ndarray | None,
    meta: Meta,
) -> tuple[Layout, tuple[str, ...]]:
    transparent = transparent and count > base
    notes = ["the flattened picture is taken, layers are not carried"]
    if count > base + transparent:
        notes.append("it has further channels (saved selections?), which are not carried")
    layout = Layout(
        channels,
        base if count > base else None,
        transparent,
        matted=transparent,
        palette=palette,
        icc=meta.icc,
    )
    return layout, tuple(notes)


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError("it ends inside its header")
    return data


def _length(file: BinaryIO) -> int:
    """The length of a section, which is small enough to be read whole."""
    length = struct.unpack(">I", _take(file, 4))[0]
    if length > _LARGEST_BLOCK:
        raise ValueError(f"a section of {length} bytes before its layers")
    return int(length)


def _resources(data: bytes) -> tuple[Meta, bool]:
    """Profile, resolution and colours among the image resources; whether there is a picture."""
    icc, density, colour, flattened, at = None, None, None, True, 0
    while at + 12 <= len(data):
        number = struct.unpack_from(">4xH", data, at)[0]
        at += 6 + (data[at + 6] + 2) // 2 * 2  # a name, padded
        size = struct.unpack_from(">I", data, at)[0]
        body = data[at + 4 : at + 4 + size]
        at += 4 + (size + 1) // 2 * 2
        if number == 1005 and len(body) >= 12:
            x, y = struct.unpack_from(">I4xI", body)  # always per inch, whatever unit is shown
            density = resolution(x / 65536, y / 65536, "inch")
        elif number == 1039:
            icc = profile(body)
        elif number == 1058:
            colour = read_exif(body).colour
        elif number == 1057 and len(body) >= 5:
            flattened = bool(body[4])
    return Meta(icc, density, colour), flattened


def _layers(file: BinaryIO, big: bool) -> tuple[bool, bool]:
    """(whether there are layers, whether the flattened picture has transparency); file moved on.

    The count of layers is negative where it has. With 16 and 32 bits the layers lie in a
    tagged block, and a block "Mt16" or "Mt32" says the same.
    """
    form, wide = (">Q", 8) if big else (">I", 4)
    length = struct.unpack(form, _take(file, wide))[0]
    end = file.tell() + length
    if not length:
        return False, False
    inner = struct.unpack(form, _take(file, wide))[0]
    if inner:
        count = struct.unpack(">h", _take(file, 2))[0]
        file.seek(inner - 2, 1)
        layered, transparent = count != 0, count < 0
    else:
        layered = transparent = False
    if end - file.tell() >= 4:
        file.seek(struct.unpack(">I", _take(file, 4))[0], 1)  # the global mask
    while end - file.tell() >= 12:
        signature, key = struct.unpack(">4s4s", _take(file, 8))
        if signature not in (b"8BIM", b"8B64"):
            break
        long = big and (signature == b"8B64" or key in _LONG_KEYS)
        size = struct.unpack(">Q" if long else ">I", _take(file, 8 if long else 4))[0]
        after = file.tell() + (size + 3) // 4 * 4
        if key in (b"Lr16", b"Lr32", b"Layr") and size >= 2:
            count = struct.unpack(">h", _take(file, 2))[0]
            layered, transparent = layered or count != 0, transparent or count < 0
        transparent = transparent or key in (b"Mtrn", b"Mt16", b"Mt32")
        file.seek(after)
    file.seek(end)
    return layered, transparent


_LONG_KEYS = {
    *(b"LMsk", b"Lr16", b"Lr32", b"Layr", b"Mt16", b"Mt32", b"Mtrn", b"Alph"),
    *(b"FMsk", b"lnk2", b"FEid", b"FXid", b"PxSD"),
}


def _packed_strips(
    file: BinaryIO, start: int, count: int, height: int, big: bool
) -> tuple[list[int], list[int]]:
    """Where the PackBits of every 64 rows of a channel lie, from the table of rows."""
    kind = np.dtype(">u4" if big else ">u2")
    table = _take(file, count * height * kind.itemsize)
    rows = np.frombuffer(table, kind).astype(np.int64).reshape(count, height)
    ends = np.concatenate([[0], np.cumsum(rows.reshape(-1))]) + start + len(table)
    tops = np.arange(0, height, _STRIP)
    first = (np.arange(count)[:, None] * height + tops).reshape(-1)
    last = (np.arange(count)[:, None] * height + np.minimum(tops + _STRIP, height)).reshape(-1)
    return ends[first].tolist(), (ends[last] - ends[first]).tolist()


def decode(document: Document) -> np.ndarray:
    """All pixels of a document whose flattened picture is one deflated stream, (h, w, samples).

    Raises:
        PictureError: the file is damaged.
    """
    page, at = document.page, document.deflated_at
    header, bits = page.header, page.bits
    assert at is not None
    height, width = header.size.height, header.size.width
    row = -(-width * bits // 8)
    needed = page.samples * height * row
    try:
        check_decoded(header, page.samples, header.path.stat().st_size)
        stream = zlib.decompressobj()
        data = stream.decompress(header.path.read_bytes()[at:], needed)
        stream.decompress(stream.unconsumed_tail, 1)  # its checksum
        if len(data) < needed or not stream.eof:
            raise ValueError(f"{len(data)} of {needed} bytes of pixels")
        rows = np.frombuffer(data, np.uint8).reshape(-1, row)
        if bits == 1:
            planes = np.unpackbits(rows, axis=1, count=width) * np.uint8(255)
        elif document.predicted and bits == 32:
            planes = np.empty((len(rows), width), np.float32)
            imagecodecs.floatpred_decode(rows.view(np.float32), axis=-1, out=planes)
        else:
            planes = rows.view(f">{'f' if bits == 32 else 'u'}{bits // 8}").astype(page.dtype)
            if document.predicted:
                imagecodecs.delta_decode(planes, axis=-1, out=planes)
    except (*BROKEN, zlib.error) as error:
        raise unreadable(header.path, "psd", error) from error
    except MemoryError as error:
        raise too_large(header) from error
    if page.inverted:
        planes = 1 - planes if bits == 32 else np.invert(planes)
    return np.ascontiguousarray(np.moveaxis(planes.reshape(page.samples, height, width), 0, 2))


def psd_layer_mask(path: Path, layer_name: str) -> np.ndarray:
    """The mask of a named layer, or its transparency where it has none, on the whole canvas.

    Args:
        path: PSD or PSB.
        layer_name: as the Layers panel shows it, groups included; the topmost of equal names.

    Returns:
        (h, w) uint8, uint16 or float32, in the document's depth.

    Raises:
        MaskError: there is no such layer, or it has neither; what there is is listed.
        PictureError: psd-tools is not installed, or the file is damaged.
    """
    page = examine(path).page
    try:
        from psd_tools import PSDImage
    except ImportError as error:
        raise missing(path, "psd", "psd-tools", "psd") from error
    size, dtype = page.header.size, page.dtype
    full = 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)
    try:
        document = PSDImage.open(io.BytesIO(path.read_bytes()))
        layers = list(document.descendants())
        layer = next((one for one in reversed(layers) if one.name == layer_name), None)
        if layer is None:
            names = ", ".join(dict.fromkeys(one.name for one in reversed(layers))) or "none"
            raise MaskError(
                f"{path} has no layer named {layer_name!r}", f"Its layers are: {names}."
            )
        mask = layer.mask if layer.has_mask() else None
        codes = layer.numpy("shape" if mask is None else "mask")
        if codes is None:
            raise MaskError(
                f"layer {layer_name!r} of {path} has no mask and no transparency",
                "Add a layer mask to it in Photoshop, or give a mask file.",
            )
        box: Any = layer if mask is None else mask
        outside = 0.0 if mask is None else mask.background_color / 255
        canvas = np.full((size.height, size.width), outside * full, dtype)
        _paste(canvas, codes[..., 0] * full, int(box.top), int(box.left))
    except BROKEN as error:
        raise unreadable(path, "psd", error) from error
    except MemoryError as error:
        raise too_large(page.header) from error
    return canvas


def _paste(canvas: np.ndarray, codes: np.ndarray, top: int, left: int) -> None:
    """Put `codes` at a place that may lie partly outside `canvas`."""
    height, width = canvas.shape
    y, x = max(top, 0), max(left, 0)
    y_end, x_end = min(top + codes.shape[0], height), min(left + codes.shape[1], width)
    if y < y_end and x < x_end:
        part = codes[y - top : y_end - top, x - left : x_end - left]
        canvas[y:y_end, x:x_end] = np.rint(part) if canvas.dtype.kind == "u" else part
