"""PNG from top to bottom: the same as decoded whole, by libpng in other programs."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hzcli.core.window import Window
from hzcli.errors import PictureError
from hzcli.io.formats import png_rows, raster
from hzcli.io.picture import open_mask, open_picture

# Less than any picture takes, so that none is decoded whole.
NOTHING = 0
# As libpng knows them: none, sub, up, mean, Paeth; and the best of all for each row.
FILTERS = [0x08, 0x10, 0x20, 0x40, 0x80, 0xF8]


@st.composite
def pictures(draw):
    """(h, w, c) codes, some rows smooth and some noise, so that filters differ."""
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 60))
    kind = draw(st.sampled_from([np.uint8, np.uint16]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = (height, width, draw(st.sampled_from([1, 3, 4])))
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 5)[..., None]
    noise = rng.integers(0, 1 << 16, shape) * (rng.random((height, 1, 1)) < 0.3)
    return ((ramp + noise) * np.arange(1, shape[2] + 1)).astype(kind)


@settings(deadline=None, max_examples=60)
@given(pictures(), st.sampled_from(FILTERS), st.sampled_from([1, 700, 4 << 20]))
def test_pieces_are_the_whole(tmp_path_factory, picture, filters, at_once):
    path = tmp_path_factory.mktemp("case") / "a.png"
    shaped = picture[..., 0] if picture.shape[2] == 1 else picture
    path.write_bytes(imagecodecs.png_encode(shaped, filter=filters, out=2 * shaped.nbytes + 4096))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png_rows, "_AT_ONCE", at_once)
        patch.setattr(raster, "decode", whole)
        with open_picture(path, budget_bytes=NOTHING) as reader:
            found = reader.read(Window.whole(reader.size))
            clear = reader.read_alpha(Window.whole(reader.size)) if reader.has_alpha else None
    assert found.dtype == picture.dtype
    assert np.array_equal(found, picture[..., [0] * 3 if picture.shape[2] == 1 else [0, 1, 2]])
    assert (clear is None) == (picture.shape[2] != 4)
    assert clear is None or np.array_equal(clear, picture[..., 3])


def whole(header):
    raise AssertionError(f"{header.path} is decoded whole")


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(1, 70), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_codes_of_few_bits_are_spread(tmp_path_factory, height, width, bits, seed):
    path = tmp_path_factory.mktemp("case") / "a.png"
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (height, width), np.uint8)
    rows = np.packbits(np.unpackbits(codes[..., None], axis=2)[..., -bits:].reshape(height, -1), 1)
    write_png(path, width, height, bits, np.pad(rows, ((0, 0), (1, 0))).tobytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raster, "decode", whole)
        with open_mask(path, budget_bytes=NOTHING) as reader:
            found = reader.read(Window.whole(reader.size))
    with Image.open(path) as picture:  # which knows 1 bit as bool, 2 and 4 bits spread over 8
        wanted = np.asarray(picture.convert("L"))
    assert np.array_equal(found, wanted)


def write_png(path: Path, width: int, height: int, bits: int, rows: bytes, kind: int = 0) -> None:
    head = b"".join(n.to_bytes(4, "big") for n in (width, height)) + bytes([bits, kind, 0, 0, 0])
    parts = [(b"IHDR", head)]
    data = zlib.compress(rows)
    parts += [(b"IDAT", data[at : at + 100]) for at in range(0, len(data), 100)]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
            for name, body in [*parts, (b"IEND", b"")]
        )
    )


def ruled(height: int, width: int) -> np.ndarray:
    return (np.add.outer(np.arange(height) ** 2, np.arange(width) * 7) % 251).astype(np.uint8)


@pytest.mark.parametrize("how", ["cut short", "one bit", "checksum", "no end mark", "one row less"])
def test_damage_is_said(tmp_path, how):
    picture, path = ruled(200, 90), tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    data = path.read_bytes()
    if how == "cut short":
        data = data[: len(data) // 2]
    elif how == "one bit":
        middle = len(data) // 2
        data = data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]
    elif how == "checksum":
        data = data[:-13] + bytes([data[-13] ^ 1]) + data[-12:]
    elif how == "no end mark":
        data = data[:-12]
    path.write_bytes(data)
    if how == "one row less":
        rows = np.pad(picture[:-1], ((0, 0), (1, 0)))
        write_png(path, 90, 200, 8, rows.tobytes())
    with open_mask(path, budget_bytes=NOTHING) as reader:
        if how == "no end mark":  # all pixels are there
            assert np.array_equal(reader.read(Window.whole(reader.size)), picture)
            return
        said = "cut short" if how in ("cut short", "one row less") else "cannot be read as PNG"
        with pytest.raises(PictureError, match=said):
            reader.read(Window.whole(reader.size))


@pytest.mark.parametrize("kind", ["interlaced", "palette", "one clear colour"])
def test_other_kinds_are_decoded_whole(tmp_path, kind):
    picture, path = ruled(50, 40), tmp_path / "a.png"
    if kind == "palette":
        Image.fromarray(picture).convert("P").save(path)
    elif kind == "one clear colour":
        Image.fromarray(picture).save(path, transparency=7)
    else:
        passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2),
                  (0, 2, 1, 2), (1, 2, 0, 1)]  # fmt: skip
        parts = [picture[y::dy, x::dx] for y, dy, x, dx in passes]
        rows = b"".join(np.pad(part, ((0, 0), (1, 0))).tobytes() for part in parts)
        write_png(path, 40, 50, 8, rows)
        data = bytearray(path.read_bytes())
        data[28] = 1
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        path.write_bytes(data)
    with open_picture(path, budget_bytes=NOTHING) as reader:
        assert np.array_equal(reader.read(Window.whole(reader.size))[..., 0], picture)


MEMORY = """
import sys
from pathlib import Path
from hzcli.core.window import bands
from hzcli.io.picture import open_mask

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024

with open_mask(Path(sys.argv[1]), budget_bytes=8 << 20) as reader:
    import hzcli.io.formats.png_rows
    before = status("VmRSS")
    for window in bands(reader.size, 64):
        reader.read(window)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc")
def test_a_large_mask_is_not_held(tmp_path):
    path = tmp_path / "a.png"
    height, width = 16000, 8000
    assert cv2.imwrite(str(path), np.zeros((height, width), np.uint8))
    command = [sys.executable, "-c", MEMORY, str(path)]
    added = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert added < height * width / 1e6 / 2, f"{added} MB of {height * width / 1e6:.0f}"
