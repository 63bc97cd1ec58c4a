"""AICT's curves: float64 oracles of the lookup, windows, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.window import Size, Window
from hzcli.models import aict
from hzcli.models.aict import interval_map


def rough_maps(cells: tuple[int, int], k: int = 8, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    widths = torch.randn(batch, 3, k, *cells, generator=generator).double().mul(2).softmax(2)
    return widths, torch.randn(batch, 3 * k, *cells, generator=generator).double()


def by_volumes(widths: Tensor, levels: Tensor, rgb: Tensor) -> Tensor:
    """Oracle: each channel looked up in volumes over (column, row, value) at once."""
    height, width = rgb.shape[2:]
    axes = [torch.linspace(-1, 1, n, dtype=rgb.dtype) for n in rgb.shape[2:]]
    y, x = torch.meshgrid(*axes, indexing="ij")
    knots = torch.cat([torch.zeros_like(widths[:, :, :1]), widths.cumsum(2)], 2)
    out = []
    for c in range(3):
        value = rgb[:, c]
        for volume in (knots[:, c], levels.unflatten(1, (3, -1))[:, c]):
            place = [x.expand_as(value), y.expand_as(value), value * 2 - 1]
            grid = torch.stack(place, -1)[:, None]
            value = F.grid_sample(
                volume[:, None], grid, padding_mode="border", align_corners=True
            ).view(-1, height, width)
        out.append(value)
    return torch.stack(out, 1)


@pytest.mark.parametrize("size", [(33, 41), (7, 64), (1, 19), (23, 1), (1, 1)], ids=str)
def test_separable_lookup_equals_volumes(size):
    """Float64: row, then column and value, is the trilinear lookup, corners on corners."""
    widths, levels = rough_maps((16, 9), batch=2)
    rgb = torch.rand(2, 3, *size, dtype=torch.float64) * 1.2 - 0.1

    actual = interval_map(widths, levels, clamp=False).apply(rgb, rgb, Window.whole(Size(*size)))

    np.testing.assert_allclose(actual, by_volumes(widths, levels, rgb), atol=1e-10)


def test_cells_as_areas_equal_interpolated_planes():
    """Float64, align_corners=False: planes by F.interpolate, then curves by numpy."""
    widths, levels = rough_maps((5, 7))
    size = (26, 31)
    rgb = torch.rand(1, 3, *size, dtype=torch.float64)
    transform = interval_map(widths, levels, align_corners=False, clamp=False)

    actual = transform.apply(rgb, rgb, Window.whole(Size(*size)))

    def planes(maps: Tensor) -> np.ndarray:
        large = F.interpolate(maps.flatten(1, 2), size, mode="bilinear", align_corners=False)
        return large.unflatten(1, (3, -1))[0].numpy()

    knots = planes(F.pad(widths.cumsum(2), (0, 0, 0, 0, 1, 0)))
    curves = planes(levels.unflatten(1, (3, -1)))
    for c, y, x in np.ndindex(3, *size):
        between = np.interp(rgb[0, c, y, x], np.linspace(0, 1, 9), knots[c, :, y, x])
        expected = np.interp(between, np.linspace(0, 1, 8), curves[c, :, y, x])
        np.testing.assert_allclose(actual[0, c, y, x], expected, atol=1e-10)


@pytest.mark.parametrize("align_corners", [False, True])
def test_windows_hold_the_bits_of_the_whole(monkeypatch, align_corners):
    """L1, bit by bit: bands, tiles and the strips that `apply` works in."""
    widths, levels = (t.float() for t in rough_maps((32, 32)))
    transform = interval_map(widths, levels, align_corners=align_corners)
    size = Size(61, 83)
    rgb = torch.rand(1, 3, 61, 83)
    whole = transform.apply(rgb, rgb, Window.whole(size))

    for chunk in (1, 400):
        monkeypatch.setattr(aict.intervals, "CHUNK", chunk)
        for window in (
            Window(0, 61, 0, 83, size),
            Window(17, 18, 0, 83, size),
            Window(9, 50, 31, 38, size),
        ):
            here = (..., *window.inside(Window.whole(size)))
            assert torch.equal(transform.apply(rgb[here], rgb, window), whole[here])


def test_even_intervals_and_levels_are_the_identity():
    widths = torch.full((1, 3, 8, 4, 4), 1 / 8)
    levels = torch.linspace(0, 1, 8).repeat(3).view(1, 24, 1, 1).expand(-1, -1, 4, 4)
    rgb = torch.rand(1, 3, 21, 34)

    actual = interval_map(widths, levels).apply(rgb, rgb, Window.whole(Size(21, 34)))

    np.testing.assert_allclose(actual, rgb, atol=1e-6)


def test_curves_are_differentiable():
    """Also towards the intervals, through the lookup of what they give."""
    widths, levels = rough_maps((3, 2), k=3)
    rgb = torch.rand(1, 3, 4, 5, dtype=torch.float64)

    def run(w: Tensor, f: Tensor) -> Tensor:
        return interval_map(w, f, clamp=False).apply(rgb, rgb, Window.whole(Size(4, 5)))

    torch.autograd.gradcheck(run, (widths.requires_grad_(), levels.requires_grad_()))


def test_colours_out_of_range_keep_their_gradient():
    """Where the published clamp leaves none."""
    kept = []
    for clamp in (False, True):
        widths, levels = torch.full((1, 3, 8, 2, 2), 1 / 8), torch.full((1, 24, 2, 2), 1.5)
        levels.requires_grad_()
        rgb = torch.rand(1, 3, 5, 5)
        out = interval_map(widths, levels, clamp=clamp).apply(rgb, rgb, Window.whole(Size(5, 5)))
        out.sum().backward()
        kept.append(levels.grad.abs().sum().item())
    assert kept[0] > 0
    assert kept[1] == 0
