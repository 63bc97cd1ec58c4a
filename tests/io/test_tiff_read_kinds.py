"""TIFF in: floats, odd widths, inks, palettes, several pages, alpha; tifffile is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from reading import read_alpha, read_whole
from ruled_pictures import rough, stored_as

from hzcli.core.window import Window
from hzcli.errors import BudgetError, PictureError
from hzcli.io import profiles
from hzcli.io.picture import open_mask, open_picture, peek

HEIGHT, WIDTH = 101, 83
LAYOUTS = {
    "strips": {"rowsperstrip": 7},
    "one strip": {"rowsperstrip": HEIGHT},
    "tiles": {"tile": (32, 48)},
    "planes": {"rowsperstrip": 7, "planarconfig": "separate"},
}
CODECS = {
    "none": {},
    "deflate": {"compression": "adobe_deflate"},
    "lzw+2": {"compression": "lzw", "predictor": 2},
    "zstd+3": {"compression": "zstd", "predictor": 3},
    "lzma": {"compression": "lzma"},
}


def _write(path, picture, **options):
    planar = options.get("planarconfig") == "separate"
    data = np.moveaxis(picture, 2, 0) if planar else picture
    tifffile.imwrite(path, data, **{"photometric": "rgb", "metadata": None, **options})


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.uint32])
def test_floats_and_wide_codes(tmp_path, dtype, layout, codec, byteorder):
    """Values above 1 and below 0 survive; 32-bit codes become 0..1."""
    kind = np.dtype(dtype)
    options = LAYOUTS[layout] | CODECS[codec]
    if codec in ("zstd+3", "lzw+2"):
        # Predictor 3 is for floats; tifffile writes 2 only for whole numbers.
        options["predictor"] = 3 if kind.kind == "f" else 2
    path = tmp_path / "a.tif"
    codes = rough(HEIGHT, WIDTH, 3, np.uint32)
    picture = codes if kind.kind == "u" else (codes / 2**31 - 0.5).astype(dtype)
    _write(path, picture, byteorder=byteorder, **options)
    expected = tifffile.imread(path)
    expected = np.moveaxis(expected, 0, 2) if layout == "planes" else expected
    expected = expected / (2**32 - 1) if kind.kind == "u" else expected

    read = read_whole(path)

    assert peek(path).depth == 32
    assert read.dtype == np.float32
    assert np.array_equal(read, expected.astype(np.float32))


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("planes", [False, True])
def test_packed_codes_are_spread(tmp_path, bits, planes):
    """Over 8 or 16 bits, full scale on full scale; packed here bit by bit."""
    path, step = tmp_path / "a.tif", 7
    codes = rough(HEIGHT, WIDTH, 3, np.uint16) >> (16 - bits)
    codes = codes.astype(np.uint8) if bits < 8 else codes
    groups = list(np.moveaxis(codes, 2, 0)) if planes else [codes.reshape(HEIGHT, -1)]
    strips = [
        b"".join(_packed(row, bits) for row in group[top : top + step])
        for group in groups
        for top in range(0, HEIGHT, step)
    ]
    kind = "separate" if planes else "contig"
    _write(path, codes, planarconfig=kind, rowsperstrip=step)
    _pack_in_place(path, strips, bits)
    full = 255 if bits < 8 else 65535

    read = read_whole(path)

    assert peek(path).depth == (8 if bits < 8 else 16)
    assert np.array_equal(read, np.round(codes.astype(float) * full / (2**bits - 1)))


def _packed(row, bits):
    text = "".join(f"{int(code):0{bits}b}" for code in row)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def _pack_in_place(path, strips, bits):
    """Strips over those in the file, which are longer, and the tags that tell of it."""
    with tifffile.TiffFile(path) as tiff:
        offsets = tiff.pages[0].dataoffsets
    data = bytearray(path.read_bytes())
    for offset, strip in zip(offsets, strips, strict=True):
        data[offset : offset + len(strip)] = strip
    path.write_bytes(data)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags[258].overwrite((bits,) * 3)
        tiff.pages[0].tags[279].overwrite([len(strip) for strip in strips])


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA"])
@pytest.mark.parametrize("codec", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_grey_palette_and_one_bit_are_expanded(tmp_path, mode, codec):
    """Pillow writes them and converts to RGB."""
    path = tmp_path / "a.tif"
    picture = Image.fromarray(rough(HEIGHT, WIDTH, 3, np.uint8)).convert("L").convert(mode)
    if mode == "P":
        picture.putpalette(rough(256, 1, 3, np.uint8).tobytes())
    picture.save(path, compression=codec)
    expected = np.asarray(Image.open(path).convert("RGB"))

    kinds = {"L": "grey", "P": "palette", "1": "bilevel", "LA": "greya"}
    assert peek(path).channels == kinds[mode]
    assert np.array_equal(read_whole(path), expected)


@pytest.mark.parametrize("codec", ["group3", "group4"])
def test_fax_masks(tmp_path, codec):
    """Scans of line drawings; Pillow's libtiff writes them."""
    path = tmp_path / "a.tif"
    white = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 23 < 9
    Image.fromarray(white).save(path, compression=codec)
    with open_mask(path) as reader:
        read = reader.read(Window.whole(reader.size))
    assert np.array_equal(read, white * np.uint8(255))


