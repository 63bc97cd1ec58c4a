"""Colours of other spaces: against Little CMS, Pillow's too, and closed forms in float64."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from memory_pictures import Flat, Model, Output, Picture, Same, bent_lut, colours, soft_disc
from PIL import Image, ImageCms
from profiles_by_rule import lut_profile
from test_source import Mirrored

from hzcli.core.lut import Lut3D
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size
from hzcli.engine import stream, thumbnail
from hzcli.engine.colour import Colour
from hzcli.engine.looks import spaces
from hzcli.engine.source import Source
from hzcli.errors import PictureError, UsageError
from hzcli.io import profiles
from hzcli.io.profiles import profile

RGB_NAMES = [name for name in profiles.NAMES if not name.startswith("grey")]
WIDE = ["adobergb", "p3", "prophoto", "rec2020", "linear-rec2020", "linear"]
CLOSED = ["adobergb", "p3", "prophoto"]
CODES = 65535
ADOBE_XYZ = spaces._adapted(spaces.D65, spaces.D50) @ spaces.SPACES["adobergb"].to_xyz()


def tables() -> bytes:
    """Adobe RGB's colours in tables."""
    return lut_profile(ADOBE_XYZ, spaces.ADOBE_GAMMA)


def mixed(count: int = 20_000, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Colours (1, n, 3), some with channels next to 0."""
    rng = np.random.default_rng(3)
    found = rng.uniform(low, high, (1, count, 3))
    found[0, : count // 10, 0] = rng.integers(0, 30, count // 10) / CODES
    found[0, : count // 20, 1] = 1
    return found.astype(np.float32)


def srgb(light: np.ndarray) -> np.ndarray:
    return spaces.SRGB.encode(light.astype(np.float64))


@pytest.mark.parametrize("name", RGB_NAMES)
def test_eight_bits_agree_with_pillow(name: str) -> None:
    codes = np.rint(mixed(4000) * 255).astype(np.uint8)
    into = ImageCms.buildTransform(
        io.BytesIO(profile(name)), io.BytesIO(profile("srgb")), "RGB", "RGB", 1, 0x2000
    )
    theirs = np.asarray(ImageCms.applyTransform(Image.fromarray(codes), into))
    ours = Colour(profile(name)).to_working(codes.astype(np.float32) / 255) * 255
    assert np.abs(ours.clip(0, 255) - theirs).max() < 1.1  # its own 8 bits: a level


@pytest.mark.parametrize("intent", profiles.INTENTS)
@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("high", [1.0, 2.0])
def test_within_a_code_of_little_cms(name: str, intent: str, high: float) -> None:
    """In float, in and out of gamut; as light, for it goes on below 0 by another convention."""
    own = mixed(high=high)
    theirs = profiles.transform(own, profile(name), profile("linear"), intent)
    ours = Colour(profile(name), intent=intent).to_working(own)
    bound = 1.0 if high == 1 else 5.0
    assert np.abs(ours - srgb(theirs)).max() * CODES < bound


@pytest.mark.parametrize("name", CLOSED)
def test_colours_agree_with_the_closed_forms(name: str) -> None:
    """To what a profile's numbers, 65536ths, can say."""
    space, colour = spaces.SPACES[name], Colour(profile(name))
    own = mixed(low=0.04)  # above ProPhoto's straight beginning, which its profiles leave out
    own = own[own.min(axis=-1) > 0.035][None]
    exact = spaces.convert(own, space, spaces.SRGB)
    # Little CMS is as far off: primaries of 65536ths show where a channel is next to 0.
    away = np.abs(exact) > 0.1
    assert np.abs(colour.to_working(own) - exact)[away].max() * CODES < 20
    back = colour.from_working(exact.astype(np.float32))
    assert np.abs(back - own).max() * CODES < 40


@pytest.mark.parametrize("name", WIDE)
def test_the_way_there_and_back_is_exact(name: str) -> None:
    """To a twentieth of a code, for every 16-bit code, beyond [0, 1], next to 0."""
    colour = Colour(profile(name))
    ramp = np.repeat(np.arange(65536)[:, None] / CODES, 3, 1).astype(np.float32)
    for own in (ramp, mixed()[0], mixed(low=-1, high=4)[0]):
        numbers = torch.from_numpy(np.ascontiguousarray(own.T))
        found = torch.empty_like(numbers)
        colour.changed(numbers, torch.zeros_like(numbers), found)
        assert float((found - numbers).abs().max()) * CODES < 0.05


def harmonised(picture, mask, transform, colour, **options):
    output = options.pop("output", None) or Output()
    stream.harmonise(
        Picture(picture), Picture(mask), Model(transform), output, colour=colour, **options
    )
    return output.array


@pytest.mark.parametrize("icc", [*map(profile, WIDE), tables()], ids=[*WIDE, "tables"])
def test_no_change_is_no_change(icc: bytes) -> None:
    """Strength 0, and a Transform that gives back what it is given: every code survives."""
    codes = np.arange(65536, dtype=np.uint16)
    picture = np.stack([codes, codes[::-1], np.roll(codes, 9999)], -1).reshape(256, 256, 3)
    picture[:3] = [65535, 0, 1]  # saturated: far out of sRGB
    mask = soft_disc(256, 256, 8, (0.4, 0.4), 90)
    for options in ({"strength": 0}, {}):
        assert (harmonised(picture, mask, Same(), Colour(icc), **options) == picture).all()


def reference(picture, mask, transform, name):
    """By the definition, in float64, with the primaries as the profile holds them."""
    space = spaces.SPACES[name]
    matrix = profiles.transform(np.eye(3, dtype=np.float32), profile(name), profile("linear"))
    own = picture / np.iinfo(picture.dtype).max
    shown = srgb(space.decode(own) @ matrix.astype(np.float64))
    seen = torch.from_numpy(shown.clip(0, 1).transpose(2, 0, 1)[None].copy())
    result = Lut3D(transform.lut.double()).apply(seen, seen[:, :1], None)[0].numpy()
    change = result.transpose(1, 2, 0).clip(0, 1) - shown.clip(0, 1)
    soft = (mask / np.iinfo(mask.dtype).max)[..., None]
    light = spaces.SRGB.decode(shown + soft * change) @ np.linalg.inv(matrix.astype(np.float64))
    return CODES * np.where(soft > 0, space.encode(light), own).clip(0, 1)


@pytest.mark.parametrize("name", ["adobergb", "p3"])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_change_is_the_references_and_stays_inside(name: str, depth: int) -> None:
    picture, mask = colours(90, 80, depth), soft_disc(90, 80, 8, (0.5, 0.5), 25)
    picture[:, :20] = 0, np.iinfo(picture.dtype).max, 0
    found = harmonised(picture, mask, bent_lut(), Colour(profile(name)))
    expected = reference(picture, mask, bent_lut(), name)
    error = np.abs(found - expected)
    assert (found[mask == 0] == picture[mask == 0].astype(int) * (257 if depth == 8 else 1)).all()
    assert np.percentile(error, 99) <= 1 and error.max() <= 3, (error.max(), error.mean())
    plain = harmonised(picture, mask, bent_lut(), None).astype(int)
    assert np.abs(found - plain).max() > 500


def test_tables_change_colours_as_curves_do() -> None:
    picture = (colours(60, 50, 16) // 2 + 12000).astype(np.uint16)
    mask = soft_disc(60, 50, 8, (0.5, 0.5), 18)
    found = harmonised(picture, mask, bent_lut(), Colour(tables())).astype(int)
    curves = harmonised(picture, mask, bent_lut(), Colour(profile("adobergb")))
    assert np.abs(found - curves).max() < 60 and np.abs(found - picture).max() > 500


def test_a_profile_without_a_way_back_is_told_at_once() -> None:
    with pytest.raises(PictureError, match="direction"):
        Colour(lut_profile(ADOBE_XYZ, 2.2, back=False))
    Colour(lut_profile(ADOBE_XYZ, 2.2, back=False), profile("srgb"))


def test_srgb_by_any_name_is_the_plain_path() -> None:
    picture, mask = colours(60, 50, 16), soft_disc(60, 50, 8, (0.5, 0.5), 18)
    pillows = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert pillows != profile("srgb") and Colour(pillows).identity
    assert Colour(pillows, profile("srgb")).identity
    assert not Colour(profile("srgb"), profile("p3")).identity
    plain = harmonised(picture, mask, bent_lut(), None)
    assert (harmonised(picture, mask, bent_lut(), Colour(pillows)) == plain).all()


@pytest.mark.parametrize(("source", "target"), [("adobergb", "srgb"), ("srgb", "prophoto")])
@pytest.mark.parametrize("depth", [8, 16])
def test_another_profile_converts_all_pixels(source: str, target: str, depth: int) -> None:
    """Where the mask is 0: what Little CMS says for the source's codes, within one."""
    picture, mask = colours(70, 60, depth), soft_disc(70, 60, 8, (0.5, 0.5), 12)
    colour = Colour(profile(source), profile(target))
    found = harmonised(picture, mask, Same(), colour)
    own = (picture / np.iinfo(picture.dtype).max).astype(np.float32)
    theirs = profiles.transform(own, profile(source), profile(target)).clip(0, 1) * CODES
    assert np.abs(found - theirs).max() <= 1
    moved = harmonised(picture, mask, bent_lut(), colour)
    assert (moved[mask == 0] == found[mask == 0]).all() and (moved != found).any()


# --- What is seen ---------------------------------------------------------------------------


@pytest.mark.parametrize("icc", [profile("prophoto"), profile("linear"), tables()])
@pytest.mark.parametrize("filter", thumbnail.FILTERS)
def test_a_thumbnail_is_that_of_the_srgb_picture(icc: bytes, filter: str) -> None:
    picture, mask = colours(90, 70, 16), soft_disc(90, 70, 8, (0.5, 0.5), 20)
    seen = profiles.transform((picture / CODES).astype(np.float32), icc, profile("linear"))
    seen = srgb(seen.clip(0, 1))
    expected = thumbnail.resize(seen, 16, 16, filter)
    found = thumbnail.make(
        Picture(picture), Picture(mask), 16, filter, closeup=True, colour=Colour(icc)
    ).thumbnail
    error = np.abs(found.rgb[0].permute(1, 2, 0).numpy() - expected)
    if profiles.describe(icc).model == "lut":
        # Looked up in 16 bits here, by Little CMS's own grid of 33, coarse next to black.
        assert error.max() < 0.03 and error.mean() < 1e-3
    else:
        assert error.max() < 2e-4
    assert found.closeup is not None and not torch.equal(found.closeup.rgb, found.rgb)


def test_a_bound_transform_sees_srgb() -> None:
    picture, mask = colours(40, 30, 16), soft_disc(40, 30, 8, (0.5, 0.5), 9)
    colour = Colour(profile("p3"))
    with Source(
        Picture(picture), Picture(mask), (3, 9, 2, 8), torch.device("cpu"), 0, colour
    ) as source:
        rgb, _ = source.read(source.box)
    own = (picture[3:9, 2:8] / CODES).astype(np.float32)
    expected = colour.to_working(own).clip(0, 1)
    assert np.abs(rgb[0].permute(1, 2, 0).numpy() - expected).max() < 2e-6
    assert (harmonised(picture, mask, Mirrored(), colour) != picture).any()


def test_model_and_transform_see_numbers_of_0_to_1_only() -> None:
    class Looking(Same):
        def apply(self, rgb, mask, window):
            assert float(rgb.min()) >= 0 and float(rgb.max()) <= 1
            return rgb

    picture = colours(40, 30, 16).astype(np.float32) / 20000 - 0.5
    picture[9, 9] = np.nan
    mask, model = soft_disc(40, 30, 8, (0.5, 0.5), 9), Model(Looking())
    for colour in (None, Colour(profile("linear"))):
        stream.harmonise(Picture(picture), Picture(mask), model, Output(), colour=colour)
    for thumb in model.seen:
        assert isinstance(thumb, Thumbnail)
        assert float(thumb.rgb.min()) >= 0 and float(thumb.rgb.max()) <= 1 + 1e-6


# --- Depth, alpha, grey ---------------------------------------------------------------------


class FloatOutput(Output):
    depth = 32

    def write(self, rows, alpha=None):
        assert rows.dtype == np.float32
        self.bands.append(rows.copy())


@pytest.mark.parametrize("name", [None, "linear", "p3"])
def test_float_beyond_white_survives(name: str | None) -> None:
    picture = colours(40, 30, 16).astype(np.float32) / 16000 - 0.5
    picture[20, 15], picture[21, 15] = np.nan, np.inf
    mask = soft_disc(40, 30, 8, (0.5, 0.5), 9)
    colour = Colour(profile(name)) if name else None
    same = harmonised(picture, mask, Same(), colour, output=FloatOutput())
    assert same.tobytes() == picture.tobytes()
    found = harmonised(picture, mask, Flat(0.5), colour, output=FloatOutput())
    assert np.array_equal(found[mask == 0], picture[mask == 0])
    inside = (mask == 255) & np.isfinite(picture).all(-1)
    colour = colour or Colour(profile("srgb"))
    before = colour.to_working(picture)
    expected = colour.from_working(before + (0.5 - before.clip(0, 1)))
    assert np.abs(found[inside] - expected[inside]).max() < 1e-4
    unread = ~np.isfinite(picture).all(-1)
    assert found[unread].tobytes() == picture[unread].tobytes()
    assert found[inside].max() > 1.05


def test_codes_and_float_are_delivered_in_each_other() -> None:
    picture, mask = colours(40, 30, 16), soft_disc(40, 30, 8, (0.5, 0.5), 9)
    plain = harmonised(picture, mask, bent_lut(), None)
    floats = harmonised(picture, mask, bent_lut(), None, output=FloatOutput())
    assert np.abs(floats * CODES - plain).max() <= 0.52
    assert np.array_equal(np.rint(floats[mask == 0] * CODES), picture[mask == 0])
    again = harmonised((picture / CODES).astype(np.float32), mask, bent_lut(), None)
    assert np.abs(again.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_is_handed_on(depth: int) -> None:
    picture, mask = colours(40, 30, depth), soft_disc(40, 30, 8, (0.5, 0.5), 9)
    alpha = colours(40, 30, depth, seed=3)[..., 0]

    class WithAlpha(Picture):
        has_alpha = True

        def read_alpha(self, window):
            return alpha[window.top : window.bottom, window.left : window.right]

    class Wanting(Output):
        wants_alpha = True

        def write(self, rows, alpha):
            super().write(np.concatenate([rows[..., :2], alpha[..., None]], -1))

    output = Wanting()
    stream.harmonise(WithAlpha(picture), Picture(mask), Model(bent_lut()), output)
    assert (output.array[..., 2] == alpha.astype(int) * (257 if depth == 8 else 1)).all()
    stream.harmonise(WithAlpha(picture), Picture(mask), Model(bent_lut()), Output())


class Header:
    channels = "grey"


class Tint(Same):
    """Makes grey reddish."""

    def apply(self, rgb, mask, window):
        return rgb * torch.tensor([1.3, 1.0, 0.6]).view(1, 3, 1, 1)


@pytest.mark.parametrize("name", [None, "grey-gamma-2.2", "adobergb"])
def test_grey_stays_grey(name: str | None) -> None:
    picture = np.repeat(colours(40, 30, 16)[..., :1], 3, -1)
    mask, output = soft_disc(40, 30, 8, (0.5, 0.5), 9), Output()
    reader = Picture(picture)
    reader.header = Header()
    colour = Colour(profile(name)) if name else None
    stream.harmonise(reader, Picture(mask), Model(Tint()), output, colour=colour)
    found = output.array
    assert np.ptp(found, axis=-1).max() == 0 and (found != picture).any()
    assert (found[mask == 0] == picture[mask == 0]).all()


def test_a_grey_curve_is_little_cms() -> None:
    icc = profile("grey-gamma-2.2")
    greys = np.linspace(0, 1, 999, dtype=np.float32)[None, :, None]
    theirs = profiles.transform(greys, icc, profile("linear"))
    assert np.abs(Colour(icc).to_working(greys.repeat(3, -1)) - srgb(theirs)).max() * CODES < 1


def test_wrong_use_is_an_error_that_says_so() -> None:
    picture, mask = colours(9, 8, 8), soft_disc(9, 8, 8, (0.5, 0.5), 2)
    with pytest.raises(PictureError, match="for grey pixels, the picture is RGB"):
        harmonised(picture, mask, Same(), Colour(profile("grey-gamma-2.2")))
    with pytest.raises(PictureError, match="for grey pixels"):
        harmonised(picture, mask, Same(), Colour(profile("srgb"), profile("grey-gamma-2.2")))
    with pytest.raises(UsageError, match="intent"):
        Colour(profile("srgb"), intent="vivid")
    assert Size(9, 8) == Picture(picture).size
