"""HEIC, AVIF, JPEG XL and OpenEXR in: their own libraries write, hz reads every code."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from made_exr import exr
from PIL import Image
from reading import check_damaged, read_alpha, read_whole, refused_when_cut
from ruled_heif import box, turned, with_properties
from ruled_pictures import rough, smooth, stored_as

from hzcli.core.window import Size, Window
from hzcli.errors import PictureError
from hzcli.io.picture import open_mask, open_picture, peek
from hzcli.io.scratch import Scratch

HEIGHT, WIDTH = 46, 70
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def _codes(bits, channels):
    codes = rough(HEIGHT, WIDTH, channels, np.uint16) >> (16 - bits)
    return codes.astype(np.uint8) if bits == 8 else codes


def _wide(codes, bits):
    if bits == 8:
        return codes
    return np.round(codes.astype(np.float64) * 65535 / (2**bits - 1)).astype(np.uint16)


def _heic(codes, bits, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    height, width, channels = codes.shape
    mode = MODES[channels]
    if bits == 8:
        picture = pillow_heif.from_bytes(mode, (width, height), codes.tobytes())
    else:
        data = (codes << (16 - bits)).tobytes()
        picture = pillow_heif.from_bytes(f"{mode};16", (width, height), data)
    twelve, pillow_heif.options.SAVE_HDR_TO_12_BIT = (
        pillow_heif.options.SAVE_HDR_TO_12_BIT,
        bits == 12,
    )
    file = io.BytesIO()
    try:
        picture.save(file, quality=-1, chroma=444, matrix_coefficients=0, **options)
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = twelve
    return file.getvalue()


def _avif(codes, bits):
    squeezed = codes[..., 0] if codes.shape[2] == 1 else codes
    # Lossless at any speed; at the one that it takes by itself a hundred times as long.
    return bytes(imagecodecs.avif_encode(squeezed, level=100, speed=10, bitspersample=bits))


def _jxl(codes, bits=None):
    return bytes(imagecodecs.jpegxl_encode(codes, lossless=True, bitspersample=bits))


def _save(path, kind):
    if kind == "heic":
        path.write_bytes(_heic(_codes(8, 3), 8))
    elif kind == "avif":
        path.write_bytes(_avif(_codes(10, 3), 10))
    elif kind == "jxl":
        path.write_bytes(_jxl(_codes(8, 3)))
    elif kind == "jxl boxes":
        path.write_bytes(_jxl(rough(HEIGHT, WIDTH, 3, np.uint16)))
    else:
        pixels = (rough(HEIGHT, WIDTH, 3, np.uint16) / 30000).astype(np.float32)
        exr(path, pixels, ("R", "G", "B"), tile=16 if kind == "exr tiles" else 0)


KINDS = ["heic", "avif", "jxl", "jxl boxes", "exr", "exr tiles"]


@pytest.mark.parametrize("encode", [_heic, _avif], ids=["heic", "avif"])
@pytest.mark.parametrize("channels", MODES)
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_every_code_of_heif_survives(tmp_path, encode, channels, bits):
    """10 and 12 bits are spread over 16; grey is expanded, alpha comes beside."""
    path = tmp_path / "a.bin"
    codes = _codes(bits, channels)
    path.write_bytes(encode(codes, bits))
    expected = _wide(codes, bits)

    header = peek(path)
    read = read_whole(path)

    assert header.depth == (8 if bits == 8 else 16)
    assert header.channels == {1: "grey", 3: "rgb", 4: "rgba"}[channels]
    assert header.size == Size(HEIGHT, WIDTH)
    assert np.array_equal(read, np.broadcast_to(expected[..., :3], read.shape))
    assert header.alpha == (channels == 4)
    if channels == 4:
        assert np.array_equal(read_alpha(path), expected[..., 3])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float16, np.float32, 10, 12])
def test_every_code_of_jpeg_xl_survives(tmp_path, channels, kind):
    path = tmp_path / "a.jxl"
    bits = kind if isinstance(kind, int) else None
    codes = rough(HEIGHT, WIDTH, channels, np.uint8 if kind is np.uint8 else np.uint16)
    if bits:
        codes, expected = codes >> (16 - bits), _wide(codes >> (16 - bits), bits)
    elif np.dtype(kind).kind == "f":
        codes = (codes / 65535).astype(kind)
        expected = codes.astype(np.float32)
    else:
        expected = codes
    path.write_bytes(_jxl(codes, bits))

    header, read = peek(path), read_whole(path)

    assert header.channels == {1: "grey", 2: "greya", 3: "rgb", 4: "rgba"}[channels]
    assert header.depth == (32 if expected.dtype == np.float32 else expected.dtype.itemsize * 8)
    colours = expected[..., :1] if channels < 3 else expected[..., :3]
    # libjxl's own half floats lose a bit below 2^-14.
    tolerance = 2**-15 if kind is np.float16 else 0
    assert read.dtype == expected.dtype
    assert np.abs(read.astype(np.float64) - colours).max() <= tolerance
    if channels in (2, 4):
        assert np.array_equal(read_alpha(path), expected[..., -1])


@pytest.mark.parametrize(
    ("height", "width"),
    [(8, 8), (64, 256), (100, 100), (100, 120), (90, 160), (1, 1), (7, 300), (600, 9), (3, 9000)],
)
def test_every_way_jpeg_xl_writes_a_size(tmp_path, height, width):
    """Small, by a ratio, in 9 bits, in 13."""
    path = tmp_path / "a.jxl"
    path.write_bytes(_jxl(np.zeros((height, width, 3), np.uint8)))
    assert peek(path).size == Size(height, width)
    assert read_whole(path).shape == (height, width, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_xl_is_read_upright(tmp_path, orientation):
    """libjxl takes the orientation of a JPEG over; window by window, and as a mask."""
    path = tmp_path / "a.jxl"
    exif, file = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    upright = smooth(HEIGHT, WIDTH)
    options = {"quality": 100, "subsampling": 0, "exif": exif}
    for picture in (upright, upright[..., 2]):
        file = io.BytesIO()
        Image.fromarray(stored_as(picture, orientation)).save(file, "jpeg", **options)
        path.write_bytes(imagecodecs.jpegxl_encode_jpeg(file.getvalue()))

        assert (peek(path).orientation, peek(path).size) == (orientation, Size(HEIGHT, WIDTH))
        if picture.ndim == 3:
            assert np.abs(read_whole(path).astype(int) - picture).max() <= 5
        else:
            with open_mask(path) as reader:
                mask = reader.read(Window.whole(reader.size))
            assert np.abs(mask.astype(int) - picture).max() <= 5


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("angle", [0, 1, 2, 3])
def test_avif_is_read_upright(tmp_path, angle, axis):
    """Turns by `irot` and `imir`, which are all eight."""
    path = tmp_path / "a.avif"
    codes = _codes(10, 3)
    added = [box(b"irot", bytes([angle]))] if angle else []
    added += [box(b"imir", bytes([axis]))] if axis is not None else []
    data = _avif(codes, 10)
    path.write_bytes(with_properties(data, added) if added else data)
    expected = turned(_wide(codes, 10), angle, axis)

    assert (peek(path).size.height, peek(path).size.width) == expected.shape[:2]
    assert np.array_equal(read_whole(path), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_what_other_writers_turn(tmp_path, kind, orientation):
    """Pillow and pillow-heif write EXIF's orientation as HEIF's own turn."""
    path = tmp_path / "a.bin"
    upright = smooth(64, 96)
    stored = np.ascontiguousarray(stored_as(upright, orientation))
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "heic":
        path.write_bytes(_heic(stored, 8, exif=exif.tobytes()))
        expected = np.asarray(pytest.importorskip("pillow_heif").open_heif(path))
    else:
        if not _pillow_writes_avif():
            pytest.skip("Pillow without AVIF")
        Image.fromarray(stored).save(path, "avif", quality=100, subsampling="4:4:4", exif=exif)
        expected = upright
    assert (peek(path).size.height, peek(path).size.width) == expected.shape[:2]
    assert np.abs(read_whole(path).astype(int) - expected).max() <= (0 if kind == "heic" else 8)


def _pillow_writes_avif():
    from PIL import features

    return "avif" in features.get_supported_modules()


@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_profiles_of_heif_are_carried_byte_for_byte(tmp_path, profile, kind):
    path = tmp_path / "a.bin"
    data = _heic(_codes(8, 3), 8) if kind == "heic" else _avif(_codes(8, 3), 8)
    if kind == "avif":
        data = with_properties(data, [box(b"colr", b"prof" + profile)])
    else:
        pillow_heif = pytest.importorskip("pillow_heif")
        picture = pillow_heif.open_heif(io.BytesIO(data))
        file = io.BytesIO()
        picture.save(file, icc_profile=profile, icc_profile_type="prof")
        data = file.getvalue()
    path.write_bytes(data)
    with open_picture(path) as reader:
        assert reader.meta.icc == profile


@pytest.mark.parametrize(
    ("points", "colour"),
    [((1, 13), "srgb"), ((12, 13), "p3"), ((9, 14), "rec2020"), ((9, 16), None), ((2, 2), None)],
)
def test_coded_colours_of_avif(tmp_path, points, colour):
    path = tmp_path / "a.avif"
    primaries, transfer = points
    data = imagecodecs.avif_encode(
        _codes(8, 3), level=100, speed=10, primaries=primaries, transfer=transfer
    )
    path.write_bytes(data)
    with open_picture(path) as reader:
        assert reader.meta.colour == colour
    assert any("HDR" in note for note in peek(path).notes) == (points[1] == 16)


def test_the_profile_of_a_jpeg_xl_is_that_of_its_pixels(tmp_path):
    oiio = pytest.importorskip("OpenImageIO")
    path, icc = tmp_path / "a.jxl", imagecodecs.cms_profile("adobergb")
    pixels = rough(HEIGHT, WIDTH, 3, np.uint16)
    spec = oiio.ImageSpec(WIDTH, HEIGHT, 3, "uint16")
    kind = oiio.TypeDesc(f"uint8[{len(icc)}]")
    spec.attribute("ICCProfile", kind, np.frombuffer(icc, np.uint8))
    spec.attribute("compression", "jpegxl:100")
    file = oiio.ImageOutput.create(str(path))
    assert file.open(str(path), spec) and file.write_image(pixels)
    file.close()
    with open_picture(path) as reader:
        assert reader.meta.icc == icc
        assert reader.meta.colour is None
    assert np.array_equal(read_whole(path), pixels)


@pytest.mark.parametrize("name", ["a.jpg", "a b \u00fc \u65e5.tif", "n" * 200, "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_name_plays_no_part(tmp_path, kind, name):
    folder = tmp_path / ("d" * 200) / "with space"
    folder.mkdir(parents=True)
    _save(tmp_path / "a.bin", kind)
    (tmp_path / "a.bin").rename(folder / name)
    assert read_whole(folder / name).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_larger_than_the_budget_is_held_on_disk(tmp_path, kind):
    path = tmp_path / "a.bin"
    _save(path, kind)
    whole = read_whole(path)
    with open_picture(path, budget_bytes=1) as reader:
        assert np.array_equal(reader.read(Window.whole(reader.size)), whole)
        assert isinstance(reader._source._pixels, Scratch)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_an_error_or_whole(tmp_path, kind):
    path = tmp_path / "a.bin"
    _save(path, kind)
    end = path.stat().st_size
    lengths = {*range(0, end, max(1, end // 40)), end - 1}
    assert refused_when_cut(path, lengths) >= len(lengths) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_never_ends_in_a_traceback(tmp_path, kind):
    path = tmp_path / "a.bin"
    _save(path, kind)
    check_damaged(path, trials=40, head=300)


@pytest.mark.parametrize("kind", KINDS)
def test_text_and_zeros_behind_the_magic_are_errors(tmp_path, kind):
    path = tmp_path / "a.bin"
    _save(path, kind)
    head = path.read_bytes()[:16]
    for rest in (bytes(5000), b"Dear photographer, " * 200, b""):
        path.write_bytes(head + rest)
        with pytest.raises(PictureError) as caught:
            read_whole(path)
        assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("kind", "module", "package"),
    [("heic", "pillow_heif", "pillow-heif"), ("exr", "OpenImageIO", "OpenImageIO")],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, kind, module, package):
    import sys

    path = tmp_path / "a.bin"
    _save(path, kind)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PictureError, match=f"needs the package {package}") as caught:
        read_whole(path)
    assert f"pip install {package}" in caught.value.hint


def test_sequences_are_refused(tmp_path):
    path = tmp_path / "a.avif"
    frames = np.stack([_codes(8, 3)] * 2)
    path.write_bytes(imagecodecs.avif_encode(frames, level=90, speed=10))
    data = bytearray(path.read_bytes())
    data[8:12] = b"avis"
    path.write_bytes(data)
    with pytest.raises(PictureError, match="a sequence of AVIF"):
        peek(path)
