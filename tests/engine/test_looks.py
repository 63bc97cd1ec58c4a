"""A picture's look: found, fitted, merged, carried into other colour spaces, and measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hzcli.core import tetra
from hzcli.core.curves import Curves
from hzcli.core.lut import Lut3D, identity_lut
from hzcli.core.transform import Reach
from hzcli.core.window import Size, Window
from hzcli.engine import looks, spaces, stream
from hzcli.engine.foreground import Part, foreground
from hzcli.engine.looks import PictureLook
from hzcli.engine.residual import Residual, Spread, cielab, delta_e_2000
from hzcli.engine.spaces import SPACES, SRGB

HEIGHT, WIDTH = 60, 80


@dataclass(frozen=True)
class Held:
    """A picture in memory, as the engine reads one."""

    codes: np.ndarray
    depth: int = 8

    @property
    def size(self) -> Size:
        return Size(*self.codes.shape[:2])

    def read(self, window: Window) -> np.ndarray:
        return self.codes[window.top : window.bottom, window.left : window.right]


@dataclass(frozen=True)
class Blurring:
    """A recolouring that looks around itself: a halo, and different at different places."""

    by_place: float = 0.0

    @property
    def reach(self) -> Reach:
        return Reach(halo=2, align=4)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        near = torch.nn.functional.avg_pool2d(rgb, 5, 1, 2, count_include_pad=False)
        left = torch.arange(window.left, window.right) / window.size.width
        return 0.3 * rgb**1.5 + 0.5 * near + 0.1 + self.by_place * (left - 0.5)


@dataclass(frozen=True)
class Model:
    """Answers with a Transform."""

    transform: Any
    thumbnail_edge: int = 16
    seen: list[Any] = field(default_factory=list)

    def predict(self, thumb: Any) -> Any:
        return self.transform

    def predict_lut(self, thumb: Any) -> Any:
        return Lut3D(identity_lut(5)[None])


def picture(seed: int = 1, *, high: float = 1.0) -> Held:
    """Smooth colours and some noise, 8 bits."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    smooth = np.stack([x / WIDTH, y / HEIGHT, (x + y) / (WIDTH + HEIGHT)], -1)
    noise = np.random.default_rng(seed).normal(0, 0.05, smooth.shape)
    return Held((255 * np.clip(high * (smooth + noise), 0, 1)).astype(np.uint8))


