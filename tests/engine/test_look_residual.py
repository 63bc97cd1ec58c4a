"""How far looks are from pictures: Delta E 2000, and what is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hzcli.engine.looks.residual import Residual, Spread, cielab, delta_e_2000


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
