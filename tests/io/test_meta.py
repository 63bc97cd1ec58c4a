"""Profile and resolution, from every format."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from ruled_pictures import smooth

from hzcli.io.picture import open_picture

PICTURE = smooth(20, 30)


def _meta(path):
    with open_picture(path) as reader:
        return reader.meta


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("length", [None, 200_000])
def test_the_profile_is_carried_byte_for_byte(tmp_path, profile, kind, length):
    """The long one needs several JPEG segments."""
    if length:
        profile += np.random.default_rng(0).bytes(length - len(profile))
        profile = length.to_bytes(4, "big") + profile[4:]
    path = tmp_path / "a"
    Image.fromarray(PICTURE).save(path, kind, icc_profile=profile)

    assert _meta(path).icc == profile


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_no_profile_is_none(tmp_path, kind):
    Image.fromarray(PICTURE).save(tmp_path / "a", kind)
    assert _meta(tmp_path / "a").icc is None


def test_a_profile_of_any_class_is_carried_but_not_what_is_none(tmp_path, profile):
    """Whether it fits the pixels is not for the reader to say."""
    other = profile[:16] + b"CMYK" + profile[20:]
    for icc, expected in ((other, other), (b"no profile at all" * 20, None), (b"short", None)):
        Image.fromarray(PICTURE).save(tmp_path / "a", "png", icc_profile=icc)
        assert _meta(tmp_path / "a").icc == expected


def test_jfif_density(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(PICTURE).save(path, dpi=(300, 240))
    assert _meta(path).resolution == (300.0, 240.0, "inch")


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
@pytest.mark.parametrize(("unit", "name"), [(2, "inch"), (3, "centimetre")])
def test_exif_density(tmp_path, kind, unit, name):
    """JFIF says nothing (its unit is 0), the camera's EXIF does."""
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 180.0, 90.5, unit
    Image.fromarray(PICTURE).save(tmp_path / "a", kind, exif=exif)
    assert _meta(tmp_path / "a").resolution == (180.0, 90.5, name)


def test_png_pixels_per_metre(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path, dpi=(300, 300))
    assert _meta(path).resolution == (118.11, 118.11, "centimetre")


@pytest.mark.parametrize(("unit", "name"), [(2, "inch"), (3, "centimetre"), (1, "none")])
def test_tiff_density(tmp_path, unit, name):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PICTURE, resolution=(72.5, 300), resolutionunit=unit)
    assert _meta(path).resolution == (72.5, 300.0, name)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"]
)
def test_broken_exif_costs_nothing_but_itself(tmp_path, exif):
    path = tmp_path / "a.jpg"
    Image.fromarray(PICTURE).save(path, exif=exif)
    meta = _meta(path)
    assert meta.resolution is None


def test_a_density_of_zero_is_none(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PICTURE, resolution=(72, 72))
    with tifffile.TiffFile(path, mode="r+b") as opened:
        opened.pages[0].tags[282].overwrite((0, 0))
    assert _meta(path).resolution is None