def soft_mask() -> Held:
    """A soft disc off the middle, with a hole of zeros around it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Held((255 * np.clip((24 - np.hypot(y - 33, x - 30)) / 6, 0, 1)).astype(np.uint8))


class Rows:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []

    def write(self, rows: np.ndarray) -> None:
        self.parts.append(rows.copy())


def delivered_by(model: Model, strength: float = 1.0) -> np.ndarray:
    """What `hz run` makes of the picture: (h, w, 3), [0, 1]."""
    writer = Rows()
    stream.harmonise(picture(), soft_mask(), model, writer, strength=strength)
    return np.concatenate(writer.parts) / 65535


# --- The foreground ---------------------------------------------------------------------------


def test_parts_are_what_a_run_delivers() -> None:
    """Every pixel with mask > 0 once, with the colours that the engine blends in."""
    model = Model(Blurring(0.3))
    wanted = delivered_by(model)
    mask = soft_mask().codes
    with foreground(picture(), soft_mask(), model) as seen:
        parts = list(seen.parts())
        assert seen.inside == np.count_nonzero(mask)
    rgb, soft, result = (np.concatenate(x) for x in zip(*map(_of, parts), strict=True))

    made = rgb + soft[:, None] * (np.clip(result, 0, 1) - rgb)

    order = np.lexsort(np.round(rgb.T * 255))
    inside = mask > 0
    source = picture().codes[inside] / 255
    other = np.lexsort(np.round(source.T * 255))
    assert np.abs(np.sort(made, 0) - np.sort(wanted[inside], 0)).max() < 1e-4
    assert np.abs(rgb[order] - source[other]).max() < 1e-6


def _of(part: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return part.rgb, part.soft, part.result


# --- Finding looks ----------------------------------------------------------------------------


def test_a_table_is_taken_as_it_is() -> None:
    """Its nodes come out again, at any size that has them."""
    table = torch.rand(1, 3, 5, 5, 5, generator=torch.Generator().manual_seed(1))
    with foreground(picture(), soft_mask(), Model(Lut3D(table))) as seen:
        look = looks.look_of(seen)

    assert look.exact and look.nodes == 5
    wanted = table[0].permute(1, 2, 3, 0).double().numpy()
    assert np.abs(looks.table_of(look, 5) - wanted).max() < 1e-12
    assert np.abs(looks.table_of(look, 33)[::8, ::8, ::8] - wanted).max() < 1e-12


def test_curves_are_taken_as_they_are() -> None:
    """As a table of one dimension they are their own knots."""
    knots = torch.rand(1, 3, 65, generator=torch.Generator().manual_seed(2)).cumsum(-1) / 40
    with foreground(picture(), soft_mask(), Model(Curves(knots))) as seen:
        look = looks.look_of(seen)
        given = looks.curves_of(look, look.nodes)
        figures = looks.residual_of(seen, given)

    assert look.exact and look.even
    assert np.abs(given.T - knots[0].numpy()).max() < 1e-7
    assert figures["levels"]["max"] < 1e-3
    assert np.abs(looks.table_of(look, 65)[:, 3, 7, 0] - knots[0, 0].numpy()).max() < 1e-7


def test_what_is_no_table_is_fitted_well() -> None:
    """A smooth function of the colour is met within half a level on the foreground."""

    class Bending(Blurring):
        def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
            r, g, b = rgb.unbind(1)
            return torch.stack([0.9 * r**1.3 + 0.1 * b, g * (1.1 - 0.1 * r), 0.8 * b + 0.1], 1)

    with foreground(picture(), soft_mask(), Model(Bending())) as seen:
        look = looks.look_of(seen)
        figures = looks.residual_of(seen, looks.table_of(look, 33))

    assert not look.exact
    assert figures["levels"]["mean"] < 0.2
    assert figures["levels"]["p99"] < 1
    assert figures["delta_e"]["mean"] < 0.2


def test_colours_that_never_occur_follow_those_that_do() -> None:
    """Seen in the dark alone, a stop less is not a hole in the light: greys rise, none is lost."""
    dark = picture(high=0.3)

    class Darker(Blurring):
        def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
            return 0.8 * rgb

    with foreground(dark, soft_mask(), Model(Darker())) as seen:
        table = looks.table_of(looks.look_of(seen), 33)

    assert np.isfinite(table).all()
    greys = np.einsum("iiic->ic", table)
    assert (np.diff(greys, axis=0) > 0).all()
    assert np.abs(greys[-1] - 0.8).max() < 0.12  # of which the identity's pull is a part
    assert np.abs(np.diff(table, axis=0)).max() < 0.1


def test_what_differs_by_place_is_said_to_be_so() -> None:
    """No table follows a gradient; the residual tells whose fault it is."""
    shares = []
    flat = Held(picture().codes // 64 * 64 + 20)  # every colour at many places
    for strength in (0.0, 0.5):
        model = Model(_Gradient(strength))
        with foreground(flat, soft_mask(), model) as seen:
            figures = looks.residual_of(seen, looks.table_of(looks.look_of(seen), 33))
        shares.append((figures["levels"]["mean"], figures["by_place"]))

    assert shares[0][0] < 0.3 < 1.5 < shares[1][0]
    with foreground(flat, soft_mask(), Model(_Gradient(0.5))) as seen:
        wrong = looks.residual_of(seen, spaces.nodes(2) * 0.5)
    assert wrong["by_place"] < 0.5 < shares[1][1]


class _Gradient(Blurring):
    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        place = torch.arange(window.top, window.bottom).view(-1, 1) / window.size.height
        wave = torch.sin(40 * place)
        return 0.9 * rgb + 0.05 + 0.2 * self.by_place * wave


def test_a_table_that_a_model_builds_on_is_kept() -> None:
    """A rough table under a smooth change: the fit is of the change alone."""
    rough = torch.rand(1, 3, 17, 17, 17, generator=torch.Generator().manual_seed(3)) * 0.03
    table = Lut3D(identity_lut(17)[None] * 0.8 + rough)

    @dataclass(frozen=True)
    class Refined(Blurring):
        lut: Tensor = field(default_factory=lambda: torch.zeros(0))

        def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
            return table.apply(rgb, mask, window) + 0.05 * rgb

    class Both(Model):
        def predict_lut(self, thumb: Any) -> Any:
            return table

    with foreground(picture(), soft_mask(), Both(Refined())) as seen:
        given = looks.table_of(looks.look_of(seen), 33)
        figures = looks.residual_of(seen, given, interpolation="trilinear")

    assert figures["levels"]["max"] < 1.0


@pytest.mark.parametrize("interpolation", tetra.INTERPOLATIONS)
def test_greys_rise_in_both_interpolations(interpolation: Any) -> None:
    """Whatever the table: between nodes too, and by RISE of the identity at least."""
    rng = np.random.default_rng(5)
    grey = np.repeat(np.linspace(0, 1, 2001)[:, None], 3, axis=1)
    for n in (2, 9, 33):
        table = spaces.nodes(n) * 0.2 + rng.uniform(0, 0.5, (n, n, n, 3))

        slopes = np.diff(tetra.interpolate(looks.rising_greys(table), grey, interpolation), axis=0)

        assert slopes.min() > (looks.RISE - 1e-9) / 2000


def test_what_greys_lack_is_spread_around_them() -> None:
    """Neighbours follow, pure colours do not: no seam runs along the greys."""
    table = spaces.nodes(33)
    table[10:20, 10:20, 10:20] -= 0.3

    added = looks.rising_greys(table) - table

    assert 0.1 < added.max() < 0.4
    apart = np.ptp(np.stack(np.meshgrid(*[np.arange(33)] * 3, indexing="ij"), -1), axis=-1)
    means = [np.abs(added[apart == k]).mean() for k in range(12)]
    assert means[1] > 0.7 * means[0] > 0
    assert max(np.abs(np.diff(means[1:]))) < 0.35 * means[0]
    assert means[9:] == [0, 0, 0]


def test_greys_that_rise_are_left_alone() -> None:
    """Bit by bit."""
    table = spaces.nodes(9) ** 1.2
    assert looks.rising_greys(table) is table


def test_strength_is_that_of_a_run() -> None:
    """Half a look is half a change, the model's colours held in [0, 1] first."""
    model = Model(Lut3D(1.8 * identity_lut(2)[None]))
    wanted = delivered_by(model, 0.5)
    source, soft = picture().codes / 255, soft_mask().codes[..., None] / 255
    with foreground(picture(), soft_mask(), model) as seen:
        look = looks.look_of(seen)
        given = looks.table_of(look, 65, strength=0.5)
        figures = looks.residual_of(seen, given, strength=0.5)

    made = source + soft * (tetra.interpolate(given, source) - source)
    away = 255 * np.abs(made - wanted)[soft_mask().codes > 0]

    assert away.mean() < 0.3
    assert figures["levels"]["mean"] == pytest.approx(away.mean(), abs=2e-3)
    assert figures["levels"]["max"] == pytest.approx(away.max(), abs=2e-2)


