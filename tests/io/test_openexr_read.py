"""OpenEXR in: every value, windows and layers."""

from __future__ import annotations

import numpy as np
import pytest
from made_exr import exr
from reading import read_alpha, read_whole
from ruled_pictures import rough

from hzcli.errors import PictureError
from hzcli.io.picture import open_picture, peek

HEIGHT, WIDTH = 46, 70


@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("kind", ["half", "float"])
@pytest.mark.parametrize("names", [("R", "G", "B"), ("Y",), ("R", "G", "B", "A"), ("Y", "A")])
def test_every_value_of_openexr_survives(tmp_path, names, kind, tile):
    """Above 1 and below 0 too; alpha is divided out of the colours."""
    path = tmp_path / "a.exr"
    dtype = np.float16 if kind == "half" else np.float32
    pixels = (rough(HEIGHT, WIDTH, len(names), np.uint16) / 20000 - 0.5).astype(dtype)
    expected = pixels.astype(np.float32)
    if names[-1] == "A":
        alpha = np.round(np.abs(expected[..., -1:])) / 4
        expected[..., -1:] = alpha
        pixels = np.concatenate([expected[..., :-1] * alpha, alpha], 2).astype(dtype)
        with np.errstate(invalid="ignore", divide="ignore"):
            back = pixels[..., :-1].astype(np.float32) / alpha
        expected[..., :-1] = np.where(alpha > 0, back, pixels[..., :-1])
    exr(path, pixels.astype(np.float32), names, kind, tile)

    header, read = peek(path), read_whole(path)

    assert (header.depth, header.format, read.dtype) == (32, "exr", np.float32)
    assert header.channels == {1: "grey", 3: "rgb", 4: "rgba", 2: "greya"}[len(names)]
    colours = expected[..., :3] if len(names) > 2 else expected[..., :1]
    assert np.allclose(read, colours, rtol=1e-6, atol=0)
    assert read.max() > 1 and read.min() < 0
    if names[-1] == "A":
        assert np.array_equal(read_alpha(path), expected[..., -1])
        assert any("associated" in note for note in header.notes)
    with open_picture(path) as reader:
        assert reader.meta.colour == "linear"


@pytest.mark.parametrize("tile", [0, 16])
def test_the_display_window_is_the_picture(tmp_path, tile):
    """The data window overlaps it from the upper left; the rest is black."""
    path = tmp_path / "a.exr"
    pixels = rough(HEIGHT, WIDTH, 3, np.uint16).astype(np.float32)
    places = {"x": -5, "y": 10, "full_x": 0, "full_y": 0, "full_width": 80, "full_height": 50}
    exr(path, pixels, ("R", "G", "B"), tile=tile, **places)
    expected = np.zeros((50, 80, 3), np.float32)
    expected[10:50, :65] = pixels[:40, 5:]

    assert np.array_equal(read_whole(path), expected)
    assert any("display window" in note for note in peek(path).notes)


def test_channels_in_layers_and_none_at_all(tmp_path):
    path = tmp_path / "a.exr"
    pixels = rough(HEIGHT, WIDTH, 4, np.uint16).astype(np.float32)
    exr(path, pixels, ("Z", "beauty.R", "beauty.G", "beauty.B"))
    assert np.array_equal(read_whole(path), pixels[..., 1:])
    assert any("'beauty'" in note for note in peek(path).notes)
    exr(path, pixels, ("Z", "N.X", "N.Y2", "N.Z"))
    with pytest.raises(PictureError, match="has the channels"):
        peek(path)
