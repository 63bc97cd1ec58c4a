"""Tables and blends against float64 and closed forms."""

from __future__ import annotations

import numpy as np
import torch

from hzcli.core.lut import Lut3D, lookup
from hzcli.core.transform import lerp


def test_lookup_against_float64():
    """Trilinear interpolation, eight corners, in numpy."""
    rng = np.random.default_rng(0)
    table, colours = rng.random((3, 5, 5, 5)), rng.random((40, 3))
    expected = []
    for c in colours:
        p = c * 4
        low = np.minimum(p.astype(int), 3)
        f = p - low
        value = np.zeros(3)
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod([f[k] if corner[k] else 1 - f[k] for k in range(3)])
            value += weight * table[:, low[0] + corner[0], low[1] + corner[1], low[2] + corner[2]]
        expected.append(value)
    rgb = torch.from_numpy(colours.T.reshape(1, 3, 5, 8)).float()
    actual = lookup(torch.from_numpy(table).float()[None], rgb)
    np.testing.assert_allclose(actual.reshape(3, -1).T.numpy(), expected, atol=1e-5)


def test_lerp_ends_are_exact():
    """L4."""
    a, b = Lut3D(torch.rand(1, 3, 4, 4, 4)), Lut3D(torch.rand(1, 3, 4, 4, 4))
    assert torch.equal(lerp(a, b, 0).lut, a.lut)
    assert torch.equal(lerp(a, b, 1).lut, b.lut)
    np.testing.assert_allclose(lerp(a, b, 0.25).lut, 0.75 * a.lut + 0.25 * b.lut, atol=1e-6)
