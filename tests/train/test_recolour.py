"""Recolourings against outside oracles: scikit-image, OpenCV, closed forms, NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hzcli.train import recolour


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def _picture(seed: int = 0, n: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, 24, 30, generator=torch.Generator().manual_seed(seed))


def _points(mean: list[float], spread: float, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 3, 4000, generator=g) * spread
    return (torch.tensor(mean).view(1, 3, 1) + noise).clamp(0.01, 0.99)


def _skimage():
    return pytest.importorskip("skimage.color", reason="oracle: scikit-image")


def test_lab_against_scikit_image():
    x = _picture()
    expected = _skimage().rgb2lab(x[0].permute(1, 2, 0).double().numpy())
    actual = recolour.rgb_to_lab(x)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(actual, expected, atol=0.02)
    np.testing.assert_allclose(recolour.lab_to_rgb(recolour.rgb_to_lab(x)), x, atol=1e-4)


def test_ycc_against_opencv():
    cv2 = pytest.importorskip("cv2", reason="oracle: OpenCV")
    x = _picture(1)
    rgb = np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
    y, cr, cb = np.moveaxis(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb), -1, 0)
    actual = recolour.rgb_to_ycc(x)[0].numpy()
    np.testing.assert_allclose(actual[0], y, atol=1e-3)
    np.testing.assert_allclose(actual[1], cb - 0.5, atol=1e-3)
    np.testing.assert_allclose(actual[2], cr - 0.5, atol=1e-3)
    np.testing.assert_allclose(recolour.ycc_to_rgb(recolour.rgb_to_ycc(x)), x, atol=1e-5)


def test_exposure_is_a_gain_in_linear_light():
    """One stop doubles linear light (IEC 61966-2-1 written out in float64)."""
    x = _picture(2)
    out = recolour.exposure(x, torch.tensor([1.0]), torch.ones(1, 3)).double().numpy()
    v = x.double().numpy()
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) * 2
    expected = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_contrast_keeps_black_white_and_pivot_and_has_the_stated_slope():
    amount, pivot = torch.tensor([0.4]), torch.tensor([0.4])
    x = torch.tensor([0.0, 0.4, 1.0, 0.4001, 0.3999]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    y = recolour.contrast(x, amount, pivot)[0, 0, 0]
    np.testing.assert_allclose(y[:3], [0.0, 0.4, 1.0], atol=1e-6)
    slope = float(y[3] - y[4]) / 0.0002
    assert slope == pytest.approx(float(amount.exp()), rel=0.01)


def test_saturation_zero_is_grey_and_one_is_nothing():
    x = _picture(3)
    grey = recolour.saturation(x, torch.zeros(1))
    assert (grey.amax(1) - grey.amin(1)).max() < 1e-6
    np.testing.assert_allclose(recolour.saturation(x, torch.ones(1)), x, atol=1e-6)


def test_levels_map_black_and_white():
    black, white = torch.full((1, 3), 0.1), torch.full((1, 3), 0.9)
    x = torch.tensor([0.1, 0.5, 0.9]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    np.testing.assert_allclose(recolour.levels(x, black, white)[0, 0, 0], [0, 0.5, 1], atol=1e-6)


def test_reinhard_gives_the_targets_lab_statistics():
    """Mean and deviation in Lab equal the target's, measured by scikit-image."""
    rgb2lab = _skimage().rgb2lab
    source, target = _points([0.5, 0.4, 0.3], 0.05, 0), _points([0.4, 0.5, 0.6], 0.04, 1)
    moved = recolour.reinhard(source.unsqueeze(-1), source, target)[0, :, :, 0].numpy()
    actual, wanted = rgb2lab(moved.T[None])[0], rgb2lab(target[0].numpy().T[None])[0]
    np.testing.assert_allclose(actual.mean(0), wanted.mean(0), atol=0.1)
    np.testing.assert_allclose(actual.std(0), wanted.std(0), rtol=0.01)


def test_xiao_gives_the_targets_covariance():
    g = np.random.default_rng(0)
    mixing = torch.tensor([[1.0, 0.3, 0.1], [0.0, 0.8, 0.2], [0.0, 0.0, 0.5]])
    noise = torch.from_numpy(g.normal(size=(1, 3, 4000))).float() * 0.1
    source, target = 0.5 + mixing @ noise, 0.4 + mixing.T @ noise.flip(1) * 0.7
    moved = recolour.xiao(source.unsqueeze(-1), source, target)[0, :, :, 0].numpy()
    np.testing.assert_allclose(moved.mean(1), target[0].mean(1), atol=1e-3)
    np.testing.assert_allclose(np.cov(moved), np.cov(target[0].numpy()), atol=1e-4)


def test_histogram_matching_against_scikit_image():
    """One channel at a time the result is that of exposure.match_histograms."""
    exposure = pytest.importorskip("skimage.exposure", reason="oracle: scikit-image")
    rng = np.random.default_rng(2)
    source, target = rng.beta(2, 5, 6000), rng.beta(5, 3, 6000)
    expected = exposure.match_histograms(source[None], target[None])[0]
    rows = [torch.from_numpy(v[None]).float() for v in (source, source, target)]
    actual = recolour.match_quantiles(*rows)[0].numpy()
    inner = (source > np.quantile(source, 0.02)) & (source < np.quantile(source, 0.98))
    np.testing.assert_allclose(actual[inner], expected[inner], atol=0.01)


def test_quantile_map_is_monotone_and_keeps_going_outside():
    rows = torch.rand(2, 300), torch.rand(2, 300) * 0.5 + 0.3
    x = torch.linspace(-0.5, 1.5, 200).expand(2, 200)
    y = recolour.match_quantiles(x, *rows)
    assert (y.diff(dim=1) >= -1e-6).all()
    assert y[0, -1] > y[0, -20]


def test_distribution_transfer_approaches_the_target(generator):
    """Every random projection's quantiles come near the target's (Pitie's criterion)."""
    source, target = _points([0.6, 0.3, 0.3], 0.08, 3), _points([0.3, 0.5, 0.6], 0.12, 4)
    moved = recolour.distribution(source.unsqueeze(-1), source, target, generator)[0, :, :, 0]
    axes = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    levels = np.linspace(0.05, 0.95, 19)
    before = np.quantile(axes @ source[0].numpy(), levels, axis=1)
    after = np.quantile(axes @ moved.numpy(), levels, axis=1)
    wanted = np.quantile(axes @ target[0].numpy(), levels, axis=1)
    assert np.abs(after - wanted).max() < 0.1 * np.abs(before - wanted).max()


def test_retouch_of_strength_zero_changes_nothing_but_highlights(generator):
    x = _picture(6, 8) * 0.85
    out = recolour.retouch(x, generator, torch.zeros(8))
    np.testing.assert_allclose(out, x, atol=1e-4)


def test_transfer_dispatches_by_kind(generator):
    x = _picture(7, 4)
    source, target = x.flatten(2), _picture(8, 4).flatten(2) * 0.5 + 0.2
    kinds = torch.arange(4)
    out = recolour.transfer(x, source, target, kinds, generator)
    np.testing.assert_allclose(out[:1], recolour.reinhard(x[:1], source[:1], target[:1]), atol=1e-5)
    np.testing.assert_allclose(out[1:2], recolour.xiao(x[1:2], source[1:2], target[1:2]), atol=1e-5)
    assert torch.isfinite(out).all()


def test_sample_region_takes_only_masked_pixels(generator):
    x = torch.zeros(1, 3, 8, 8)
    x[..., :4] = 1
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    assert (recolour.sample_region(x, mask, 200, generator) == 1).all()
