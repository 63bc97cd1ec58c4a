"""Profiles: built in, described, presumed; against Pillow's Little CMS and closed forms."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from hzcli.core.window import Size
from hzcli.errors import PictureError, UsageError
from hzcli.io import profiles
from hzcli.io.meta import Header, Meta
from hzcli.io.profiles import describe, load, presume, profile

RGB_NAMES = [name for name in profiles.NAMES if not name.startswith("grey")]


def header(depth: int = 8, channels: str = "rgb", format: str = "tiff") -> Header:
    return Header(Path("picture.tif"), Size(4, 5), depth, channels, 1, format)


@pytest.mark.parametrize("name", profiles.NAMES)
def test_a_built_in_profile_is_one_that_others_read(name: str) -> None:
    icc = profile(name)
    core = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
    assert core.profile_description == describe(icc).name != ""
    assert "built-in" not in describe(icc).name
    assert struct.unpack(">I", icc[:4])[0] == len(icc)
    assert describe(icc).is_srgb == (name == "srgb")
    assert describe(icc).kind == ("grey" if name.startswith("grey") else "rgb")
    assert describe(icc).model == ("grey" if name.startswith("grey") else "matrix")


def test_a_profile_is_the_same_bytes_every_time() -> None:
    """Little CMS writes the second into its profiles."""
    first = profile("p3")
    time.sleep(1.1)
    profile.cache_clear()
    assert profile("p3") == first


@pytest.mark.parametrize("name", RGB_NAMES)
def test_white_and_grey_stay_neutral(name: str) -> None:
    greys = np.repeat(np.linspace(0, 1, 33, dtype=np.float32)[:, None], 3, 1)
    found = profiles.transform(greys, profile(name), profile("srgb"))
    assert np.ptp(found, axis=1).max() < 1e-4
    assert np.abs(found[-1] - 1).max() < 5e-5


def test_a_foreign_srgb_is_known_by_its_colours() -> None:
    """Another maker's: a table in the place of the curve, another name; and a near one is not."""
    x = np.linspace(0, 1, 1024)
    curve = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)
    xyy = [0.64, 0.33, 1, 0.30, 0.60, 1, 0.15, 0.06, 1]

    def made(**curves: object) -> bytes:
        return imagecodecs.cms_profile(
            "rgb", whitepoint=[0.3127, 0.329, 1], primaries=xyy, **curves
        )

    assert describe(made(transferfunction=curve)).is_srgb
    assert not describe(made(gamma=2.2)).is_srgb
    # HP's, the commonest of all, lies up to 0.45 levels of 8 bits away.
    for levels, same in ((0.45, True), (-0.45, True), (0.6, False)):
        moved = x + levels / 255 * np.sin(np.pi * x)
        near = np.where(moved <= 0.04045, moved / 12.92, ((moved + 0.055) / 1.055) ** 2.4)
        assert describe(made(transferfunction=near.astype(np.float32))).is_srgb == same, levels
    pillows = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert describe(pillows).is_srgb


def test_a_profile_is_loaded_by_name_or_path(tmp_path: Path) -> None:
    path = tmp_path / "some profile.icc"
    path.write_bytes(profile("p3"))
    assert load(str(path)) == load("p3") == load("P3") == profile("p3")
    (tmp_path / "note.icc").write_text("no profile")
    for wrong in ("adobe-rgb", str(tmp_path / "note.icc"), str(tmp_path)):
        with pytest.raises(UsageError):
            load(wrong)


PRESUMED = [
    (header(8), Meta(), None, "srgb", False),
    (header(16), Meta(), None, "srgb", True),
    (header(32), Meta(), None, "linear", False),
    (header(32), Meta(), "srgb", "srgb", False),
    (header(16), Meta(), "adobergb", "adobergb", False),
    (header(8, "grey"), Meta(), "grey-gamma-2.2", "grey-gamma-2.2", False),
    (header(8), Meta(profile("p3")), "adobergb", "p3", False),
    (header(8, "grey"), Meta(profile("grey-gamma-2.2")), None, "grey-gamma-2.2", False),
    (header(8, "cmyk"), Meta(profile("grey-gamma-2.2")), "p3", "srgb", False),
    (header(8), Meta(profile("grey-gamma-2.2")), "p3", "p3", True),
    (header(8), Meta(b"RGB " * 99), None, "srgb", True),
]


@pytest.mark.parametrize(("head", "meta", "assume", "name", "warned"), PRESUMED)
def test_what_is_presumed(
    head: Header, meta: Meta, assume: str | None, name: str, warned: bool
) -> None:
    """Embedded, then assumed, then by depth."""
    icc, why, warning = presume(head, meta, assume)
    assert icc == profile(name) and why
    assert (warning is not None) == warned


@pytest.mark.parametrize("said", ["srgb", "adobergb", "linear"])
def test_what_the_file_says_counts_before_its_depth(said: str) -> None:
    def telling(icc: bytes | None = None) -> SimpleNamespace:
        return SimpleNamespace(icc=icc, colour=said)

    assert presume(header(16), telling())[::2] == (profile(said), None)
    assert presume(header(16), telling(), "p3")[0] == profile("p3")
    assert presume(header(16), telling(profile("rec2020")))[0] == profile("rec2020")


def test_a_profile_for_other_pixels_is_an_error_that_says_so() -> None:
    with pytest.raises(PictureError, match="for grey pixels, the picture is RGB"):
        presume(header(8), Meta(profile("grey-gamma-2.2")))
    with pytest.raises(UsageError, match="for grey pixels"):
        presume(header(8), Meta(), "grey-gamma-2.2")
    with pytest.raises(PictureError, match="damaged"):
        describe(b"\0" * 300)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cmyk_without_a_profile_is_pillows_plain_formula(dtype: type) -> None:
    full = np.iinfo(dtype).max
    codes = np.random.default_rng(0).integers(0, full + 1, (9, 8, 4)).astype(dtype)
    codes[0, 0], codes[0, 1] = 0, full
    found = profiles.cmyk_to_srgb(codes)
    assert found.dtype == dtype and found.shape == (9, 8, 3)
    assert (found[0, 0] == full).all() and (found[0, 1] == 0).all()
    if dtype is np.uint8:
        theirs = np.asarray(Image.fromarray(codes, "CMYK").convert("RGB")).astype(int)
        assert np.abs(found - theirs).max() <= 1
    light = 1 - codes / full
    assert np.abs(found - full * light[..., :3] * light[..., 3:]).max() <= 0.51
