"""HEIC and AVIF in: headers by walking the boxes, pixels by pillow-heif and imagecodecs.

ISO/IEC 23008-12 (HEIF: items and their properties) and AVIF 1.1.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io.formats import boxes
from hzcli.io.formats.faults import (
    BROKEN,
    check_decoded,
    missing,
    title,
    too_large,
    truncated,
    unreadable,
)
from hzcli.io.formats.layout import widened
from hzcli.io.formats.raster import fitting
from hzcli.io.meta import (
    ExifFacts,
    Header,
    Meta,
    coded_colour,
    orient,
    profile,
    read_exif,
    upright_size,
)

_LARGEST_EXIF = 1 << 20
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_PQ, _HLG = 16, 18


def examine(path: Path, kind: str) -> tuple[Header, Meta]:
    """Header and carried metadata of a HEIC or AVIF file; no pixel is decoded.

    Raises:
        PictureError: damaged, or a sequence of pictures.
    """
    try:
        with open(path, "rb") as file:
            found = boxes.read(path, kind, file)
            if found.brand in (b"avis", b"msf1", b"hevc", b"hevx"):
                raise PictureError(
                    f"{path} is a sequence of {title(kind)} pictures, expected one still picture",
                    "Save one frame as a picture of its own.",
                )
            return _facts(path, kind, file, found)
    except BROKEN as error:
        raise unreadable(path, kind, error) from error


def _facts(path: Path, kind: str, file: BinaryIO, found: boxes.Boxes) -> tuple[Header, Meta]:
    main = found.primary
    extent = found.all(main, b"ispe")
    if not extent:
        raise truncated(path, kind, "no picture size found in its header")
    width, height = struct.unpack(">II", extent[0][4:12])
    bits = _bits(found, main)
    notes: list[str] = []
    for body in found.all(main, b"clap"):  # rounded up as libheif does
        across, per_x, down, per_y = struct.unpack(">IIII", body[:16])
        if kind == "heic":
            width, height = -(-across // per_x), -(-down // per_y)
        elif (across, down) != (width * per_x, height * per_y):
            notes.append("its clean aperture is not applied: the whole picture is taken")
    turn = _turn(found.all(main, b"irot"), found.all(main, b"imir"))
    upright = upright_size(Size(height, width), turn)
    alpha, associated = False, False
    for reference, source, targets in found.references:
        if reference == b"auxl" and main in targets:
            named = b"".join(found.all(source, b"auxC"))[4:].rstrip(b"\0")
            alpha = alpha or named.split(b"\0")[0] in _ALPHA
        associated = associated or (reference == b"prem" and source == main)
    grey = any(body[4:5] == b"\1" for body in found.all(main, b"pixi"))
    if associated:
        notes.append("its alpha is associated: the colours were divided by it")
    icc, colour = None, None
    for body in found.all(main, b"colr"):
        if body[:4] in (b"prof", b"rICC"):
            icc = profile(body[4:])
        elif body[:4] == b"nclx":
            primaries, transfer = struct.unpack(">HH", body[4:8])
            colour = coded_colour(primaries, transfer)
            if transfer in (_PQ, _HLG):
                name = "PQ" if transfer == _PQ else "HLG"
                notes.append(f"it is coded for HDR screens ({name}), which hz does not convert")
    exif = _exif(file, found)
    header = Header(
        path,
        upright,
        8 if bits == 8 else 16,
        ("greya" if alpha else "grey") if grey else ("rgba" if alpha else "rgb"),
        1 if kind == "heic" else turn,  # libheif turns, libavif does not
        kind,
        notes=tuple(notes),
        alpha=alpha,
    )
    return header, Meta(icc, exif.resolution, colour or exif.colour)


def associated(header: Header) -> bool:
    """Whether the colours of a HEIC, AVIF or JPEG XL file were multiplied by alpha."""
    return any(note.startswith("its alpha is associated") for note in header.notes)


def _bits(found: boxes.Boxes, item: int) -> int:
    """Bits a channel: from `pixi`, or from the codec's own record of the item or of its tiles."""
    tiles = [
        target
        for kind, source, targets in found.references
        for target in targets
        if kind == b"dimg" and source == item
    ]
    for one in (item, *tiles[:1]):
        for body in found.all(one, b"pixi"):
            return max(body[5 : 5 + body[4]])
        for body in found.all(one, b"hvcC"):
            return 8 + (body[17] & 7)
        for body in found.all(one, b"av1C"):
            return 8 if not body[2] & 0x40 else 12 if body[2] & 0x20 else 10
    return 8


def _turn(rotations: list[bytes], mirrors: list[bytes]) -> int:
    """The EXIF orientation that does what `irot` and then `imir` do (23008-12, 6.5.10, 6.5.12)."""
    stored = np.arange(6).reshape(2, 3)
    wanted = np.rot90(stored, rotations[0][0] & 3 if rotations else 0)
    if mirrors:
        wanted = wanted[:, ::-1] if mirrors[0][0] & 1 else wanted[::-1]
    return next(n for n in range(1, 9) if np.array_equal(orient(stored, n), wanted))


def _exif(file: BinaryIO, found: boxes.Boxes) -> ExifFacts:
    """The EXIF block that describes the picture; its orientation does not count in HEIF."""
    for reference, source, targets in found.references:
        if reference != b"cdsc" or found.primary not in targets:
            continue
        start, length = found.extents.get(source, (0, 0))
        if found.kinds.get(source) == b"Exif" and 4 < length < _LARGEST_EXIF:
            file.seek(start)
            body = file.read(length)
            skip = 4 + struct.unpack(">I", body[:4])[0]
            if body[skip : skip + 6] == b"Exif\0\0":
                skip += 6
            return read_exif(b"Exif\0\0" + body[skip:])
    return ExifFacts()


def decode(header: Header) -> np.ndarray:
    """All pixels of a HEIC or AVIF file, (h, w, c), 10 and 12 bits spread over 16.

    Raises:
        PictureError: damaged; or HEIC, and pillow-heif is not installed.
        BudgetError: the machine has not memory enough.
    """
    path, kind = header.path, header.format
    samples = {"rgba": 4, "rgb": 3, "greya": 2}.get(header.channels, 1)
    try:
        check_decoded(header, max(samples, 3), path.stat().st_size)
        data = path.read_bytes()
        if kind == "avif":
            pixels = np.asarray(imagecodecs.avif_decode(data))
            with open(path, "rb") as file:
                found = boxes.read(path, kind, file)
            bits = _bits(found, found.primary)
        else:
            pixels, bits = _decode_heic(path, data)
    except BROKEN as error:
        raise unreadable(path, kind, error) from error
    except MemoryError as error:
        raise too_large(header) from error
    if pixels.ndim == 3 and pixels.shape[2] > samples and samples < 3:
        # Grey that the decoder has expanded already.
        colour, rest = pixels[..., :1], pixels[..., 3:]
        pixels = np.concatenate([colour, rest], axis=2) if samples == 2 else colour
    return fitting(header, widened(pixels, bits), samples)


def _decode_heic(path: Path, data: bytes) -> tuple[np.ndarray, int]:
    """Codes as coded, and how many bits they have."""
    try:
        import pillow_heif
    except ImportError as error:
        raise missing(path, "heic", "pillow-heif", "heic") from error
    found = pillow_heif.open_heif(data, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    return np.asarray(found), int(found.mode.partition(";")[2] or 8)