def test_clamped_tables_stay_in_range() -> None:
    """And unclamped ones are the model's."""
    look = PictureLook(table=spaces.nodes(3) * 1.5 - 0.2)
    assert looks.table_of(look, 3).min() < 0 < 1 < looks.table_of(look, 3).max()
    held = looks.table_of(look, 3, clamp=True)
    assert (held.min(), held.max()) == (0, 1)


# --- Merging ----------------------------------------------------------------------------------


def shifted(by: float, weight: int) -> PictureLook:
    return PictureLook(table=spaces.nodes(5) + by, weight=weight)


def test_a_merge_is_the_mean_by_pixels() -> None:
    """Two looks: nobody is an outlier."""
    whole, trust = looks.merged([shifted(0.1, 300), shifted(0.5, 100)], 5)

    assert trust == [1, 1]
    assert np.abs(looks.table_of(whole, 5) - spaces.nodes(5) - 0.2).max() < 1e-6


def test_a_merge_leaves_outliers_out() -> None:
    """However many pixels they have; those that agree count in full, or nearly."""
    alike = [shifted(0.1 + 0.002 * k, 100) for k in range(5)]

    whole, trust = looks.merged([*alike, shifted(-0.4, 10_000)], 5)

    assert trust[-1] == 0
    assert min(trust[:5]) > 0.8
    assert np.abs(looks.table_of(whole, 5) - spaces.nodes(5) - 0.104).max() < 2e-3


# --- Colour spaces ----------------------------------------------------------------------------


def test_known_matrices() -> None:
    """sRGB's as IEC 61966-2-1 prints it, Adobe RGB's as Adobe does; white stays white."""
    srgb = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    adobe = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    assert np.abs(SPACES["srgb"].to_xyz() - srgb).max() < 1e-4
    assert np.abs(SPACES["adobergb"].to_xyz() - adobe).max() < 1e-5
    for space in SPACES.values():
        assert np.abs(spaces.convert(np.ones(3), SRGB, space) - 1).max() < 1e-12


