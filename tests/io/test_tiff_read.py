"""TIFF in: what tifffile.imread gives, window by window."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from ruled_pictures import rough

from hzcli.core.window import Size, Window, bands
from hzcli.errors import PictureError
from hzcli.io.formats import segments
from hzcli.io.picture import open_mask, open_picture, peek

HEIGHT, WIDTH = 101, 83
LAYOUTS = {
    "strips": {"rowsperstrip": 7},
    "one strip": {"rowsperstrip": HEIGHT},
    "tiles": {"tile": (32, 48)},
    "planes": {"rowsperstrip": 7, "planarconfig": "separate"},
    "tiled planes": {"tile": (32, 48), "planarconfig": "separate"},
}
CODECS = {
    "none": {},
    "lzw": {"compression": "lzw"},
    "lzw+p": {"compression": "lzw", "predictor": 2},
    "deflate": {"compression": "adobe_deflate"},
    "deflate+p": {"compression": "adobe_deflate", "predictor": 2},
    "old deflate": {"compression": "deflate"},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
}


def _write(path, picture, layout="strips", codec="none", **more):
    planar = "planarconfig" in LAYOUTS[layout]
    data = np.moveaxis(picture, 2, 0) if planar else picture
    options = {"photometric": "rgb", **LAYOUTS[layout], **CODECS[codec], **more}
    tifffile.imwrite(path, data, **options)


def _read(path, **options):
    with open_picture(path, **options) as reader:
        return reader.read(Window.whole(reader.size)).copy()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_codec(tmp_path, layout, codec, dtype):
    path = tmp_path / "a.tif"
    _write(path, rough(HEIGHT, WIDTH, 3, dtype), layout, codec)
    expected = tifffile.imread(path)
    if "planes" in layout:
        expected = np.moveaxis(expected, 0, 2)
    with open_picture(path) as reader:
        assert reader.depth == np.dtype(dtype).itemsize * 8
        for window in bands(reader.size, 10):
            window = Window(window.top, window.bottom, 5, 60, reader.size).grow(3)

            read = reader.read(window)

            assert read.dtype == dtype
            assert np.array_equal(
                read, expected[window.top : window.bottom, window.left : window.right]
            )


@pytest.mark.parametrize("layout", ["strips", "tiles"])
@pytest.mark.parametrize("codec", ["none", "lzw+p", "deflate"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_big_endian_and_bigtiff(tmp_path, layout, codec, bigtiff):
    path = tmp_path / "a.tif"
    picture = rough(HEIGHT, WIDTH, 3, np.uint16)
    _write(path, picture, layout, codec, byteorder=">", bigtiff=bigtiff)

    read = _read(path)

    assert read.dtype == np.uint16
    assert np.array_equal(read, picture)


@pytest.mark.parametrize("codec", CODECS)
def test_alpha_is_left_out_and_can_be_the_mask(tmp_path, codec):
    path = tmp_path / "a.tif"
    picture = rough(HEIGHT, WIDTH, 4, np.uint16)
    _write(path, picture, "strips", codec, extrasamples=["unassalpha"])

    assert peek(path).channels == "rgba"
    assert np.array_equal(_read(path), picture[..., :3])
    with open_mask(path, source="alpha") as reader:
        assert np.array_equal(reader.read(Window.whole(reader.size)), picture[..., 3])


def test_photoshop_channels_beyond_alpha(tmp_path):
    path = tmp_path / "a.tif"
    picture = rough(HEIGHT, WIDTH, 6, np.uint8)
    _write(path, picture, extrasamples=[0, 0, 0])

    assert np.array_equal(_read(path), picture[..., :3])


def test_a_ramp_of_all_codes_survives(tmp_path):
    path = tmp_path / "a.tif"
    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    picture = np.stack([codes, codes[::-1], codes.T], axis=-1)
    _write(path, picture, "tiles", "deflate+p")

    assert np.array_equal(_read(path), picture)


@pytest.mark.parametrize("depth", [8, 16])
def test_what_opencv_writes(tmp_path, depth):
    """libtiff's own strips, LZW and predictor."""
    path = tmp_path / "a.tif"
    picture = rough(HEIGHT, WIDTH, 3, np.uint8 if depth == 8 else np.uint16)
    path.write_bytes(cv2.imencode(".tif", picture[..., ::-1])[1].tobytes())

    assert np.array_equal(_read(path), picture)


