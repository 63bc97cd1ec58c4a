"""Tables fitted to pixels: closed forms, a dense solve, and what happens where no colours are."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import Tensor

from hzcli.core import lut
from hzcli.core.lut import fit_lut, identity_lut, lookup

MATRIX = torch.tensor([[0.9, 0.05, 0.0], [0.0, 1.1, -0.1], [0.1, 0.0, 0.7]])
OFFSET = torch.tensor([0.02, -0.03, 0.1])


def shades(seed: int = 0, low: float = 0.0, high: float = 1.0, edge: int = 64) -> Tensor:
    """(1, 3, edge, edge), colours spread over the cube from `low` to `high`."""
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(1, 3, edge, edge, generator=generator)


def affine(rgb: Tensor) -> Tensor:
    return torch.einsum("ck,bk...->bc...", MATRIX, rgb) + OFFSET.view(1, 3, *[1] * (rgb.ndim - 2))


def everywhere(rgb: Tensor) -> Tensor:
    return torch.ones_like(rgb[:, :1])


@pytest.mark.parametrize("size", [2, 5, 17])
def test_an_affine_change_is_recovered(size):
    """Closed form: the table of an affine map is that map of the identity table."""
    source = shades()

    table = fit_lut(source, affine(source), everywhere(source), size)

    np.testing.assert_allclose(table, affine(identity_lut(size)[None]), atol=4e-4)


def test_an_affine_change_is_extrapolated():
    """From a hundredth of the cube to all of it."""
    source = shades(9, 0.4, 0.6)

    table = fit_lut(source, affine(source), everywhere(source))

    np.testing.assert_allclose(table, affine(identity_lut(17)[None]), atol=2e-3)


@pytest.mark.parametrize("high", [0.25, 1.0])
def test_identity_stays_identity(high):
    """Also from few colours, and so is what a picture without foreground gives."""
    source = shades(high=high)

    table = fit_lut(source, source, everywhere(source))
    np.testing.assert_allclose(table, identity_lut(17)[None], atol=1e-6)

    table = fit_lut(source, 1 - source, 0 * everywhere(source))
    np.testing.assert_allclose(table, identity_lut(17)[None], atol=1e-6)


def test_one_colour_moves_the_table_as_a_whole():
    """Closed form: nothing tells how others change, so all move by the same vector."""
    source = torch.full((1, 3, 8, 8), 0.4)
    shift = torch.tensor([0.1, -0.05, 0.0]).view(1, 3, 1, 1)

    table = fit_lut(source, source + shift, everywhere(source))

    np.testing.assert_allclose(table, identity_lut(17)[None] + shift[..., None], atol=1e-5)


def test_it_is_the_minimum(monkeypatch):
    """Oracle: the same quadratic written down densely and solved by a direct method, n = 5."""
    monkeypatch.setattr(lut, "STEPS", 400)
    n, source = 5, shades(1, 0.2, 0.7, edge=12)
    target = source.square() + 0.1
    weight = torch.rand(1, 1, 12, 12)

    table = fit_lut(source.double(), target.double(), weight.double(), n)

    s, t = (x[0].flatten(1).T.double().numpy() for x in (source, target))
    w = weight.flatten().double().numpy()
    w = w / w.sum()
    place = s * (n - 1)
    hats = [np.maximum(0, 1 - np.abs(place[:, [k]] - np.arange(n))) for k in range(3)]
    phi = np.einsum("pr,pg,pb->prgb", *hats).reshape(len(s), -1)
    eye = np.eye(n)
    one, two = np.diff(eye, axis=0), np.diff(eye, n=2, axis=0)
    forms = []
    for i in range(3):
        forms.append(
            np.kron(np.kron(*[two if k == i else eye for k in (0, 1)]), two if i == 2 else eye)
        )
        parts = [eye if k == i else one for k in range(3)]
        forms.append(2**0.5 * np.kron(np.kron(parts[0], parts[1]), parts[2]))
    rough = sum(f.T @ f for f in forms) * lut.BEND * (n - 1) ** 4 / n**3
    left = phi.T @ (w[:, None] * phi) + rough + lut.PULL / n**3 * np.eye(n**3)
    start = lut._fit_affine(*(torch.from_numpy(x) for x in (s, t, w))).numpy()
    rest = t - s @ start[:3] - start[3]
    nodes = identity_lut(n).double().numpy().reshape(3, -1).T
    best = np.linalg.solve(left, phi.T @ (w[:, None] * rest)) + nodes @ start[:3] + start[3]
    np.testing.assert_allclose(table[0].reshape(3, -1).T, best, atol=1e-6)


def test_a_curve_with_saturation_is_met_where_colours_are():
    """Within a tenth of an 8-bit code on colours of the foreground, masked ones left out."""
    source = shades(2, 0.15, 0.8)
    bright = source.pow(0.8)
    grey = bright.mean(1, keepdim=True)
    target = grey + 1.2 * (bright - grey)
    weight = everywhere(source)
    weight[..., :20] = 0
    target[..., :20] = 0

    table = fit_lut(source, target, weight)

    error = (lookup(table, source) - target)[..., 20:].square().mean().sqrt()
    assert error < 0.1 / 255


def test_unseen_colours_move_smoothly():
    """No holes: from a tenth of the cube, all nodes follow, with small second differences."""
    source = shades(3, 0.3, 0.75)
    target = affine(source.pow(0.7))

    change = fit_lut(source, target, everywhere(source))[0] - identity_lut(17)

    far = affine(identity_lut(17)[None].pow(0.7))[0] - identity_lut(17)
    assert (change - far).abs().mean() < 0.03
    for axis in (1, 2, 3):
        assert change.diff(n=2, dim=axis).abs().max() < 0.01
    assert change.abs().amin(0)[0, 0, 0] > 0.01, "colours that do not occur stay as they were"


def test_noise_does_not_bend_the_table():
    """Pixels that disagree: what remains is their mean, not their noise."""
    source = shades(4, 0.4, 0.5)
    noise = 0.02 * torch.randn(source.shape, generator=torch.Generator().manual_seed(5))

    change = fit_lut(source, source + noise, everywhere(source))[0] - identity_lut(17)

    assert change.abs().max() < 0.05


def test_colours_out_of_range_count_as_those_at_the_edge():
    """As `lookup` reads them."""
    source = shades(10) * 1.2 - 0.1
    target = affine(source.clamp(0, 1))

    table = fit_lut(source, target, everywhere(source), 5)

    assert torch.equal(table, fit_lut(source.clamp(0, 1), target, everywhere(source), 5))
    np.testing.assert_allclose(lookup(table, source), target, atol=1e-3)


def test_pictures_of_a_batch_do_not_mix():
    source = torch.cat([shades(6), shades(7)])
    target = torch.cat([shades(6) * 0.5, affine(shades(7))])

    both = fit_lut(source, target, everywhere(source), 5)

    for i in range(2):
        one = slice(i, i + 1)
        single = fit_lut(source[one], target[one], everywhere(source[one]), 5)
        assert torch.equal(both[one], single)
    assert both.dtype == torch.float32


def test_it_is_quick():
    """A third of a CPU-second for 256 x 256 pixels, with room for a busy machine."""
    source = shades(8, edge=256)
    began = time.process_time()

    fit_lut(source, source.sqrt(), everywhere(source))

    assert time.process_time() - began < 1