@pytest.mark.parametrize("name", ["adobergb", "prophoto", "p3"])
def test_conversions_agree_with_another_library(name: str) -> None:
    """colour-science's spaces, Bradford's adaptation."""
    colour = pytest.importorskip("colour")
    title = {"adobergb": "Adobe RGB (1998)", "prophoto": "ProPhoto RGB", "p3": "Display P3"}[name]
    rgb = np.random.default_rng(6).random((500, 3))
    wanted = colour.RGB_to_RGB(
        rgb, "sRGB", title, "Bradford", apply_cctf_decoding=True, apply_cctf_encoding=True
    )

    found = spaces.convert(rgb, SRGB, SPACES[name])

    # As light: near black, curves blow up what is rounded in the library's matrices.
    light = [SPACES[name].decode(x) for x in (found, wanted)]
    assert np.abs(light[0] - light[1]).max() < 4e-4
    assert np.abs(spaces.convert(found, SPACES[name], SRGB) - rgb).max() < 1e-12


@pytest.mark.parametrize("name", SPACES)
def test_doing_nothing_is_the_same_everywhere(name: str) -> None:
    """The identity's table in any space is the identity."""
    table = looks.table_of(PictureLook(table=spaces.nodes(2)), 17, space=SPACES[name])
    assert np.abs(table - spaces.nodes(17)).max() < 1e-6  # sRGB's curve has a gap of 1e-8


@pytest.mark.parametrize("name", ["adobergb", "prophoto", "p3"])
def test_a_host_in_another_space_gets_the_same_picture(name: str) -> None:
    """Convert, look up, convert back: as near as a table's interpolation allows."""
    look = PictureLook(table=spaces.nodes(33) ** 1.1 * [0.9, 0.95, 0.8] + [0.05, 0.0, 0.1])
    rgb = np.random.default_rng(7).random((5000, 3))
    table = looks.table_of(look, 65, space=SPACES[name])

    there = spaces.convert(rgb, SRGB, SPACES[name])
    found = spaces.convert(tetra.interpolate(table, there), SPACES[name], SRGB)

    away = 255 * np.abs(np.clip(found, 0, 1) - look(rgb))
    assert away.mean() < 0.2
    assert np.percentile(away, 99) < 2
    # Taken for sRGB's, the same table is far off: the test would notice.
    assert 255 * np.abs(tetra.interpolate(table, rgb) - look(rgb)).mean() > 4 * away.mean()


# --- Measuring --------------------------------------------------------------------------------


def test_delta_e_agrees_with_another_library() -> None:
    """scikit-image's, on greys, opposite hues and neighbours."""
    color = pytest.importorskip("skimage.color")
    rng = np.random.default_rng(8)
    one = rng.random((4000, 3))
    two = np.clip(one + rng.normal(0, 0.1, one.shape), 0, 1)
    one[:50], two[50:100] = one[:50, :1], two[50:100, :1]
    lab = cielab(one), cielab(two)

    assert np.abs(lab[0] - color.rgb2lab(one)).max() < 0.02  # its white is rounded
    assert np.abs(delta_e_2000(*lab) - color.deltaE_ciede2000(*lab)).max() < 1e-9


@pytest.mark.parametrize(
    ("one", "two", "wanted"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1, 2), (50, 0, 0), 2.3669),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_delta_e_of_published_pairs(one: Any, two: Any, wanted: float) -> None:
    """Table 1 of Sharma, Wu and Dalal (2005)."""
    assert delta_e_2000(np.array(one), np.array(two)) == pytest.approx(wanted, abs=5e-5)


def test_spread_is_numpy_s() -> None:
    """In parts as in one."""
    values = np.random.default_rng(9).exponential(2, 30_000)
    spread = Spread(64, 255)
    for part in np.array_split(values, 7):
        spread.add(part)
    found = spread.figures()

    assert found["mean"] == pytest.approx(values.mean())
    assert found["max"] == values.max()
    assert found["median"] == pytest.approx(np.median(values), abs=1 / 64)
    assert found["p99"] == pytest.approx(np.percentile(values, 99), abs=1 / 64)


def test_a_residual_is_held_as_files_hold_it() -> None:
    """What lies beyond white is white, in both."""
    residual = Residual()
    residual.add(
        np.array([[1.2, 0.5, 0.5]]), np.array([[1.0, 0.5, 0.6]]), np.array([[1, 0.5, 0.5]])
    )
    levels = residual.figures()["levels"]
    assert levels["max"] == pytest.approx(25.5)
    assert levels["mean"] == pytest.approx(8.5)
