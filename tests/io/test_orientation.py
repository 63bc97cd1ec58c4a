"""All eight orientations, in every format, for pictures and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from ruled_pictures import rough, smooth, stored_as

from hzcli.core.window import Size, Window
from hzcli.io.picture import open_mask, open_picture, orient, peek

HEIGHT, WIDTH = 45, 70
KINDS = ["jpeg", "png", "tiff8", "tiff16", "webp"]


def _save(path: Path, stored: np.ndarray, orientation: int, kind: str) -> None:
    if kind.startswith("tiff"):
        photometric = "rgb" if stored.ndim == 3 else "minisblack"
        tag = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(path, stored, photometric=photometric, extratags=tag, rowsperstrip=8)
        return
    exif = Image.Exif()
    exif[274] = orientation
    options = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(kind, {})
    Image.fromarray(stored).save(path, kind, exif=exif, **options)


def _upright(kind: str) -> np.ndarray:
    return smooth(HEIGHT, WIDTH, np.uint16 if kind == "tiff16" else np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
class TestMatrix:
    def test_a_picture_is_read_upright(self, tmp_path, kind, orientation):
        upright = _upright(kind)
        path = tmp_path / "a.bin"
        _save(path, stored_as(upright, orientation), orientation, kind)

        header = peek(path)
        with open_picture(path) as reader:
            read = reader.read(Window.whole(reader.size)).astype(int)

        assert header.size == reader.size == Size(HEIGHT, WIDTH)
        assert header.orientation == orientation
        tolerance = 5 if kind == "jpeg" else 0
        assert np.abs(read - upright).max() <= tolerance

    def test_a_mask_is_read_upright(self, tmp_path, kind, orientation):
        upright = _upright(kind)[..., 2]
        path = tmp_path / "a.bin"
        stored = stored_as(upright, orientation)
        _save(path, stored, orientation, kind)

        with open_mask(path) as reader:
            read = reader.read(Window.whole(reader.size)).astype(int)

        assert read.shape == (HEIGHT, WIDTH)
        assert np.abs(read - upright).max() <= (5 if kind == "jpeg" else 0)

    @pytest.mark.parametrize("budget", [None, 1000])
    def test_windows_equal_the_whole(self, tmp_path, kind, orientation, budget):
        """Any window, with the pixels held in memory or in a scratch file."""
        path = tmp_path / "a.bin"
        height, width = 300, 270  # more than two scratch tiles each way
        dtype = np.uint16 if kind == "tiff16" else np.uint8
        upright = rough(height, width, 3, dtype)
        _save(path, stored_as(upright, orientation), orientation, kind)
        windows = np.random.default_rng(orientation)
        with open_picture(path, budget_bytes=budget) as reader:
            whole = reader.read(Window.whole(reader.size)).copy()
            for _ in range(12):
                top, bottom = sorted(windows.integers(0, height + 1, 2))
                left, right = sorted(windows.integers(0, width + 1, 2))
                window = Window(int(top), int(bottom), int(left), int(right), reader.size)

                read = reader.read(window)

                assert np.array_equal(read, whole[top:bottom, left:right])
        if kind != "jpeg":
            assert np.array_equal(whole, upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orient_agrees_with_pillow(orientation):
    stored = rough(5, 7, 3, np.uint8)
    picture = Image.fromarray(stored)
    picture.getexif()[274] = orientation

    expected = np.asarray(ImageOps.exif_transpose(picture))

    assert np.array_equal(orient(stored, orientation), expected)


@pytest.mark.parametrize("wrong", [0, 9, 65535])
def test_an_unknown_orientation_turns_nothing(tmp_path, wrong):
    stored = rough(5, 7, 3, np.uint8)
    for kind in ("png", "tiff8"):
        path = tmp_path / kind
        _save(path, stored, wrong, kind)
        with open_picture(path) as reader:
            assert np.array_equal(reader.read(Window.whole(reader.size)), stored)
            assert peek(path).orientation == 1
