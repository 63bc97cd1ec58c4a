"""OpenEXR in: rows as they come, through OpenImageIO.

What is read is the display window, the picture that its maker framed: what the data window lacks
of it is black and transparent, what it has beyond is left out. Alpha is associated in OpenEXR.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io.formats.faults import BROKEN, missing, too_large, unreadable
from hzcli.io.formats.layout import Layout
from hzcli.io.meta import Header, Meta

_SAVE = "Write one part with the channels R, G, B (and A), or Y, scanlines or tiles."
_MOST_PARTS = 1000
# Of BT.709, which files without the attribute have; writers round to five digits.
_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)


@dataclass(frozen=True)
class Part:
    """The part of an OpenEXR file that is read."""

    header: Header
    meta: Meta
    layout: Layout
    number: int
    channels: tuple[int, ...]  # where R, G, B and A, or Y and A, lie in the part
    data: tuple[int, int, int, int]  # top, bottom, left, right of what is stored, in the picture
    tile: Size | None


def _open(path: Path) -> Any:
    try:
        import OpenImageIO
    except ImportError as error:
        raise missing(path, "exr", "OpenImageIO", "vfx") from error
    file = OpenImageIO.ImageInput.open(str(path))
    if file is None or file.format_name() != "openexr":
        raise unreadable(path, "exr", ValueError(OpenImageIO.geterror() or "no OpenEXR inside"))
    return file


def examine(path: Path) -> Part:
    """Read the head of an OpenEXR file; no pixel is decoded.

    Raises:
        PictureError: damaged, deep, without colours; or OpenImageIO is not installed.
    """
    try:
        file = _open(path)
        try:
            return _examine(path, file)
        finally:
            file.close()
    except BROKEN as error:
        raise unreadable(path, "exr", error) from error


def _examine(path: Path, file: Any) -> Part:
    parts = 0
    while file.seek_subimage(parts, 0):
        parts += 1
        if parts > _MOST_PARTS:
            raise ValueError(f"more than {_MOST_PARTS} parts")
    file.geterror()  # that there is no further part is no error
    for number in range(parts):
        file.seek_subimage(number, 0)
        spec = file.spec()
        found = _channels(list(spec.channelnames))
        if found is not None and not spec.deep:
            return _part(path, spec, number, parts, *found)
    file.seek_subimage(0, 0)
    names, deep = ", ".join(file.spec().channelnames), file.spec().deep
    what = "is a deep picture" if deep else f"has the channels {names or 'none'}"
    raise PictureError(f"{path} {what}, expected R, G and B", _SAVE)


def _channels(names: Sequence[str]) -> tuple[tuple[int, ...], str, str] | None:
    """Where the colours (and alpha) lie, what they are, and the layer that was taken."""
    layers = dict.fromkeys(name.rpartition(".")[0] for name in names)
    for layer in sorted(layers, key=lambda name: name != ""):  # the nameless one first
        place = {
            name.rpartition(".")[2].upper(): n
            for n, name in enumerate(names)
            if name.rpartition(".")[0] == layer
        }
        for colours, kind in ((("R", "G", "B"), "rgb"), (("Y",), "grey")):
            if all(one in place for one in colours) and not ("RY" in place and kind == "grey"):
                alpha = (place["A"],) if "A" in place else ()
                return (*(place[one] for one in colours), *alpha), kind, layer
    return None


def _part(
    path: Path,
    spec: Any,
    number: int,
    parts: int,
    channels: tuple[int, ...],
    kind: str,
    layer: str,
) -> Part:
    size = Size(spec.full_height, spec.full_width)
    top, left = spec.y - spec.full_y, spec.x - spec.full_x
    data = (top, top + spec.height, left, left + spec.width)
    if not size.pixels or min(size.height, size.width, spec.height, spec.width) <= 0:
        raise unreadable(path, "exr", ValueError(f"{size.width} x {size.height} pixels"))
    alpha = len(channels) in (2, 4)
    notes: list[str] = []
    if parts > 1:
        notes.append(f"part {number + 1} of {parts} taken: the first with colours")
    if layer:
        notes.append(f"the channels of layer {layer!r} are taken")
    if data != (0, size.height, 0, size.width):
        notes.append("its data window differs from its display window: the latter is read")
    if len(spec.channelnames) > len(channels):
        notes.append("it has further channels, which are not carried")
    points = spec.getattribute("chromaticities")
    if points is not None and max(map(_difference, points, _PRIMARIES)) > 1e-3:
        notes.append("its primaries are not those of BT.709, and are taken as if they were")
    if alpha:
        notes.append("its alpha is associated: the colours were divided by it")
    header = Header(
        path, size, 32, kind + ("a" if alpha else ""), 1, "exr", notes=tuple(notes), alpha=alpha
    )
    return Part(
        header,
        Meta(colour="linear"),
        Layout(kind, len(channels) - 1 if alpha else None, alpha, associated=alpha),
        number,
        channels,
        data,
        Size(spec.tile_height, spec.tile_width) if spec.tile_width else None,
    )


def _difference(one: float, other: float) -> float:
    return abs(float(one) - other)


class ExrRows:
    """Samples of an OpenEXR part, window by window: (h, w, samples) float32."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._lock = threading.Lock()
        self._file = _open(part.header.path)
        self._file.seek_subimage(part.number, 0)

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Rows [top, bottom) and columns [left, right) of the display window."""
        part = self.part
        out = np.zeros((bottom - top, right - left, len(part.channels)), np.float32)
        y, y_end = max(top, part.data[0]), min(bottom, part.data[1])
        x, x_end = max(left, part.data[2]), min(right, part.data[3])
        if y < y_end and x < x_end:
            with self._lock:
                try:
                    rows = self._rows(y - part.data[0], y_end - part.data[0])
                except BROKEN as error:
                    raise unreadable(part.header.path, "exr", error) from error
                except MemoryError as error:
                    raise too_large(part.header) from error
            columns = rows[:, x - part.data[2] : x_end - part.data[2]]
            out[y - top : y_end - top, x - left : x_end - left] = columns
        return out

    def _rows(self, top: int, bottom: int) -> np.ndarray:
        """Stored rows [top, bottom), whole, of the wanted channels."""
        spec, part = self._file.spec(), self.part
        first, last = min(part.channels), max(part.channels) + 1
        place = [channel - first for channel in part.channels]
        if part.tile is None:
            rows = self._file.read_scanlines(
                part.number, 0, spec.y + top, spec.y + bottom, 0, first, last, "unknown"
            )
        else:
            step = part.tile.height
            begin, end = top // step * step, min(-(-bottom // step) * step, spec.height)
            rows = self._file.read_tiles(
                part.number,
                0,
                *(spec.x, spec.x + spec.width),
                *(spec.y + begin, spec.y + end),
                *(0, 1),
                *(first, last),
                "unknown",
            )
            rows = None if rows is None else rows.reshape(end - begin, spec.width, -1)
            rows = None if rows is None else rows[top - begin : bottom - begin]
        wrong = self._file.geterror()
        if rows is None or wrong:
            # OpenImageIO leaves what it could not read black.
            raise unreadable(part.header.path, "exr", ValueError(wrong or "no pixels"))
        rows = rows.reshape(bottom - top, spec.width, -1)[..., place]
        if rows.dtype == np.uint32:
            return (rows / np.float64(2**32 - 1)).astype(np.float32)
        return rows.astype(np.float32, copy=False)

    def close(self) -> None:
        self._file.close()
