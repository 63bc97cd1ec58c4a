"""Affine maps fitted between a thumbnail and its harmonised version."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hzcli.core import guided
from hzcli.core.affine import recolour
from hzcli.core.guided import global_fit, guided_fit
from hzcli.core.window import Size, Window

CHANGE = torch.tensor([[1.1, 0.1, -0.2, 0.05], [0.0, 0.8, 0.1, -0.1], [0.2, -0.1, 0.9, 0.1]])


def scene(edge: int = 48) -> tuple[Tensor, Tensor]:
    """A noisy picture (2, 3, h, w) and a disc for a mask, soft at its rim."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 6, 6, generator=draw)
    rgb = torch.nn.functional.interpolate(coarse, (edge, edge), mode="bilinear")
    rgb = (rgb + 0.05 * torch.randn(rgb.shape, generator=draw)).clamp(0, 1)
    place = (torch.arange(edge) + 0.5) / edge - 0.5
    distance = (place[:, None].square() + place.square()).sqrt()
    mask = ((0.3 - distance) * edge).clamp(0, 1)[None, None].expand(2, -1, -1, -1)
    return rgb, mask


def affine(rgb: Tensor) -> Tensor:
    return recolour(CHANGE.flatten()[None, :, None, None].expand(2, -1, *rgb.shape[2:]), rgb)


def test_a_global_affine_change_comes_back_as_it_is():
    """At every place, also where there is no mask."""
    rgb, mask = scene()
    maps = guided_fit(rgb, affine(rgb), mask).maps
    assert (maps - CHANGE.flatten()[:, None, None]).abs().max() < 2e-3
    assert (recolour(maps, rgb) - affine(rgb)).abs().max() < 1e-4


def test_global_fit_is_weighted_least_squares():
    """Oracle: the pseudo-inverse in float64."""
    rgb, mask = scene()
    target = rgb**1.7
    found = global_fit(rgb, target, mask)
    for b in range(2):
        design = torch.cat([rgb[b].flatten(1), torch.ones(1, rgb[b, 0].numel())]).double()
        root = mask[b].flatten().double().sqrt()
        expected = torch.linalg.lstsq((design * root).T, (target[b].flatten(1) * root).T.double())
        assert (found[b] - expected.solution.T).abs().max() < 2e-3


def test_the_background_does_not_leak():
    """What the network did outside the mask, and what is there, changes nothing at all."""
    rgb, mask = scene()
    target = rgb**1.5
    outside = (mask == 0).float()
    other = torch.lerp(rgb, torch.rand_like(rgb), outside), torch.lerp(target, 1 - rgb, outside)
    assert torch.equal(guided_fit(rgb, target, mask).maps, guided_fit(*other, mask).maps)


def test_an_unweighted_fit_would_leak():
    """The same with a weight everywhere: the test above can fail."""
    rgb, mask = scene()
    outside = (mask == 0).float()
    harmonised = torch.lerp(rgb**1.5, 1 - rgb, outside)
    everywhere = guided_fit(rgb, harmonised, torch.ones_like(mask)).maps
    error = ((recolour(everywhere, rgb) - harmonised).abs() * mask).max()
    masked = guided_fit(rgb, harmonised, mask).maps
    assert ((recolour(masked, rgb) - harmonised).abs() * mask).max() < error / 3


def test_a_change_that_differs_from_place_to_place_is_followed():
    """Brighter to the left, darker to the right: the global fit cannot, the local one can."""
    rgb, mask = scene(160)
    ramp = torch.linspace(0.7, 1.3, 160)
    target = rgb * ramp
    inside = mask > 0.5
    local = recolour(guided_fit(rgb, target, mask).maps, rgb)
    whole = recolour(global_fit(rgb, target, mask).flatten(1)[:, :, None, None], rgb)
    errors = [((x - target).square() * inside).mean().sqrt() for x in (local, whole)]
    assert errors[0] < 0.25 * errors[1]


def test_colours_are_local_means_where_the_picture_is_flat():
    """Oracle in float64: one channel at a place, its window written out (eqs. 14 to 16)."""
    rgb, mask = (t[:1].double() for t in scene(20))
    target, r, eps = rgb**2, 2, 1e-2
    maps = guided_fit(rgb.float(), target.float(), mask.float(), radius=r, eps=eps).maps.double()
    whole = global_fit(rgb, target, mask).double().flatten(1)[:, :, None, None]
    rest, share = target - recolour(whole, rgb), guided.SHARE * mask.mean()
    linear, sure = {}, {}
    for y in range(4, 16):
        for x in range(4, 16):
            part = (0, slice(None), slice(y - r, y + r + 1), slice(x - r, x + r + 1))
            flat = mask[part].flatten() / 25
            i, p = rgb[part].flatten(1), rest[part].flatten(1)
            n = flat.sum() + share
            mi, mp = (i * flat).sum(1) / n, (p * flat).sum(1) / n
            cov_i = (i * flat) @ i.T / n - mi[:, None] * mi + eps * torch.eye(3)
            a = torch.linalg.solve(cov_i, (i * flat) @ p.T / n - mi[:, None] * mp).T
            linear[y, x], sure[y, x] = torch.cat([a, (mp - a @ mi)[:, None]], 1), n
    for y, x in ((9, 9), (8, 12), (12, 7)):
        window = [(y + j, x + k) for j in range(-r, r + 1) for k in range(-r, r + 1)]
        mean = sum(linear[q] * sure[q] for q in window) / sum(sure[q] for q in window)
        expected = mean.flatten() + whole[0, :, 0, 0]
        assert (maps[0, :, y, x] - expected).abs().max() < 1e-4


@pytest.mark.parametrize("weight", [0.0, 1e-6, 1.0])
def test_any_amount_of_foreground_gives_numbers(weight: float):
    """Nothing, next to nothing, and everything; a foreground of one colour."""
    rgb = torch.full((1, 3, 16, 16), 0.4)
    maps = guided_fit(rgb, rgb * 0.5, torch.full((1, 1, 16, 16), weight))
    whole = maps.apply(rgb, rgb[:, :1], Window.whole(Size(16, 16)))
    assert maps.maps.isfinite().all()
    assert (whole - (rgb if weight == 0 else rgb * 0.5)).abs().max() < 1e-3


def test_gradients_reach_the_target():
    rgb, mask = scene(24)
    target = rgb.clone().requires_grad_(True)
    guided_fit(rgb, target, mask).maps.square().mean().backward()
    assert target.grad is not None and target.grad.isfinite().all()
    assert (target.grad * mask).abs().sum() > 0
