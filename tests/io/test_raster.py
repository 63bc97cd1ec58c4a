"""JPEG, PNG and WebP in: the pixels Pillow and imagecodecs know, the errors a person can use."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from reading import check_damaged, read_whole, refused_when_cut
from ruled_pictures import rough, smooth

from hzcli.core.window import Size, Window
from hzcli.errors import BudgetError, PictureError
from hzcli.io.formats.raster import examine
from hzcli.io.formats.sniff import FORMATS
from hzcli.io.picture import open_mask, open_picture, peek
from hzcli.io.scratch import Scratch


def _save(path, kind, picture=None):
    picture = smooth(60, 90) if picture is None else picture
    options = {"webp": {"lossless": True}}.get(kind, {})
    if kind == "png16":
        path.write_bytes(imagecodecs.png_encode(smooth(60, 90, np.uint16)))
    elif kind == "jpeg-p":
        Image.fromarray(picture).save(path, "jpeg", progressive=True)
    elif kind.startswith("tiff"):
        codec = {"tiff": None, "tiff-lzw": "lzw", "tiff-deflate": "adobe_deflate"}[kind]
        tifffile.imwrite(path, picture, photometric="rgb", compression=codec, rowsperstrip=8)
    else:
        Image.fromarray(picture).save(path, kind, **options)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_what_pillow_decodes(tmp_path, subsampling, progressive):
    path = tmp_path / "a.jpg"
    picture = Image.fromarray(smooth(61, 93))
    picture.save(path, quality=90, subsampling=subsampling, progressive=progressive)

    assert np.array_equal(read_whole(path), np.asarray(Image.open(path)))


def test_jpeg_stored_as_rgb(tmp_path):
    """Adobe transform 0: three channels that are no YCbCr."""
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth(61, 93)).save(path, quality=95, keep_rgb=True)

    assert np.array_equal(read_whole(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_png_and_webp_of_8_bits(tmp_path, mode):
    picture = rough(31, 47, len(mode), np.uint8)
    for kind, options in (("png", {}), ("webp", {"lossless": True, "exact": True})):
        path = tmp_path / kind
        Image.fromarray(picture).save(path, kind, **options)

        assert peek(path).channels == mode.lower()
        assert np.array_equal(read_whole(path), picture[..., :3])
        if mode == "RGBA":
            with open_mask(path, source="alpha") as reader:
                assert np.array_equal(reader.read(Window.whole(reader.size)), picture[..., 3])


@pytest.mark.parametrize("channels", [3, 4])
def test_png_of_16_bits_keeps_every_code(tmp_path, channels):
    path = tmp_path / "a.png"
    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    picture = np.stack([codes, codes[::-1], codes.T, codes[:, ::-1]][:channels], axis=-1)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(picture)))

    assert peek(path).depth == 16
    assert np.array_equal(read_whole(path), picture[..., :3])


def test_a_transparent_colour_in_a_png_is_no_alpha(tmp_path):
    path = tmp_path / "a.png"
    picture = smooth(20, 30)
    Image.fromarray(picture).save(path, transparency=(0, 0, 255))

    assert np.array_equal(read_whole(path), picture)


def test_the_name_plays_no_part(tmp_path):
    path = tmp_path / "a.jpg"
    picture = smooth(20, 30)
    Image.fromarray(picture).save(path, "png")

    assert peek(path).format == "png"
    assert np.array_equal(read_whole(path), picture)


def test_pillows_limit_on_pixels_is_not_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for kind in ("jpeg", "png", "webp"):
        _save(tmp_path / kind, kind)
        assert peek(tmp_path / kind).size == Size(60, 90)
        assert read_whole(tmp_path / kind).shape == (60, 90, 3)


KINDS = ["jpeg", "jpeg-p", "png", "png16", "webp", "tiff", "tiff-lzw", "tiff-deflate"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_an_error_or_whole(tmp_path, kind):
    """Cut anywhere, a file never gives grey or black rows in silence."""
    path = tmp_path / "a"
    _save(path, kind, rough(60, 90, 3, np.uint8) if kind.startswith("tiff") else None)
    end = path.stat().st_size
    lengths = {*range(0, end, max(1, end // 150)), *range(end - 20, end)}
    assert refused_when_cut(path, lengths) >= len(lengths) - 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_never_ends_in_a_traceback(tmp_path, kind):
    path = tmp_path / "a"
    _save(path, kind)
    check_damaged(path, trials=150, head=400)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty (0 bytes)"),
        (b"Dear photographer,\n", "a text file"),
        ("Liebe Grüße".encode(), "a text file"),
        (bytes(5000), "begins with zeros"),
        (b"GIF89a" + bytes(20), "a GIF picture"),
        (b"\0\0\0\x18ftypisom" + bytes(20), "a video"),
        (b"\0\0\0\x0cjP  " + bytes(20), "a JPEG 2000 picture"),
        (b"\x7fELF\1\1\1" + bytes(20), "not a picture (it begins with 7f 45 4c 46)"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, data, words):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for use in (peek, open_picture, open_mask):
        with pytest.raises(PictureError) as caught:
            use(path)
        assert words in caught.value.message
        assert f"expected {FORMATS}" in caught.value.message or not data
        assert caught.value.hint


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(PictureError, match="cannot be opened"):
            peek(path)


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [
        ("L", "jpeg", "grey"),
        ("L", "png", "grey"),
        ("LA", "png", "greya"),
        ("P", "png", "palette"),
        ("1", "png", "bilevel"),
    ],
)
def test_other_kinds_of_colour_are_expanded(tmp_path, mode, kind, channels):
    """Pillow's conversion is the oracle: palette, grey and 1 bit to RGB."""
    path = tmp_path / "a"
    picture = Image.fromarray(smooth(20, 30)).convert(mode)
    picture.save(path, kind)
    assert peek(path).channels == channels
    assert np.array_equal(read_whole(path), np.asarray(Image.open(path).convert("RGB")))
    with open_picture(path) as reader:
        assert reader.has_alpha == (mode == "LA")
        if reader.has_alpha:
            alpha = reader.read_alpha(Window.whole(reader.size))
            assert np.array_equal(alpha, np.asarray(picture)[..., 1])