@pytest.mark.parametrize("codec", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_what_pillow_writes(tmp_path, codec):
    path = tmp_path / "a.tif"
    picture = rough(HEIGHT, WIDTH, 3, np.uint8)
    Image.fromarray(picture).save(path, compression=codec)

    assert np.array_equal(_read(path), picture)


def test_jpeg_inside_tiff(tmp_path):
    path = tmp_path / "a.tif"
    picture = np.repeat(np.repeat(rough(12, 10, 3, np.uint8), 16, 0), 16, 1)
    Image.fromarray(picture).save(path, compression="jpeg", quality=95)
    expected = np.asarray(Image.open(path)).astype(int)

    assert np.abs(_read(path) - expected).max() <= 1


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """The segments that were decoded, in order; nothing is kept but what must be."""
    indices: list[int] = []
    original = segments.TiffRows._decode

    def count(self, index, data):
        indices.append(index)
        return original(self, index, data)

    monkeypatch.setattr(segments.TiffRows, "_decode", count)
    monkeypatch.setattr(segments, "_SMALL_BYTES", 0)
    return indices


def test_only_the_segments_of_a_window_are_decoded_and_once(tmp_path, decoded):
    """Bands that overlap by a halo decode every tile once, and a corner needs one tile."""
    path = tmp_path / "a.tif"
    _write(path, rough(HEIGHT, WIDTH, 3, np.uint16), "tiles", "deflate+p")
    with open_picture(path) as reader:
        reader.read(Window(0, 5, 0, 5, reader.size))
        assert decoded == [0]
        for window in bands(reader.size, 10):
            reader.read(window.grow(4))

    assert sorted(decoded) == list(range(4 * 2))


@pytest.mark.parametrize("budget", [None, 1000])
def test_a_picture_turned_by_a_quarter_is_decoded_once(tmp_path, decoded, budget):
    """A band of its rows is a band of stored columns, which meets every strip."""
    path = tmp_path / "a.tif"
    tags = [(274, 3, 1, 6, True)]
    _write(path, rough(HEIGHT, WIDTH, 3, np.uint16), "strips", "deflate+p", extratags=tags)
    with open_picture(path, budget_bytes=budget) as reader:
        for window in bands(reader.size, 10):
            reader.read(window.grow(4))

    assert sorted(decoded) == list(range(15))


@pytest.mark.parametrize("codec", ["none", "deflate"])
def test_one_huge_strip_goes_to_the_scratch_file_or_is_read_in_place(tmp_path, codec):
    path = tmp_path / "a.tif"
    picture = rough(300, 270, 3, np.uint16)
    tifffile.imwrite(path, picture, photometric="rgb", rowsperstrip=300, **CODECS[codec])

    assert np.array_equal(_read(path, budget_bytes=1000), picture)


def test_a_thumbnail_page_is_passed_over(tmp_path):
    path = tmp_path / "a.tif"
    picture = rough(HEIGHT, WIDTH, 3, np.uint8)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(picture[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
        tiff.write(picture, photometric="rgb", metadata=None)

    assert peek(path).size == Size(HEIGHT, WIDTH)
    assert np.array_equal(_read(path), picture)


def _retag(path, code, value):
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags[code].overwrite(value)


@pytest.mark.parametrize(
    ("words", "make"),
    [
        ("64-bit TIFF", lambda p: _write(p, np.zeros((8, 8, 3), np.uint64))),
        ("16-bit signed", lambda p: _write(p, np.zeros((8, 8, 3), np.int16))),
        ("complex", lambda p: _write(p, np.zeros((8, 8, 3), np.complex64))),
        ("CIELAB", lambda p: tifffile.imwrite(p, rough(8, 8, 3, np.uint8), photometric="cielab")),
        ("JPEG2000", lambda p: _write(p, rough(64, 64, 3, np.uint8), compression="jpeg2000")),
    ],
)
def test_what_is_refused_is_named(tmp_path, words, make):
    path = tmp_path / "a.tif"
    make(path)
    with pytest.raises(PictureError) as caught, open_picture(path):
        pass
    assert words in caught.value.message
    assert "expected" in caught.value.message or "compression" in caught.value.message
    assert caught.value.hint


def test_camera_raw_is_refused(tmp_path):
    version = [(50706, 1, 4, (1, 4, 0, 0), True)]
    for name, tags in (("a.nef", []), ("a.3FR", []), ("a.iiq", []), ("a.tif", version)):
        path = tmp_path / name
        _write(path, rough(8, 8, 3, np.uint16), extratags=tags)
        with pytest.raises(PictureError, match="camera raw") as caught:
            peek(path)
        assert "Develop it first" in caught.value.hint


@pytest.mark.parametrize(("layout", "words"), [("strips", "of 15 strips"), ("tiles", "of 8 tiles")])
def test_a_cut_file_is_known_from_its_header(tmp_path, layout, words):
    """So that a dry run tells of it."""
    path = tmp_path / "a.tif"
    _write(path, rough(HEIGHT, WIDTH, 3, np.uint16), layout, "deflate+p")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PictureError, match=f"it holds .* {words}"):
        peek(path)


def test_an_empty_strip_is_an_error(tmp_path):
    """A writer that was interrupted leaves zeros in its tables."""
    path = tmp_path / "a.tif"
    _write(path, rough(HEIGHT, WIDTH, 3, np.uint16), "strips", "deflate+p")
    for tag in (273, 279):
        with tifffile.TiffFile(path) as tiff:
            values = list(tiff.pages[0].tags[tag].value)
        values[7] = 0
        _retag(path, tag, values)
        with pytest.raises(PictureError, match="14 of 15 strips"):
            peek(path)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("layout", ["strips", "one strip", "tiles"])
def test_a_strip_that_decodes_too_short_is_an_error(tmp_path, layout, codec):
    """The encoded bytes are halved but all lie in the file: no decoder may fill up with black."""
    path = tmp_path / "a.tif"
    _write(path, rough(HEIGHT, WIDTH, 3, np.uint16), layout, codec)
    with tifffile.TiffFile(path) as tiff:
        counts = list(tiff.pages[0].databytecounts)
    counts[-1] //= 2
    _retag(path, 325 if layout == "tiles" else 279, counts)
    with pytest.raises(PictureError):
        _read(path)
