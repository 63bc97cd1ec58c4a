"""Maps at the pixels of windows: against torch, float64 and a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hzcli.core import sampling
from hzcli.core.sampling import upsample
from hzcli.core.window import Size, Window, bands

MODES = ["bilinear", "bicubic"]
# Maps' and pictures' sizes: larger, smaller, equal, primes, one pixel, one cell.
CASES = [
    ((5, 7), Size(53, 31)),
    ((16, 16), Size(7, 97)),
    ((4, 9), Size(4, 9)),
    ((1, 6), Size(13, 1)),
    ((3, 1), Size(1, 17)),
    ((1, 1), Size(1, 1)),
    ((8, 8), Size(2, 3)),
]


def maps_of(cells: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, *cells, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("cells", "size"), CASES)
def test_whole_picture_equals_torch(cells, size, align_corners, mode):
    """The oracle is F.interpolate in float64."""
    maps = maps_of(cells)

    actual = upsample(maps, Window.whole(size), align_corners=align_corners, mode=mode)

    expected = F.interpolate(
        maps.double(), (size.height, size.width), mode=mode, align_corners=align_corners
    )
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("cells", "size"), CASES)
def test_windows_are_bit_equal(cells, size, align_corners, mode):
    """L1: bands and single columns hold the very bits of the whole."""
    maps = maps_of(cells)
    whole = upsample(maps, Window.whole(size), align_corners=align_corners, mode=mode)

    for height in (1, 2, 5):
        parts = [
            upsample(maps, band, align_corners=align_corners, mode=mode)
            for band in bands(size, height)
        ]
        assert torch.equal(torch.cat(parts, 2), whole)
    for left in range(size.width):
        one = Window(size.height // 3, size.height, left, left + 1, size)
        part = upsample(maps, one, align_corners=align_corners, mode=mode)
        assert torch.equal(part, whole[:, :, size.height // 3 :, left : left + 1])


def test_a_plane_stays_a_plane():
    """Closed form: a linear ramp over the cells is one over the pixels, ends on ends."""
    ramp = torch.linspace(-1, 1, 9).view(1, 1, 1, 9) + torch.linspace(0, 4, 5).view(1, 1, 5, 1)
    size = Size(41, 37)

    actual = upsample(ramp, Window.whole(size), align_corners=True)

    expected = torch.linspace(-1, 1, 37) + torch.linspace(0, 4, 41)[:, None]
    np.testing.assert_allclose(actual[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_weights_sum_to_one(mode):
    place = sampling.places(0, 1000, 1000, 7, align_corners=False)

    index, weight = sampling.taps(place, 7, mode)

    np.testing.assert_allclose(weight.sum(0), 1, atol=1e-6)
    assert index.min() == 0
    assert index.max() == 6


def test_far_columns_of_a_wide_picture_keep_their_places():
    """At 60000 columns float32 coordinates would be off by a thousandth of a cell."""
    maps = maps_of((1, 512))
    window = Window(0, 1, 59000, 60000, Size(1, 60000))

    actual = upsample(maps, window, align_corners=False)

    expected = F.interpolate(maps.double(), (1, 60000), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(actual, expected[..., 59000:], atol=1e-6)


def test_gradient_reaches_the_maps():
    maps = maps_of((3, 4)).double().requires_grad_()
    window = Window(2, 9, 1, 6, Size(11, 8))

    for mode in MODES:
        torch.autograd.gradcheck(
            lambda m, mode=mode: upsample(m, window, align_corners=False, mode=mode), maps
        )


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="nearest"):
        upsample(maps_of((2, 2)), Window.whole(Size(3, 3)), align_corners=True, mode="nearest")
