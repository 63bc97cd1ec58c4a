"""Affine colour maps: against NumPy, F.interpolate, and themselves in windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hzcli.core import affine
from hzcli.core.transform import lerp
from hzcli.core.window import Size, Window, bands


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(37, 23), (1, 9), (5, 4)], ids=str)
def test_apply_is_a_matrix_product_with_the_interpolated_maps(
    mode: str, align_corners: bool, size: tuple[int, int]
) -> None:
    """NumPy multiplies, F.interpolate enlarges (or makes smaller: 5 rows of 6 cells)."""
    maps, rgb = random(2, 12, 6, 7) - 0.3, random(2, 3, *size, seed=1)
    got = affine.AffineMap(maps, mode, align_corners).apply(rgb, rgb[:, :1], whole(size))
    large = F.interpolate(maps.double(), size, mode=mode, align_corners=align_corners).numpy()
    expected = np.empty((2, 3, *size))
    for b, y, x in np.ndindex(2, *size):
        matrix = large[b, :, y, x].reshape(3, 4)
        expected[b, :, y, x] = matrix[:, :3] @ rgb[b, :, y, x].double().numpy() + matrix[:, 3]
    assert np.abs(got.numpy() - expected).max() < 2e-6


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_windows_are_parts_of_the_whole(mode: str) -> None:
    """L1, bit for bit, with no halo."""
    size = Size(53, 41)
    transform = affine.AffineMap(random(1, 12, 8, 5), mode)
    rgb = random(1, 3, 53, 41, seed=1)
    expected = transform.apply(rgb, rgb[:, :1], Window.whole(size))  # as training does it
    with torch.no_grad():
        assert torch.equal(transform.apply(rgb, rgb[:, :1], Window.whole(size)), expected)
    assert transform.reach.halo == 0
    for height in (1, 7, 16):
        for band in bands(size, height):
            for left, right in ((0, 41), (3, 20)):
                window = Window(band.top, band.bottom, left, right, size)
                part = (..., slice(band.top, band.bottom), slice(left, right))
                got = transform.apply(rgb[part], rgb[part][:, :1], window)
                assert torch.equal(got, expected[part])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_tiles_are_not_seen(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, however a picture is cut."""
    size = Size(53, 41)
    transform = affine.AffineMap(random(1, 12, 8, 5), mode)
    rgb = random(1, 3, 53, 41, seed=1)
    with torch.no_grad():
        expected = transform.apply(rgb, rgb[:, :1], Window.whole(size))
        for tile in ((1, 41), (16, 7), (3, 1)):
            monkeypatch.setattr(affine, "TILE", tile)
            assert torch.equal(transform.apply(rgb, rgb[:, :1], Window.whole(size)), expected)


def test_identity_changes_nothing() -> None:
    rgb = random(1, 3, 9, 11)
    transform = affine.AffineMap(torch.eye(3, 4).reshape(1, 12, 1, 1))
    assert torch.equal(transform.apply(rgb, rgb[:, :1], whole((9, 11))), rgb)


def test_maps_are_matrices_and_offsets_row_by_row() -> None:
    """A permutation of the channels and an offset, by hand."""
    matrix = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]).view(1, 3, 3, 1, 1)
    offset = torch.tensor([0.0, 0.25, -1]).view(1, 3, 1, 1)
    rgb = random(1, 3, 4, 4)
    got = affine.recolour(affine.as_maps(matrix, offset).expand(1, 12, 4, 4), rgb)
    assert torch.equal(got, rgb[:, [1, 2, 0]] + offset)


def test_lerp_blends_results() -> None:
    """L4, and more: between two maps the result is the blend of their results."""
    a, b = (affine.AffineMap(random(1, 12, 4, 4, seed=s)) for s in (1, 2))
    rgb, window = random(1, 3, 13, 17), whole((13, 17))
    x, y, z = (t.apply(rgb, rgb[:, :1], window) for t in (a, b, lerp(a, b, 0.25)))
    torch.testing.assert_close(z, torch.lerp(x, y, 0.25), atol=1e-6, rtol=0)


def test_gradient_reaches_maps_and_colours() -> None:
    maps = random(1, 12, 2, 3).double().requires_grad_()
    rgb = random(1, 3, 5, 4, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda m, x: affine.AffineMap(m, "bicubic").apply(x, x[:, :1], whole((5, 4))), (maps, rgb)
    )


def whole(size: tuple[int, int]) -> Window:
    return Window.whole(Size(*size))
