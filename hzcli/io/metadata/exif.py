"""EXIF blocks: read, corrected, rebuilt; the IFDs themselves are read and written by Pillow.

EXIF 3.0 (CIPA DC-008-2023); TIFF 6.0 section 2. A block is a small TIFF file without pixels.

Two ways lead from a source to a result. `corrected` keeps the block as it is and appends a new
first directory, so that every other value, maker notes first, stays at its byte: makers count
positions inside their notes from the start of the block. `rebuilt` writes all directories anew,
where values must go (a policy) or the bytes must move (into a TIFF file).
"""

from __future__ import annotations

import contextlib
import io
import logging
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from hzcli.core.window import Size
from hzcli.io.hushed import hushed

# What tifffile has to say about a block without pixels is no news to a user.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

# What parsers raise on bytes that are not what they should be.
BROKEN = (
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    OSError,
    EOFError,
    AssertionError,
    RuntimeError,
    struct.error,
)

# Codes of fields. A Field is (type as in TIFF, value as Pillow gives it, text as bytes).
Field = tuple[int, Any]
SHORT, LONG, ASCII, LONG8 = 3, 4, 2, 16
WIDTH, HEIGHT, DESCRIPTION, MAKE, MODEL = 256, 257, 270, 271, 272
ORIENTATION, SOFTWARE, DATETIME, ARTIST, HOST = 274, 305, 306, 315, 316
COPYRIGHT, EXIF, GPS, INTEROP = 33432, 34665, 34853, 40965
MAKER_NOTE, PIXEL_X, PIXEL_Y, COLOUR_SPACE, OFFSET_TIME = 37500, 40962, 40963, 40961, 36880
COMPONENTS = 37121
_THUMBNAIL, _THUMBNAIL_BYTES = 513, 514

# Of the first directory of a TIFF file, what describes the photograph and not the pixels:
# DocumentName to Model, PageName, Software, DateTime, Artist, HostComputer, Rating, Copyright,
# Windows' XP fields, UniqueCameraModel, LocalizedCameraModel, CameraSerialNumber.
DESCRIPTIVE = frozenset(
    {269, 270, 271, 272, 285, 305, 306, 315, 316, 18246, 18249, 33432}
    | {40091, 40092, 40093, 40094, 40095, 50708, 50709, 50735}
)
# HostComputer, CameraSerialNumber | MakerNote, ImageUniqueID, CameraOwnerName, BodySerialNumber,
# LensSerialNumber, ImageEditor.
PERSONAL_ZEROTH = (316, 50735)
PERSONAL_EXIF = (37500, 42016, 42032, 42033, 42037, 42040)

# A TIFF file's first directory gets its pointers under codes that nobody uses, in the right
# order; `attach` turns them into the real ones when there is something to point to.
RESERVED = {EXIF: 34664, GPS: 34851}


@dataclass
class Ifds:
    """The directories of one block, by code; an absent directory is empty."""

    order: str = "<"
    zeroth: dict[int, Field] = field(default_factory=dict)
    exif: dict[int, Field] = field(default_factory=dict)
    gps: dict[int, Field] = field(default_factory=dict)
    interop: dict[int, Field] = field(default_factory=dict)

    def without_personal(self) -> Ifds:
        """A copy without GPS, maker notes, serial numbers, owner's name and host computer."""
        return Ifds(
            self.order,
            {code: v for code, v in self.zeroth.items() if code not in PERSONAL_ZEROTH},
            {code: v for code, v in self.exif.items() if code not in PERSONAL_EXIF},
            {},
            dict(self.interop),
        )


def bare(block: bytes) -> bytes:
    """`block` without the "Exif" mark that JPEG puts before it."""
    return block[6:] if block[:4] == b"Exif" else block


def read(block: bytes) -> Ifds:
    """The directories of an EXIF block, broken ones left out.

    Raises:
        One of BROKEN: not even the first directory can be read.
    """
    block = bare(block)
    if block[:4] not in (b"II*\0", b"MM\0*"):
        raise ValueError("no EXIF header")
    file = io.BytesIO(block)
    found = Ifds("<" if block[:1] == b"I" else ">")
    found.zeroth, _ = _load(file, block[:8], _first(block))
    _load_pointed(file, block[:8], found)
    return found


