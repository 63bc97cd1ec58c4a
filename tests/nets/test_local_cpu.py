"""What local_cpu.py regroups, part by part, against torch's own operators."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hzcli.core.lut import lookup
from hzcli.nets import cells
from hzcli.nets.local_cpu import Atlas, Buffers
from hzcli.nets.modulated import homogeneous, run_mlp


@pytest.mark.parametrize("size", [2, 3, 7, 9, 17])
@torch.no_grad()
def test_an_atlas_is_the_trilinear_table(size):
    """Rough tables, colours between, on and beyond the nodes; corners and faces of the cube."""
    rng = torch.Generator().manual_seed(size)
    lut = torch.rand(1, 3, size, size, size, generator=rng)
    between = torch.rand(2000, 3, generator=rng) * 1.2 - 0.1
    nodes = torch.randint(0, size, (2000, 3), generator=rng) / (size - 1)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    rgb = torch.cat([between, nodes, corners.repeat(125, 1)]).view(5, 1000, 3).mT
    got = Atlas(lut[0]).lookup(rgb, Buffers())
    expected = lookup(lut.double(), rgb.double().transpose(0, 1)[None])[0]
    assert (got - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("start", "size"), [(0, 1), (0, 8), (1, 7), (5, 6), (6, 11), (10, 12)])
def test_doubling_is_bilinear_interpolation(start, size):
    """Rows of F.interpolate, ends held, from an array in its frame."""
    coarse = torch.rand(1, 1, 1, 11, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(coarse, scale_factor=(1, 2), mode="bilinear")[0, 0, 0]
    whole, inside = cells.framed(1, 1, 11)
    inside.copy_(coarse[0])
    cells.hold_ends(whole)
    read, weights = cells.doubling(start, size)
    got = weights @ whole[0, 1, read]
    assert (got - expected[start : start + size]).abs().max() < 1e-6


def test_a_row_of_ones_carries_the_bias():
    rng = torch.Generator().manual_seed(2)
    layers = [
        (torch.randn(3, a, b, generator=rng), torch.randn(3, 1, b, generator=rng))
        for a, b in ((4, 6), (6, 5))
    ]
    x = torch.randn(3, 4, 50, generator=rng)
    y = torch.cat([torch.ones(3, 1, 50), x], 1)
    for matrix in homogeneous(layers):
        y = F.leaky_relu(matrix.mT @ y, 0.01)
    assert torch.equal(y[:, 0], torch.ones(3, 50))
    with torch.no_grad():
        assert (y[:, 1:] - run_mlp(x, layers)).abs().max() < 1e-5
