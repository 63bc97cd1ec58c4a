"""What may be a mask, and which of its channels is taken."""

from __future__ import annotations

import functools

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from reading import read_whole
from ruled_pictures import rough, smooth

from hzcli.errors import MaskError
from hzcli.io.picture import open_mask

GREY = smooth(40, 50)[..., 0]
_read = functools.partial(read_whole, opened=open_mask)


def _save(path, array, kind):
    if kind == "tiff":
        options = {1: {}, 2: {"extrasamples": [2]}, 4: {"extrasamples": [2]}}
        channels = 1 if array.ndim == 2 else array.shape[2]
        photometric = "rgb" if channels >= 3 else "minisblack"
        more = {"planarconfig": "contig"} if channels > 1 else {}
        tifffile.imwrite(
            path,
            array,
            photometric=photometric,
            rowsperstrip=8,
            **options.get(channels, {}),
            **more,
        )
    else:
        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(array)))


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
class TestChannels:
    def test_grey(self, tmp_path, kind, dtype):
        mask = rough(40, 50, 1, dtype)[..., 0]
        _save(tmp_path / "m", mask, kind)
        read = _read(tmp_path / "m")
        assert read.dtype == dtype
        assert np.array_equal(read, mask)

    def test_rgb_of_equal_channels(self, tmp_path, kind, dtype):
        mask = rough(40, 50, 1, dtype)
        _save(tmp_path / "m", mask.repeat(3, axis=2), kind)
        assert np.array_equal(_read(tmp_path / "m"), mask[..., 0])

    def test_rgb_that_differs_by_two_codes_but_not_three(self, tmp_path, kind, dtype):
        unit = 257 if dtype is np.uint16 else 1
        mask = np.full((40, 50, 3), 100 * unit, dtype)
        mask[30, 20, 0] += 2 * unit
        _save(tmp_path / "m", mask, kind)
        assert np.array_equal(_read(tmp_path / "m"), mask[..., 1])
        mask[30, 20, 0] += 1
        _save(tmp_path / "m", mask, kind)
        with pytest.raises(MaskError, match="is coloured"):
            _read(tmp_path / "m")

    def test_alpha_where_the_colours_are_the_same_everywhere(self, tmp_path, kind, dtype):
        alpha = rough(40, 50, 1, dtype)
        for colours in (1, 3):
            flat = np.full((40, 50, colours), 77, dtype)
            _save(tmp_path / "m", np.concatenate([flat, alpha], axis=2), kind)
            assert np.array_equal(_read(tmp_path / "m"), alpha[..., 0])

    def test_colours_where_they_vary(self, tmp_path, kind, dtype):
        """One different pixel in the last row is enough."""
        for colours in (1, 3):
            mask = np.zeros((40, 50, colours + 1), dtype)
            mask[39, 49, :colours] = 200
            mask[..., colours] = 255
            _save(tmp_path / "m", mask, kind)
            assert np.array_equal(_read(tmp_path / "m"), mask[..., 0])

    def test_alpha_when_it_is_named(self, tmp_path, kind, dtype):
        for channels in (2, 4):
            picture = rough(40, 50, channels, dtype)
            _save(tmp_path / "m", picture, kind)
            assert np.array_equal(_read(tmp_path / "m", source="alpha"), picture[..., -1])

    def test_no_alpha_to_take(self, tmp_path, kind, dtype):
        _save(tmp_path / "m", rough(40, 50, 3, dtype), kind)
        with pytest.raises(MaskError, match="no alpha channel"):
            open_mask(tmp_path / "m", source="alpha")


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_one_bit_becomes_full_scale(tmp_path, kind):
    mask = GREY > 100
    Image.fromarray(mask).save(tmp_path / "m", kind)
    assert np.array_equal(_read(tmp_path / "m"), mask * np.uint8(255))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_white_is_foreground_also_where_zero_is_white(tmp_path, dtype):
    mask = (GREY > 100) if dtype is bool else rough(40, 50, 1, dtype)[..., 0]
    tifffile.imwrite(tmp_path / "m", ~mask, photometric="miniswhite", rowsperstrip=9)
    expected = mask * np.uint8(255) if dtype is bool else mask
    assert np.array_equal(_read(tmp_path / "m"), expected)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_png_of_few_bits_is_spread_to_full_scale(tmp_path, bits):
    codes = np.arange(2**bits, dtype=np.uint8)[None].repeat(3, axis=0)
    header = b"".join(n.to_bytes(4, "big") for n in (2**bits, 3)) + bytes([bits, 0, 0, 0, 0])
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]).tobytes()
        for row in codes
    )
    (tmp_path / "m").write_bytes(_png((b"IHDR", header), (b"IDAT", _deflate(rows)), (b"IEND", b"")))
    assert np.array_equal(_read(tmp_path / "m"), codes * (255 // (2**bits - 1)))


def _deflate(data):
    import zlib

    return zlib.compress(data)


def _png(*chunks):
    import zlib

    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, body in chunks:
        check = zlib.crc32(name + body).to_bytes(4, "big")
        parts.append(len(body).to_bytes(4, "big") + name + body + check)
    return b"".join(parts)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_a_grey_palette_is_a_mask_and_a_coloured_one_is_not(tmp_path, kind):
    picture = Image.fromarray(GREY // 4)
    picture = picture.convert("P")
    picture.putpalette([v for i in range(256) for v in (255 - i,) * 3])
    picture.save(tmp_path / "m", kind)
    assert np.array_equal(_read(tmp_path / "m"), 255 - GREY // 4)
    picture.putpalette([v for i in range(256) for v in (255 - i, 0, i)])
    picture.save(tmp_path / "m", kind)
    with pytest.raises(MaskError, match="is coloured"):
        _read(tmp_path / "m")


def test_jpeg_masks(tmp_path):
    for mode in ("L", "RGB"):
        Image.fromarray(GREY).convert(mode).save(tmp_path / "m", "jpeg", quality=100)
        assert np.abs(_read(tmp_path / "m").astype(int) - GREY).max() <= 2


def test_a_cut_out_tells_of_its_alpha(tmp_path):
    _save(tmp_path / "m", rough(40, 50, 4, np.uint8), "png")
    with pytest.raises(MaskError) as caught:
        _read(tmp_path / "m")
    assert "--mask-from alpha" in caught.value.hint


def test_cmyk_is_no_mask(tmp_path):
    Image.fromarray(smooth(40, 50)).convert("CMYK").save(tmp_path / "m", "jpeg")
    with pytest.raises(MaskError, match="CMYK"):
        open_mask(tmp_path / "m")