def read_tiff(path: Path) -> Ifds:
    """The descriptive fields of a TIFF file's picture, its EXIF, GPS and interoperability IFDs."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        found = Ifds(tiff.byteorder)
        handle = tiff.filehandle
        for tag in page.tags:
            if tag.code not in DESCRIPTIVE:
                continue
            with contextlib.suppress(*BROKEN):
                value = tag.value
                if tag.dtype in (1, 2, 7):
                    handle.seek(tag.valueoffset)
                    value = handle.read(tag.count)
                    value = value.split(b"\0")[0] if tag.dtype == ASCII else value
                found.zeroth[tag.code] = (int(tag.dtype), value)
        for code in (EXIF, GPS):
            pointer = page.tags.get(code)
            if pointer is not None:
                found.zeroth[code] = (LONG, pointer.valueoffset)
    with open(path, "rb") as file:
        _load_pointed(file, file.read(16), found)
    return found


def _load_pointed(file: BinaryIO, header: bytes, found: Ifds) -> None:
    """Read what the pointers in `found` point to; take the pointers out."""
    at_exif = found.zeroth.pop(EXIF, None)
    at_gps = found.zeroth.pop(GPS, None)
    with contextlib.suppress(*BROKEN):
        found.exif = _load(file, header, at_exif[1], EXIF)[0] if at_exif else {}
    with contextlib.suppress(*BROKEN):
        found.gps = _load(file, header, at_gps[1], GPS)[0] if at_gps else {}
    at_interop = found.exif.pop(INTEROP, None)
    with contextlib.suppress(*BROKEN):
        found.interop = _load(file, header, at_interop[1], INTEROP)[0] if at_interop else {}


def _directory(order: str, big: bool, group: int | None = None) -> Any:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    # Pillow knows BigTIFF by a byte that comes second where the higher one comes first: it is
    # given the head that it knows, and the order besides.
    header = b"II+\0\x08\0\0\0" + bytes(8) if big else b"II*\0" + bytes(4)
    return ImageFileDirectory_v2(header, b"II" if order == "<" else b"MM", group)


def _load(
    file: BinaryIO, header: bytes, offset: int, group: int | None = None
) -> tuple[dict[int, Field], int]:
    """Fields of the directory at `offset`, and the position of the next one (0: none)."""
    with hushed():  # what Pillow thinks of a block is no news to a user
        big = header[2:4] in (b"+\0", b"\0+")
        directory = _directory("<" if header[:1] == b"I" else ">", big, group)
        file.seek(offset)
        directory.next = 0
        directory.load(file)
        fields: dict[int, Field] = {}
        for code in directory:
            with contextlib.suppress(*BROKEN):
                kind, value = directory.tagtype[code], directory[code]
                if kind == ASCII and isinstance(value, tuple):
                    (value,) = value
                if kind == ASCII and isinstance(value, str):
                    value = value.encode("latin-1")  # as Pillow decoded it: the bytes as they were
                fields[code] = (kind, value)
        return fields, int(directory.next or 0)


def _dump(fields: dict[int, Field], order: str, offset: int, big: bool = False) -> bytes:
    """A directory that lies at `offset`, followed by its values; it has no successor."""
    with hushed():  # what Pillow thinks of a block is no news to a user
        directory = _directory(order, big)
        for code, (kind, value) in fields.items():
            directory.tagtype[code] = kind
            with contextlib.suppress(*BROKEN):
                directory[code] = value
        data = directory.tobytes(offset)
        return data + b"\0" * (len(data) % 2)


def _first(block: bytes) -> int:
    return int(struct.unpack_from("<L" if block[:1] == b"I" else ">L", block, 4)[0])


def maker_note(block: bytes) -> bytes:
    """The maker note in an EXIF block; empty if there is none."""
    with contextlib.suppress(*BROKEN):
        note = read(block).exif.get(MAKER_NOTE, (7, b""))[1]
        return note if isinstance(note, bytes) else b""
    return b""


def text(value: str) -> Field:
    """A field of text: UTF-8, which EXIF 3.0 allows and all readers take."""
    return ASCII, value.encode()


def stamp(ifds: Ifds, size: Size, software: str, when: str) -> None:
    """Say in `ifds` what was done: turned upright, by which software, at what time.

    Args:
        when: as in EXIF, "2026:01:31 12:00:00".
    """
    ifds.zeroth[ORIENTATION] = (SHORT, 1)
    ifds.zeroth[SOFTWARE] = text(software)
    ifds.zeroth[DATETIME] = text(when)
    for code, side in ((WIDTH, size.width), (HEIGHT, size.height)):
        if code in ifds.zeroth:
            ifds.zeroth[code] = (LONG, side)
    if ifds.exif:
        ifds.exif[PIXEL_X], ifds.exif[PIXEL_Y] = (LONG, size.width), (LONG, size.height)


def corrected(block: bytes, size: Size, software: str, when: str) -> bytes:
    """`block` with every value at its byte, but for what `stamp` changes and the thumbnail.

    Raises:
        One of BROKEN: the block cannot be read.
    """
    block = bare(block)
    order = "<" if block[:1] == b"I" else ">"
    file = io.BytesIO(block)
    zeroth, after = _load(file, block[:8], _first(block))
    if not zeroth:
        raise ValueError("an empty EXIF block")
    exact = bytearray(block)
    if after:
        _remove_thumbnail(exact, file, after)
    exact += b"\0" * (len(exact) % 2)
    whole = Ifds(order, zeroth)
    stamp(whole, size, software, when)
    if EXIF in zeroth:
        exact = _correct_dimensions(exact, order, int(zeroth[EXIF][1]), size)
    exact += b"\0" * (len(exact) % 2)
    struct.pack_into(order + "L", exact, 4, len(exact))
    return bytes(exact) + _dump(whole.zeroth, order, len(exact))


def _remove_thumbnail(block: bytearray, file: BinaryIO, after: int) -> None:
    """Cut the small picture of the second directory off, or blank it where others follow."""
    with contextlib.suppress(*BROKEN):
        second, _ = _load(file, bytes(block[:8]), after)
        start, count = int(second[_THUMBNAIL][1]), int(second[_THUMBNAIL_BYTES][1])
        if not 8 <= start <= start + count <= len(block):
            return
        if len(block) - (start + count) < 2:
            del block[start:]
        else:
            block[start : start + count] = bytes(count)


def _correct_dimensions(block: bytearray, order: str, at: int, size: Size) -> bytearray:
    """Set PixelXDimension and PixelYDimension where they stand, in the EXIF directory at `at`."""
    import tifffile

    file = io.BytesIO(bytes(block))
    with contextlib.suppress(*BROKEN, tifffile.TiffFileError), tifffile.TiffFile(file) as tiff:
        (count,) = struct.unpack_from(order + "H", block, at)
        for entry in range(count):
            place = at + 2 + 12 * entry
            (code,) = struct.unpack_from(order + "H", block, place)
            if code in (PIXEL_X, PIXEL_Y):
                tag = tifffile.TiffTag.fromfile(tiff, offset=place)
                tag.overwrite(size.width if code == PIXEL_X else size.height, dtype=LONG)
        return bytearray(file.getvalue())
    return block


def rebuilt(ifds: Ifds) -> bytes:
    """A block with the directories of `ifds`, without thumbnail."""
    zeroth = dict(ifds.zeroth)
    for code, present in ((EXIF, ifds.exif or ifds.interop), (GPS, ifds.gps)):
        if present:
            zeroth[code] = (LONG, 0)
    base = 8 + len(_dump(zeroth, ifds.order, 8))
    data, places = _pointed(ifds, ifds.order, base, big=False)
    for code, place in places.items():
        zeroth[code] = (LONG, place)
    head = (b"II" if ifds.order == "<" else b"MM") + struct.pack(ifds.order + "HL", 42, 8)
    return head + _dump(zeroth, ifds.order, 8) + data


def _pointed(ifds: Ifds, order: str, base: int, big: bool) -> tuple[bytes, dict[int, int]]:
    """Interoperability, EXIF and GPS directories that lie at `base`, and where the two begin."""
    data, places = b"", {}
    exif = dict(ifds.exif)
    if ifds.interop:
        exif[INTEROP] = (LONG8 if big else LONG, base)
        data += _dump(ifds.interop, order, base, big)
    for code, fields in ((EXIF, exif), (GPS, ifds.gps)):
        if fields:
            places[code] = base + len(data)
            data += _dump(fields, order, base + len(data), big)
    return data, places


def tags(ifds: Ifds) -> list[tuple[int, int, int, Any, bool]]:
    """`ifds` as tifffile's extratags: descriptive fields, and room for two pointers.

    Software and orientation are the writer's own.
    """
    found: list[tuple[int, int, int, Any, bool]] = []
    for code, (kind, value) in sorted(ifds.zeroth.items()):
        if code not in DESCRIPTIVE or code == SOFTWARE:
            continue
        if isinstance(value, bytes):
            found.append((code, kind, len(value), value, True))
        else:
            values = value if isinstance(value, tuple) else (value,)
            if all(isinstance(v, int) for v in values):
                found.append((code, kind, len(values), values, True))
    for code, fields in ((EXIF, ifds.exif), (GPS, ifds.gps)):
        if fields:
            found.append((RESERVED[code], LONG, 1, 0, True))
    return found


def attach(path: Path, ifds: Ifds) -> bool:
    """Append the EXIF and GPS directories to a finished TIFF file that has room for pointers.

    The pixels are not touched; classic TIFF and BigTIFF.

    Returns:
        Whether all there was could be attached.

    Raises:
        OSError: the disk refused. ValueError, struct.error: a value does not fit.
    """
    import tifffile

    if not (ifds.exif or ifds.gps or ifds.interop):
        return True
    with tifffile.TiffFile(path, mode="r+") as tiff:
        order, big = tiff.byteorder, tiff.is_bigtiff
        room = {code: tiff.pages.first.tags.get(n) for code, n in RESERVED.items()}
        handle = tiff.filehandle
        base = handle.seek(0, 2)
        data, places = _pointed(ifds, order, base + base % 2, big)
        fits = big or base + len(data) < 2**32
        if not fits or any(room[code] is None for code in places):
            return False
        handle.write(b"\0" * (base % 2) + data)
        for code, place in places.items():
            spare = room[code]
            assert spare is not None
            tag = spare.overwrite(place, dtype=LONG8 if big else LONG)
            handle.seek(tag.offset)
            handle.write(struct.pack(order + "H", code))
    return True
