"""Position features between places: polynomials against float64 sines."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hzcli.nets import cells
from hzcli.nets.local_place import chebyshev, kronecker, places


@given(st.integers(1, 64), st.floats(0, 0.2), st.floats(-4, 4))
def test_a_sine_is_its_places(size, phase, start):
    """Any slower sine, interpolated, is itself to float32's rounding; so is what is linear."""
    count = places(size, phase)
    at, between = (tensor.numpy() for tensor in chebyshev(size, count))
    pixels = np.arange(size)
    for rate in (phase, -0.6 * phase):
        error = np.sin(rate * at + start) @ between - np.sin(rate * pixels + start)
        assert np.abs(error).max() <= 2**-27 + 1e-12
    np.testing.assert_allclose(at @ between, pixels, atol=1e-9)
    np.testing.assert_allclose(between.sum(0), 1, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 16, 64])
def test_fewer_places_would_not_do(size):
    """Guard: a wave's worth in a block asks for many, a flat one for the two of what is linear."""
    assert places(size, 0) == min(size, 2)
    assert places(size, 2 * math.pi / size) == min(size, 14 if size == 16 else 15)


def test_products_of_two_axes_are_in_the_order_of_pixels():
    """Across and down: a function of both axes from its values at places, row by row."""
    size, counts = (16, 32), (5, 6)
    (across, _), (down, _) = (chebyshev(*axis) for axis in zip(size, counts, strict=True))
    x, y = torch.arange(16.0), torch.arange(32.0)
    expected = (1 + x / 9) * (y[:, None] / 31 - 0.4) ** 2
    values = (1 + across[:, None] / 9) * (down / 31 - 0.4) ** 2
    got = values.flatten().float() @ kronecker(size, counts)
    assert (got - expected.flatten()).abs().max() < 1e-5


@pytest.mark.parametrize("pixels", [1, 100, 500, 1000, 2000, 3000, 4000, 6000, 40_000])
@pytest.mark.parametrize("nodes", [8, 16, 32])
def test_tiles_do_not_cut_blocks(pixels, nodes):
    """Blocks of whole cells, or of a power of two near to a quarter of one, which divides 64."""
    edge, cell = cells.block_edge(pixels, nodes), -(-pixels // nodes)
    assert 1 <= edge <= cell
    if cell < 16:
        assert edge == cell
    else:
        assert 64 % edge == 0
        quarter = min(max(pixels / (4 * nodes), 16), 64)
        assert quarter / 1.5 < edge < quarter * 1.5
