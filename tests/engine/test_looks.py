"""A picture's look: found, fitted, and merged with others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from looks_by_rule import Blurring, Held, Model, delivered_by, picture, soft_mask
from torch import Tensor

from hzcli.core import tetra
from hzcli.core.curves import Curves
from hzcli.core.lut import Lut3D, identity_lut
from hzcli.core.window import Window
from hzcli.engine.looks import looks, spaces
from hzcli.engine.looks.foreground import foreground
from hzcli.engine.looks.looks import PictureLook


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
