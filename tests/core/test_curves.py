"""Tone curves against interpolation in float64, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hzcli.core.curves import CACHED, CODES, FINE, Curves, compose, identity_curves, sampled
from hzcli.core.transform import lerp
from hzcli.core.window import Size, Window


def rising(batch: int, pieces: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Curves:
    """Curves that never fall, some of their pieces flat."""
    rng = torch.Generator().manual_seed(seed)
    steps = torch.rand(batch, 3, pieces, generator=rng, dtype=torch.float64)
    steps = torch.where(steps < 0.2, 0.0, steps)
    total = torch.cat([torch.zeros(batch, 3, 1, dtype=torch.float64), steps.cumsum(2)], 2)
    return Curves((low + (high - low) * total / total[..., -1:]).float())


def wild(batch: int, pieces: int, seed: int = 0) -> Curves:
    """Curves that rise and fall."""
    rng = torch.Generator().manual_seed(seed)
    return Curves(torch.rand(batch, 3, pieces + 1, generator=rng))


def shades(batch: int, count: int, seed: int = 1) -> Tensor:
    """(B, 3, N), some below 0 and some above 1."""
    x = torch.rand(batch, 3, count, generator=torch.Generator().manual_seed(seed))
    return x * 1.2 - 0.1


def expected(curves: Curves, x: Tensor) -> np.ndarray:
    """By numpy, in float64; held outside."""
    knots, places = curves.knots.double().numpy(), curves.places
    if places is None:
        even = np.linspace(0, 1, knots.shape[2])
        where = np.broadcast_to(even, knots.shape)
    else:
        where = places.double().numpy()
    out = np.empty(x.shape)
    for b, c in np.ndindex(*x.shape[:2]):
        out[b, c] = np.interp(x[b, c].double().numpy(), where[b, c], knots[b, c])
    return out


def uneven(curves: Curves, seed: int = 3) -> Curves:
    """The same knots elsewhere."""
    rng = torch.Generator().manual_seed(seed)
    inner = torch.rand(curves.knots[..., 1:-1].shape, generator=rng).sort(-1).values
    ends = torch.zeros_like(curves.knots[..., :1]), torch.ones_like(curves.knots[..., :1])
    return Curves(curves.knots, torch.cat([ends[0], inner, ends[1]], -1))


@pytest.mark.parametrize("pieces", [1, 7, 64])
@pytest.mark.parametrize("places", [False, True], ids=["even", "uneven"])
def test_values_are_interpolated_between_knots(pieces: int, places: bool) -> None:
    """Against numpy.interp, inside and outside [0, 1]."""
    curves, x = wild(2, pieces), shades(2, 1000)
    if places:
        curves = uneven(curves)
    # A step between two places that are close is steep, and x has but 24 bits.
    assert np.abs(curves.at(x).numpy() - expected(curves, x)).max() < (1e-3 if places else 1e-6)


def test_ends_are_met_and_held() -> None:
    curves = wild(1, 5)
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0]).expand(1, 3, -1)
    knots = curves.knots
    want = torch.stack([knots[..., 0], knots[..., 0], knots[..., -1], knots[..., -1]], -1)
    assert torch.equal(curves.at(x), want)


def test_what_is_no_number_stays_none() -> None:
    """The engine refuses such results; they must not stop it before."""
    out = identity_curves(4).at(torch.tensor([0.3, float("nan"), 0.7]).expand(1, 3, -1))
    assert out.isnan()[0, 0].tolist() == [False, True, False]


def test_identity_changes_nothing() -> None:
    x = shades(1, 5000).clamp(0, 1)
    assert (identity_curves(64).at(x) - x).abs().max() < 1e-7


def test_any_window_gives_the_whole_pictures_colours() -> None:
    """L1, to the bit, over pieces of the cache's size and smaller."""
    height, width = 300, 3 * CACHED // 300 + 7
    rgb = shades(1, height * width).view(1, 3, height, width)
    curves, size = sampled((wild(1, 64),)), Size(height, width)
    mask = torch.ones(1, 1, height, width)
    whole = curves.apply(rgb, mask, Window.whole(size))
    for window in (Window(0, 113, 0, width, size), Window(113, 300, 5, 111, size)):
        part = (..., slice(window.top, window.bottom), slice(window.left, window.right))
        assert torch.equal(curves.apply(rgb[part], mask[part], window), whole[part])


def test_learning_and_rendering_agree() -> None:
    """One takes all channels at once, one goes piece by piece."""
    x, plain = shades(2, 999), wild(2, 16)
    learnt = Curves(plain.knots.clone().requires_grad_(True)).at(x)
    assert (learnt - plain.at(x)).abs().max() < 1e-6