@pytest.mark.parametrize("layout", ["strips", "tiles", "planes"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_inks_become_srgb_with_a_note(tmp_path, layout, dtype):
    """Window by window as in one piece; no ink is white."""
    path = tmp_path / "a.tif"
    inks = rough(HEIGHT, WIDTH, 4, dtype)
    inks[:20] = 0
    _write(path, inks, **{"photometric": "separated", **LAYOUTS[layout]})

    read = read_whole(path)

    assert peek(path).channels == "cmyk"
    assert any("CMYK" in note for note in peek(path).notes)
    assert np.array_equal(read, profiles.cmyk_to_srgb(inks, None))
    assert (read[:20] == np.iinfo(dtype).max).all()


def test_inks_of_a_jpeg(tmp_path):
    """Adobe's are inverted; Pillow, which knows it, is the oracle."""
    path = tmp_path / "a.jpg"
    inks = np.repeat(np.repeat(rough(6, 8, 4, np.uint8), 16, 0), 16, 1)
    Image.fromarray(inks, "CMYK").save(path, quality=100, subsampling=0)
    assert b"Adobe" in path.read_bytes()[:64]
    assert np.array_equal(
        read_whole(path), profiles.cmyk_to_srgb(np.asarray(Image.open(path)), None)
    )


def test_the_largest_page_is_taken_and_said(tmp_path):
    path = tmp_path / "a.tif"
    small, large = rough(40, 30, 3, np.uint8), rough(HEIGHT, WIDTH, 3, np.uint16)
    with tifffile.TiffWriter(path) as tiff:
        for picture, options in (
            (small, {}),
            (large[::-1], {"subfiletype": 1}),  # a "smaller copy" does not count
            (large, {"compression": "zstd", "predictor": 2}),
            (small, {}),
        ):
            tiff.write(picture, photometric="rgb", metadata=None, **options)
    assert peek(path).notes == ("page 2 of 3 taken: the largest",)
    assert np.array_equal(read_whole(path), large)


def test_the_first_of_equal_pages_is_taken(tmp_path):
    path = tmp_path / "a.tif"
    pages = rough(2 * HEIGHT, WIDTH, 3, np.uint8).reshape(2, HEIGHT, WIDTH, 3)
    tifffile.imwrite(path, pages, photometric="rgb")
    assert "page 1 of 2" in peek(path).notes[0]
    assert np.array_equal(read_whole(path), pages[0])


def test_a_later_page_compressed_as_jpeg(tmp_path):
    path = tmp_path / "a.tif"
    blocks = np.repeat(np.repeat(rough(4, 5, 3, np.uint8), 16, 0), 16, 1)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(blocks[:8, :8], photometric="rgb", metadata=None)
        tiff.write(blocks, photometric="rgb", compression="jpeg", metadata=None)
    expected = tifffile.imread(path, key=1)
    assert np.abs(read_whole(path).astype(int) - expected).max() <= 1


def test_too_many_pages_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    page = b"".join(
        tag.to_bytes(2, "little") + b"\3\0\1\0\0\0" + value.to_bytes(4, "little")
        for tag, value in ((256, 1), (257, 1), (258, 8), (262, 1), (273, 8), (279, 1))
    )
    size = 2 + len(page) + 4
    pages = [
        b"\6\0" + page + (8 + (n + 1) * size if n < 1000 else 0).to_bytes(4, "little")
        for n in range(1001)
    ]
    path.write_bytes(b"II*\0\x08\0\0\0" + b"".join(pages))
    with pytest.raises(PictureError, match="more than 1000 pages"):
        peek(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_alpha_is_read_beside_the_colours(tmp_path, dtype, layout):
    path = tmp_path / "a.tif"
    codes = rough(HEIGHT, WIDTH, 4, np.uint8 if dtype is np.uint8 else np.uint16)
    picture = (codes / 65535).astype(np.float32) if dtype is np.float32 else codes
    _write(path, picture, extrasamples=["unassalpha"], **LAYOUTS[layout])

    assert np.array_equal(read_whole(path), picture[..., :3])
    assert np.array_equal(read_alpha(path), picture[..., 3])
    assert peek(path).notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_alpha_is_turned_like_the_colours(tmp_path, orientation):
    path = tmp_path / "a.tif"
    upright = rough(HEIGHT, WIDTH, 4, np.uint16)
    stored = np.ascontiguousarray(stored_as(upright, orientation))
    tags = [(274, 3, 1, orientation, True)]
    _write(path, stored, extrasamples=["unassalpha"], rowsperstrip=7, extratags=tags)
    assert np.array_equal(read_whole(path), upright[..., :3])
    assert np.array_equal(read_alpha(path), upright[..., 3])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_associated_alpha_is_divided_out(tmp_path, dtype):
    """colour = stored / alpha, to the rounding of what was stored; opaque pixels to the bit."""
    path = tmp_path / "a.tif"
    full = 1.0 if dtype is np.float32 else float(np.iinfo(dtype).max)
    colours = rough(HEIGHT, WIDTH, 3, np.uint16) / 65535
    alpha = 0.5 + rough(HEIGHT, WIDTH, 1, np.uint16, seed=1) / 131070
    alpha[:10], alpha[10:20] = 1, 0
    stored = np.concatenate([colours * alpha, alpha], 2) * full
    stored = stored.astype(dtype) if dtype is np.float32 else np.rint(stored).astype(dtype)
    _write(path, stored, extrasamples=["assocalpha"], rowsperstrip=9)

    read = read_whole(path)

    assert any("associated" in note for note in peek(path).notes)
    assert np.array_equal(read_alpha(path), stored[..., 3])
    assert np.array_equal(read[:20], stored[:20, :, :3])
    # Half a code of the colour and half a code of alpha, over an alpha of at least 1/2, rounded.
    tolerance = 1e-6 if dtype is np.float32 else 2.5
    assert np.abs(read[20:] / 1.0 - colours[20:] * full).max() <= tolerance


def test_a_saved_selection_is_no_transparency(tmp_path):
    """Photoshop's extra channel is unspecified: given back as alpha it would cut things out."""
    path = tmp_path / "a.tif"
    picture = rough(HEIGHT, WIDTH, 4, np.uint16)
    _write(path, picture, extrasamples=["unspecified"])
    with open_picture(path) as reader:
        assert not reader.has_alpha
    assert any("further channels" in note for note in peek(path).notes)
    with open_mask(path, source="alpha") as reader:
        assert np.array_equal(reader.read(Window.whole(reader.size)), picture[..., 3])


def test_the_limit_on_pixels_stands_before_decoding(tmp_path):
    path = tmp_path / "a.tif"
    _write(path, rough(HEIGHT, WIDTH, 3, np.uint8))
    for use in (open_picture, open_mask):
        use(path, max_pixels=HEIGHT * WIDTH).close()
        with pytest.raises(BudgetError, match=f"{WIDTH} x {HEIGHT}") as caught:
            use(path, max_pixels=HEIGHT * WIDTH - 1)
        assert "--max-pixels" in caught.value.hint


def test_a_header_that_claims_gigapixels_asks_for_nothing(tmp_path):
    path = tmp_path / "a.tif"
    _write(path, rough(8, 8, 3, np.uint8), rowsperstrip=8)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for code in (256, 257, 278):
            tiff.pages[0].tags[code].overwrite(65000)
    with pytest.raises(PictureError, match=r"bytes of pixels|cut short"):
        open_picture(path)