def test_twelve_bit_jpeg_is_refused(tmp_path):
    path = tmp_path / "a.jpg"
    _save(path, "jpeg")
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 4] = 12
    path.write_bytes(data)
    with pytest.raises(PictureError, match="12-bit JPEG"):
        peek(path)


def test_animations_are_refused(tmp_path):
    frames = [Image.fromarray(smooth(20, 30)), Image.fromarray(smooth(20, 30)[::-1])]
    for kind in ("webp", "png"):
        path = tmp_path / kind
        frames[0].save(path, kind, save_all=True, append_images=frames[1:])
        with pytest.raises(PictureError, match="animated"):
            peek(path)


def test_trailing_bytes_after_the_picture_do_no_harm(tmp_path):
    """Phones append videos and depth maps."""
    for kind in ("jpeg", "png", "webp"):
        path = tmp_path / kind
        _save(path, kind)
        whole = read_whole(path).copy()
        path.write_bytes(path.read_bytes() + b"motion photo" * 100)

        assert np.array_equal(read_whole(path), whole)


def test_a_jpeg_inside_the_exif_does_not_end_the_picture(tmp_path):
    """The embedded thumbnail has an end marker of its own."""
    path = tmp_path / "a.jpg"
    _save(path, "jpeg")
    plain = path.read_bytes()
    segment = b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0\0\0\0\0" + plain[:2000] + b"\xff\xd9"
    exif = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    path.write_bytes(plain[:2] + exif + plain[2:-2])
    with pytest.raises(PictureError, match="end marker"):
        read_whole(path)
    path.write_bytes(plain[:2] + exif + plain[2:])
    assert read_whole(path).shape == (60, 90, 3)


def test_an_absurd_header_asks_for_no_memory(tmp_path):
    path = tmp_path / "a.jpg"
    _save(path, "jpeg")
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(BudgetError, match="megapixels"):
        open_picture(path)
    reader = open_picture(path, max_pixels=1 << 40)
    with pytest.raises(PictureError, match=r"decoded whole|bytes and claims"):
        reader.read(Window(0, 1, 0, 1, reader.size))


def test_pixels_are_decoded_at_the_first_read_only(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    _save(path, "png")
    with open_picture(path) as reader:
        path.unlink()
        with pytest.raises(PictureError):
            reader.read(Window.whole(reader.size))


def test_what_is_larger_than_the_budget_is_held_on_disk(tmp_path):
    path = tmp_path / "a.png"
    _save(path, "png")
    for budget, held in ((60 * 90 * 3, np.ndarray), (60 * 90 * 3 - 1, Scratch)):
        with open_picture(path, budget_bytes=budget) as reader:
            read = reader.read(Window.whole(reader.size))
            assert isinstance(reader._source._pixels, held)
            assert np.array_equal(read, smooth(60, 90))


def test_the_header_carries_what_examine_saw(tmp_path):
    path = tmp_path / "a.png"
    _save(path, "png")
    assert peek(path) == examine(path, "png")[0]
