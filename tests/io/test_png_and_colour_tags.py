"""PNG in all its widths, and what untagged files say of their colours."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from ruled_pictures import rough, smooth

from hzcli.core.window import Window
from hzcli.io.picture import open_picture, peek

PICTURE = smooth(20, 30)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _png(codes, bits, colour, *chunks):
    """A PNG of (h, w, c) codes, unfiltered (W3C PNG, third edition)."""
    rows = b""
    for row in codes.reshape(len(codes), -1):
        text = "".join(f"{int(code):0{bits}b}" for code in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    head = struct.pack(">IIBBBBB", codes.shape[1], codes.shape[0], bits, colour, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(kind + body))
        out += struct.pack(">I", len(body)) + kind + body + check
    return out


def _read(path):
    with open_picture(path) as reader:
        whole = Window.whole(reader.size)
        return reader.read(whole), reader.read_alpha(whole) if reader.has_alpha else None


@pytest.mark.parametrize(
    ("bits", "colour"),
    [(b, 0) for b in (1, 2, 4, 8, 16)]
    + [(b, c) for c in (2, 4, 6) for b in (8, 16)]
    + [(b, 3) for b in (1, 2, 4, 8)],
)
def test_every_width_and_kind(tmp_path, bits, colour):
    path = tmp_path / "a.png"
    codes = rough(9, 13, CHANNELS[colour], np.uint16) >> (16 - bits)
    palette = rough(2**bits, 1, 3, np.uint8)[:, 0] if colour == 3 else None
    chunks = [] if palette is None else [(b"PLTE", palette.tobytes())]
    path.write_bytes(_png(codes, bits, colour, *chunks))

    read, alpha = _read(path)

    assert peek(path).depth == (16 if bits == 16 else 8)
    if palette is not None:
        assert np.array_equal(read, palette[codes[..., 0]])
        return
    spread = codes.astype(int) * (1 if bits >= 8 else 255 // (2**bits - 1))
    colours = spread[..., :3] if colour in (2, 6) else spread[..., :1]
    assert np.array_equal(read, np.broadcast_to(colours, read.shape))
    if colour in (4, 6):
        assert np.array_equal(alpha, spread[..., -1])


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_becomes_alpha(tmp_path, bits):
    """One colour of RGB or grey, by the chunk tRNS."""
    path, full = tmp_path / "a.png", 2**bits - 1
    for colour in (0, 2):
        codes = rough(9, 13, CHANNELS[colour], np.uint16) >> (16 - bits)
        key = codes[4, 5]
        codes[2, 3] = key
        path.write_bytes(_png(codes, bits, colour, (b"tRNS", key.astype(">u2").tobytes())))

        read, alpha = _read(path)

        assert peek(path).alpha
        assert np.array_equal(read, np.broadcast_to(codes, read.shape))
        assert np.array_equal(alpha, np.where((codes == key).all(2), 0, full))


def test_transparent_colours_of_a_palette(tmp_path):
    path = tmp_path / "a.png"
    codes, palette = rough(9, 13, 1, np.uint8) >> 5, rough(8, 1, 3, np.uint8)[:, 0]
    shares = bytes([0, 128, 7])
    path.write_bytes(_png(codes, 8, 3, (b"PLTE", palette.tobytes()), (b"tRNS", shares)))

    read, alpha = _read(path)

    assert peek(path).channels == "palette"
    assert np.array_equal(read, palette[codes[..., 0]])
    expected = np.array([*shares, *[255] * 5])[codes[..., 0]]
    assert np.array_equal(alpha, expected)


@pytest.mark.parametrize(
    ("chunks", "colour"),
    [
        ([], None),
        ([(b"sRGB", b"\0")], "srgb"),
        ([(b"gAMA", struct.pack(">I", 100_000))], "linear"),
        ([(b"gAMA", struct.pack(">I", 45_455))], "srgb"),
        ([(b"gAMA", struct.pack(">I", 55_556))], None),
        ([(b"cICP", bytes([12, 13, 0, 1]))], "p3"),
        ([(b"sRGB", b"\0"), (b"cICP", bytes([9, 14, 0, 1]))], "rec2020"),
    ],
)
def test_colour_chunks_of_png(tmp_path, chunks, colour):
    path = tmp_path / "a.png"
    path.write_bytes(_png(PICTURE, 8, 2, *chunks))
    with open_picture(path) as reader:
        assert reader.meta.colour == colour


def _exif(space, index):
    exif = Image.Exif()
    exif[274] = 1  # Pillow writes no block into PNG and TIFF that has nothing on its first level
    inner = exif.get_ifd(0x8769)
    if space is not None:
        inner[0xA001] = space
    if index is not None:
        inner[0xA005] = {1: index}
    return exif


def _tiff_with_exif(path, space, index):
    """Neither tifffile nor Pillow writes the directory of EXIF into a TIFF: it is put behind."""
    tifffile.imwrite(path, PICTURE, photometric="rgb", extratags=[(65000, 4, 1, 1, True)])
    data = path.read_bytes()
    data += bytes(len(data) % 2)
    place = len(data)
    entries = [(0xA001, 3, 1, space)] if space is not None else []
    if index is not None:
        entries.append((0xA005, 4, 1, place + 2 + 12 * (len(entries) + 1) + 4))
    data += struct.pack("<H", len(entries))
    data += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    if index is not None:
        data += struct.pack("<HHHI4sI", 1, 1, 2, 4, index.encode() + b"\0", 0)
    before = struct.pack("<HHII", 65000, 4, 1, 1)
    assert data.count(before) == 1
    path.write_bytes(data.replace(before, struct.pack("<HHII", 34665, 4, 1, place)))


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png", "tiff"])
@pytest.mark.parametrize(
    ("space", "index", "colour"),
    [
        (1, None, "srgb"),
        (2, None, "adobergb"),
        (65535, "R03", "adobergb"),
        (65535, None, None),
        (1, "R98", "srgb"),
        (None, "R98", "srgb"),
    ],
)
def test_what_exif_says_of_colours(tmp_path, kind, space, index, colour):
    path = tmp_path / "a"
    if kind == "tiff":
        _tiff_with_exif(path, space, index)
    else:
        Image.fromarray(PICTURE).save(path, kind, exif=_exif(space, index))
    with open_picture(path) as reader:
        assert reader.meta.colour == colour


def test_a_tiff_says_nothing_by_itself(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PICTURE, photometric="rgb")
    with open_picture(tmp_path / "a.tif") as reader:
        assert reader.meta.colour is None
