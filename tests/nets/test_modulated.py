"""Predicted MLPs and the blocks they are run in, against float64 and by law."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from hzcli.nets import cells, local_mlp
from hzcli.nets.modulated import Modulated


def test_modulated_layer_against_float64():
    """y = LeakyReLU(x (tanh(A B) * basic) + b), section III-C, written out in numpy."""
    rng = np.random.default_rng(1)
    mlp = Modulated((5, 7, 3), rank=2)
    assert mlp.length == (5 + 7) * 2 + 7 + (7 + 3) * 2 + 3
    vector = rng.normal(size=mlp.length)
    basics = [rng.normal(size=(5, 7)), rng.normal(size=(7, 3))]
    x = rng.normal(size=(4, 5))
    expected, start = x, 0
    for (a, b), basic in zip([(5, 7), (7, 3)], basics, strict=True):
        left = vector[start : start + a * 2].reshape(a, 2)
        right = vector[start + a * 2 : start + (a + b) * 2].reshape(2, b)
        bias = vector[start + (a + b) * 2 : start + (a + b) * 2 + b]
        start += (a + b) * 2 + b
        z = expected @ (np.tanh(left @ right) * basic) + bias
        expected = np.where(z > 0, z, 0.01 * z)
    weights = mlp.weights(
        torch.from_numpy(vector).float()[None],
        tuple(torch.from_numpy(b).float() for b in basics),
    )
    actual = local_mlp.run_mlp(torch.from_numpy(x.T).float()[None], weights)
    np.testing.assert_allclose(actual[0].numpy().T, expected, atol=1e-5)


def test_stretches_cover_each_pixel_once():
    """Blocks of 8 pixels: each pixel lies in the stretch, and the block, that it should."""
    for start, stop in itertools.product(range(9), range(26)):
        found = [
            (at.start + n, at.first + n // at.size)
            for at in cells.stretches(start, stop, 8)
            for n in range(at.count * at.size)
        ]
        assert found == [(pixel, pixel // 8) for pixel in range(start, stop)]


@pytest.mark.parametrize("most", [1, 100, 700, 10_000])
def test_wanted_patches_hold_the_marked_blocks_within_the_limit(most):
    """Each block with a mark once, no other, and never more pixels than allowed (or a block)."""
    marks = torch.rand(61, 83, generator=torch.Generator().manual_seed(1)) > 0.98
    marks[40:] = True
    rows, columns = cells.stretches(6, 67, 8), cells.stretches(5, 88, 8)
    got: list[tuple[int, int]] = []
    for r, c in cells.wanted(marks, (6, 5), rows, columns, most):
        assert r.count * c.count == 1 or r.count * r.size * c.count * c.size <= most
        got += itertools.product(
            range(r.first, r.first + r.count), range(c.first, c.first + c.count)
        )
    y, x = marks.nonzero().T
    assert sorted(got) == sorted(
        set(zip(((y + 6) // 8).tolist(), ((x + 5) // 8).tolist(), strict=True))
    )


def test_predicted_mlps_start_plain():
    """At the start every weight is tanh(1) times its learnt factor, every bias 0."""
    mlp = Modulated((5, 7, 3), rank=2)
    basics = mlp.basics()
    for (weight, bias), basic in zip(mlp.weights(mlp.initial(), list(basics)), basics, strict=True):
        np.testing.assert_allclose(weight.detach(), math.tanh(1) * basic.detach(), rtol=1e-6)
        assert not bias.any()
