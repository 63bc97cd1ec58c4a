"""OpenEXR and JPEG XL out: linear light, profiles, and what is said without their library."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from made_results import coming, read_back, write

from hzcli.errors import PictureError
from hzcli.io import profiles
from hzcli.io.meta import Meta


def _srgb_to_linear(v: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, odd below zero."""
    size = np.abs(v)
    curve = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.sign(v) * curve


@pytest.mark.parametrize("depth", ["16", "32f"])
@pytest.mark.parametrize("channels", ["rgb", "grey"])
def test_exr_holds_linear_rec_709(tmp_path, depth, channels):
    pytest.importorskip("OpenImageIO")
    path = tmp_path / "a.exr"
    rows = np.random.default_rng(0).uniform(0, 1, (60, 37, 3)).astype(np.float32)
    if channels == "grey":
        rows = np.repeat(rows[..., :1], 3, axis=2)
    write(path, rows, form="exr", depth=depth, channels=channels, presumed=profiles.profile("srgb"))

    expected = _srgb_to_linear(rows.astype(np.float64))
    relative = 2**-11 if depth == "16" else 0
    found = read_back(path, "exr")
    assert found.shape[-1] == 3  # sRGB is a profile of RGB, so a grey picture is stored as RGB
    assert np.all(np.abs(found - expected) <= relative * expected + 3e-5)
    oiio = pytest.importorskip("OpenImageIO")
    spec = oiio.ImageInput.open(str(path)).spec()
    assert str(spec.format) == ("half" if depth == "16" else "float")


def test_exr_of_linear_rows_keeps_them(tmp_path):
    pytest.importorskip("OpenImageIO")
    rows = coming("32f") * 50
    write(tmp_path / "a.exr", rows, form="exr", depth="32f", presumed=profiles.profile("linear"))
    assert np.array_equal(read_back(tmp_path / "a.exr", "exr"), rows)


def test_exr_multiplies_by_alpha(tmp_path):
    pytest.importorskip("OpenImageIO")
    rows = np.full((8, 8, 3), 0.5, np.float32)
    alpha = np.full((8, 8), 0.25, np.float32)
    write(tmp_path / "a.exr", rows, alpha, form="exr", depth="32f", bands=(3,))
    assert read_back(tmp_path / "a.exr", "exr")[0, 0].tolist() == [0.125, 0.125, 0.125, 0.25]


def test_exr_is_read_by_its_own_library(tmp_path):
    pytest.importorskip("OpenImageIO")
    exr = pytest.importorskip("OpenEXR")
    rows = coming("32f")
    write(tmp_path / "a.exr", rows, form="exr", depth="32f", software="hz 1")
    part = exr.File(str(tmp_path / "a.exr")).parts[0]
    assert np.array_equal(part.channels["RGB"].pixels, rows)
    assert part.header["chromaticities"] == pytest.approx(
        (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
    )


def test_half_floats_end_at_their_largest(tmp_path):
    pytest.importorskip("OpenImageIO")
    rows = np.full((2, 2, 3), 1e6, np.float32)
    write(tmp_path / "a.exr", rows, form="exr", bands=())
    assert np.all(read_back(tmp_path / "a.exr", "exr") == 65504)


def test_jxl_keeps_the_profile(tmp_path):
    oiio = pytest.importorskip("OpenImageIO")
    icc = profiles.profile("prophoto")
    write(tmp_path / "a.jxl", coming("16"), form="jxl", meta=Meta(icc))
    spec = oiio.ImageInput.open(str(tmp_path / "a.jxl")).spec()
    assert np.array(spec.getattribute("ICCProfile"), np.uint8).tobytes() == icc


@pytest.mark.parametrize("form", ["webp", "jxl"])
def test_grey_with_a_grey_profile_becomes_srgb_where_there_is_no_grey(tmp_path, form):
    if form == "jxl":
        pytest.importorskip("OpenImageIO")
    grey = np.repeat(np.linspace(0, 65535, 256).astype(np.uint16)[None, :, None], 3, axis=2)
    icc = profiles.profile("grey-gamma-2.2")
    kind = {"depth": "8", "bands": (), "channels": "grey", "meta": Meta(icc), "quality": 100}
    writer = write(tmp_path / "a", grey, form=form, **kind)

    # Gamma 2.2 to linear light, and by IEC 61966-2-1 to sRGB.
    light = (grey[0, :, 0] / 65535) ** 2.2
    curve = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    found = read_back(tmp_path / "a", form)
    assert np.abs(found[0, :, 1] - curve * 255).max() < 1.5
    assert "sRGB" in writer.notes[0]


@pytest.mark.parametrize("form", ["exr", "jxl"])
def test_a_missing_library_is_told(tmp_path, monkeypatch, form):
    monkeypatch.setitem(sys.modules, "OpenImageIO", None)
    with pytest.raises(PictureError, match="OpenImageIO") as caught:
        write(tmp_path / "a", coming("32f" if form == "exr" else "16"), form=form)
    assert "pip install" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