@pytest.mark.parametrize("places", [False, True], ids=["even", "uneven"])
def test_gradients(places: bool) -> None:
    """In knots, in places and in x, against differences in float64."""
    curves = uneven(wild(2, 6)) if places else wild(2, 6)
    inputs = [curves.knots.double().requires_grad_(True)]
    # Away from knots, where a derivative is one-sided.
    inputs.append((torch.rand(2, 3, 20, dtype=torch.float64)).requires_grad_(True))
    if curves.places is not None:
        inner = curves.places[..., 1:-1].double().requires_grad_(True)
        ends = torch.zeros(2, 3, 1, dtype=torch.float64), torch.ones(2, 3, 1, dtype=torch.float64)

        def at(knots: Tensor, x: Tensor, inner: Tensor) -> Tensor:
            return Curves(knots, torch.cat([ends[0], inner, ends[1]], -1)).at(x)

        assert torch.autograd.gradcheck(at, (*inputs, inner), eps=1e-7, atol=1e-4)
    else:
        assert torch.autograd.gradcheck(lambda k, x: Curves(k).at(x), inputs, eps=1e-7, atol=1e-4)


# --- Composition ----------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.2, 0.7), (-0.3, 1.4)])
def test_a_rising_curve_and_any_other_compose_exactly(low: float, high: float) -> None:
    """Also with flat pieces, and with values that the second curve holds at its ends."""
    first, second = rising(2, 64, 1, low, high), wild(2, 48, 2)
    whole = compose(first, second)
    x = shades(2, 20000)
    one_by_one = expected(second, torch.from_numpy(expected(first, x)))
    assert whole.knots.shape == (2, 3, 65 + 49)
    # The bends' places are float32, and the steepest pieces rise by 48 in 1.
    assert np.abs(expected(whole, x) - one_by_one).max() < 3e-5
    assert (whole.places.diff(dim=-1) >= 0).all()


def test_composition_has_every_bend() -> None:
    """A table of 4097 knots misses bends that the composition has."""
    first, second = rising(1, 64, 1), wild(1, 64, 2)
    x = shades(1, 20000)
    one_by_one = expected(second, torch.from_numpy(expected(first, x)))
    table = sampled((first, second), 4097)
    assert np.abs(expected(table, x) - one_by_one).max() > 1e-3
    assert np.abs(expected(compose(first, second), x) - one_by_one).max() < 3e-5


def test_three_curves_compose() -> None:
    a, b, c = rising(1, 16, 1), rising(1, 12, 2, 0.1, 1.1), wild(1, 8, 3)
    x = shades(1, 3000)
    want = expected(c, torch.from_numpy(expected(b, torch.from_numpy(expected(a, x)))))
    assert np.abs(expected(compose(compose(a, b), c), x) - want).max() < 1e-5


def test_a_falling_curve_composes_exactly_at_codes() -> None:
    """At every 8-bit and 16-bit code, and within the stated bound between them."""
    first, second = wild(1, 16, 1), wild(1, 16, 2)
    whole = compose(first, second)
    assert whole.places is None
    assert whole.pieces == FINE - 1
    codes = torch.arange(CODES, dtype=torch.float64) / (CODES - 1)
    x = codes.float().expand(1, 3, -1)
    want = expected(second, torch.from_numpy(expected(first, x)))
    assert np.abs(whole.at(x).numpy() - want).max() < 2e-5  # float32, slopes up to 256
    between = shades(1, 20000)
    want = expected(second, torch.from_numpy(expected(first, between)))
    bound = 2 * 16 * 16 / 4 / (FINE - 1)
    assert np.abs(whole.at(between).numpy() - want).max() < bound + 2e-5


def test_order_of_composition_matters() -> None:
    a, b = rising(1, 8, 1), rising(1, 8, 2)
    x = shades(1, 100)
    assert (compose(a, b).at(x) - compose(b, a).at(x)).abs().max() > 0.01


# --- Other forms ----------------------------------------------------------------------------


def test_even_meets_the_curve_at_its_knots() -> None:
    curves = uneven(rising(1, 9))
    even = curves.even(33)
    x = torch.linspace(0, 1, 33).expand(1, 3, -1)
    assert torch.equal(even.knots, curves.at(x))


def test_as_lut_is_exact_on_a_multiple_of_the_pieces() -> None:
    curves = wild(2, 16)
    rgb = shades(2, 30 * 40).view(2, 3, 30, 40)
    mask, window = torch.ones(2, 1, 30, 40), Window.whole(Size(30, 40))
    want = curves.apply(rgb, mask, window)
    for size, limit in ((17, 2e-6), (33, 2e-6)):
        table = curves.as_lut(size)
        assert table.lut.shape == (2, 3, size, size, size)
        assert (table.apply(rgb, mask, window) - want).abs().max() < limit
    assert (curves.as_lut(20).apply(rgb, mask, window) - want).abs().max() > 0.01


def test_lerp_blends_colours() -> None:
    a, b, x = wild(1, 32, 1), wild(1, 32, 2), shades(1, 500)
    assert torch.allclose(lerp(a, b, 0.3).at(x), 0.7 * a.at(x) + 0.3 * b.at(x), atol=1e-6)
