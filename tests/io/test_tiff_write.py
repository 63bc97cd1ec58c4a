"""TIFF out: what tifffile, OpenCV and Pillow read back."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from ruled_pictures import rough

from hzcli.core.window import Size, Window
from hzcli.errors import PictureError
from hzcli.io import atomic, tiff
from hzcli.io.meta import Meta
from hzcli.io.picture import open_picture
from hzcli.io.tiff import TiffWriter

NOTHING = Meta()


def _write(path: Path, picture: np.ndarray, bands: list[int] | None = None, **options) -> None:
    meta = options.pop("meta", NOTHING)
    with TiffWriter(path, Size(*picture.shape[:2]), meta, **options) as writer:
        for part in np.split(picture, np.cumsum(bands or [])):
            writer.write(part)


@pytest.mark.parametrize("compression", ["deflate", "none"])
@pytest.mark.parametrize(
    ("height", "width", "bands"),
    [(1, 1, []), (64, 5, [64]), (65, 7, [1, 1, 40]), (200, 33, [130]), (129, 257, [0, 63, 64])],
)
def test_three_readers_read_what_was_written(tmp_path, height, width, bands, compression):
    path = tmp_path / "a.tif"
    picture = rough(height, width, 3, np.uint16)

    _write(path, picture, bands, compression=compression)

    assert np.array_equal(tifffile.imread(path).reshape(picture.shape), picture)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    assert np.array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)[..., ::-1], picture)
    with open_picture(path) as reader:
        assert np.array_equal(reader.read(Window.whole(reader.size)), picture)
    with Image.open(path) as opened:  # Pillow keeps 8 bits of 16, so its high bytes are compared
        opened.load()
        assert opened.size == (width, height)
        assert np.array_equal(np.asarray(opened), (picture >> 8).astype(np.uint8))


def test_a_ramp_of_all_codes_survives(tmp_path):
    path = tmp_path / "a.tif"
    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    picture = np.stack([codes, codes[::-1], codes.T], axis=-1)

    _write(path, picture, [100])

    assert np.array_equal(tifffile.imread(path), picture)


def test_the_tags_that_photo_applications_need(tmp_path, profile):
    path = tmp_path / "a.tif"
    meta = Meta(profile, (300.0, 299.5, "inch"))

    _write(path, rough(150, 20, 3, np.uint16), meta=meta, software="hz", description="a shot")

    with tifffile.TiffFile(path) as opened:
        page, tags = opened.pages[0], opened.pages[0].tags
        assert not opened.is_bigtiff
        assert len(opened.pages) == 1
        assert (tags[259].value, tags[317].value) == (8, 2)  # Adobe deflate, horizontal predictor
        assert page.rowsperstrip == 64
        assert (tags[258].value, tags[277].value) == ((16, 16, 16), 3)
        assert tags[34675].value == profile
        assert tags[274].value == 1
        assert (tags[305].value, tags[270].value) == ("hz", "a shot")
    with open_picture(path) as reader:
        assert reader.meta == meta


@pytest.mark.parametrize("unit", ["inch", "centimetre", "none"])
def test_resolution_keeps_its_unit(tmp_path, unit):
    path = tmp_path / "a.tif"
    meta = Meta(None, (118.11, 59.5, unit))
    _write(path, rough(3, 3, 3, np.uint16), meta=meta)
    with open_picture(path) as reader:
        assert reader.meta.resolution == (pytest.approx(118.11, rel=1e-6), 59.5, unit)


def test_nothing_is_added_where_nothing_is_known(tmp_path):
    path = tmp_path / "a.tif"
    _write(path, rough(3, 3, 3, np.uint16))
    with open_picture(path) as reader:
        assert reader.meta == NOTHING
    with tifffile.TiffFile(path) as opened:
        assert not {270, 305, 306} & set(opened.pages[0].tags.keys())


def test_the_same_rows_give_the_same_bytes(tmp_path):
    picture = rough(300, 40, 3, np.uint16)
    _write(tmp_path / "a.tif", picture, [10, 200])
    _write(tmp_path / "b.tif", picture)

    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.parametrize("compression", ["deflate", "none"])
def test_bigtiff_only_above_the_limit(tmp_path, monkeypatch, compression):
    picture = rough(100, 30, 3, np.uint16)
    for limit, expected in ((picture.nbytes, False), (picture.nbytes - 1, True)):
        monkeypatch.setattr(tiff, "_CLASSIC_BYTES", limit)
        path = tmp_path / f"{expected}.tif"
        _write(path, picture, compression=compression)
        with tifffile.TiffFile(path) as opened:
            assert opened.is_bigtiff is expected
            assert np.array_equal(opened.asarray(), picture)


def test_the_classic_limit_leaves_room_for_noise_that_does_not_shrink():
    noise = rough(64, 1000, 3, np.uint16)
    writer_overhead = 1.05
    assert tiff._CLASSIC_BYTES * writer_overhead < 2**32
    import zlib

    assert len(zlib.compress(noise.tobytes(), 1)) < noise.nbytes * writer_overhead


@pytest.mark.parametrize("rows", [0, 10, 199])
@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(tmp_path, rows, trouble):
    path = tmp_path / "out" / "a.tif"
    with pytest.raises(trouble), TiffWriter(path, Size(200, 30), NOTHING) as writer:
        writer.write(rough(rows, 30, 3, np.uint16))
        raise trouble
    assert list(path.parent.iterdir()) == []


def test_an_unfinished_picture_is_never_named(tmp_path):
    writer = TiffWriter(tmp_path / "a.tif", Size(200, 30), NOTHING)
    writer.write(rough(199, 30, 3, np.uint16))
    assert [p.name.startswith(".a.tif") for p in tmp_path.iterdir()] == [True]
    with pytest.raises(ValueError, match="199 of 200"):
        writer.close()
    assert list(tmp_path.iterdir()) == []
    writer.close()
    writer.abort()


def test_wrong_rows_are_a_programming_error(tmp_path):
    with TiffWriter(tmp_path / "a.tif", Size(2, 3), NOTHING) as writer:
        for wrong in (
            np.zeros((1, 3, 3), np.uint8),
            np.zeros((1, 4, 3), np.uint16),
            np.zeros((3, 3, 3), np.uint16),
        ):
            with pytest.raises(ValueError):
                writer.write(wrong)
        writer.write(np.zeros((2, 3, 3), np.uint16))


def test_the_caller_may_reuse_its_rows(tmp_path):
    path = tmp_path / "a.tif"
    picture = rough(640, 50, 3, np.uint16)
    rows = np.empty((64, 50, 3), np.uint16)
    with TiffWriter(path, Size(640, 50), NOTHING) as writer:
        for top in range(0, 640, 64):
            rows[:] = picture[top : top + 64]
            writer.write(rows)
            rows[:] = 0

    assert np.array_equal(tifffile.imread(path), picture)


def test_an_existing_file_is_kept_unless_told(tmp_path):
    path = tmp_path / "a.tif"
    path.write_text("mine")
    picture = rough(3, 3, 3, np.uint16)
    with pytest.raises(PictureError, match="exists already"):
        _write(path, picture)
    assert path.read_text() == "mine"

    _write(path, picture, overwrite=True)

    assert np.array_equal(tifffile.imread(path), picture)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "a.tif"
    with (
        pytest.raises(PictureError, match="exists already"),
        TiffWriter(path, Size(1, 1), NOTHING) as writer,
    ):
        writer.write(rough(1, 1, 3, np.uint16))
        path.write_text("mine")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, *_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile.FileHandle, "write", full)
    path = tmp_path / "a.tif"
    with pytest.raises(PictureError, match="No space left") as caught:
        _write(path, rough(2000, 30, 3, np.uint16), list(range(100, 2000, 100)))
    assert "free space" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PictureError, match="cannot be written"):
        _write(tmp_path / "file" / "a.tif", rough(1, 1, 3, np.uint16))


def test_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "report.json"
    atomic.write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    with pytest.raises(RuntimeError), atomic.beside(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == "é\n".encode()
    assert list(path.parent.iterdir()) == [path]
