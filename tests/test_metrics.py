"""The metrics, against scikit-image, closed forms and the definitions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from hzcli.core.window import Size, bands
from hzcli.metrics import StreamedMetrics, measure


def triple(height: int, width: int, depths=(16, 8, 8), seed: int = 0):
    """A picture, a truth near to it and a soft mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    truth = np.stack([np.sin(y / 9 + c) * np.cos(x / 11 - c) / 3 + 0.5 for c in range(3)], -1)
    truth = truth + rng.normal(0, 0.04, truth.shape)
    picture = truth**1.3 + rng.normal(0, 0.02, truth.shape)
    mask = np.sin(y / 8) + np.sin(x / 7)
    return tuple(
        np.round(np.clip(values, 0, 1) * ((1 << depth) - 1)).astype(f"u{depth // 8}")
        for values, depth in zip((picture, truth, mask), depths, strict=True)
    )


def exact(codes: np.ndarray) -> np.ndarray:
    return codes.astype(np.float64) / (257 if codes.dtype == np.uint16 else 1)


def oracle_ssim(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(
        a,
        b,
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


@pytest.mark.parametrize("depths", [(16, 8, 8), (16, 16, 16), (8, 8, 16)])
@pytest.mark.parametrize("shape", [(11, 11), (12, 75), (141, 74), (300, 139)])
def test_standard_equals_scikit_image(shape, depths):
    picture, truth, mask = triple(*shape, depths)
    p, g = exact(picture), exact(truth)
    m = mask / np.iinfo(mask.dtype).max
    got = measure(picture, truth, mask)
    assert got["mse"] == pytest.approx(mean_squared_error(p, g), rel=1e-6)
    assert got["psnr"] == pytest.approx(peak_signal_noise_ratio(g, p, data_range=255), rel=1e-6)
    weighted = (m[..., None] * (p - g) ** 2).sum() / (3 * m.sum())
    assert got["fmse"] == pytest.approx(weighted, rel=1e-6)
    assert got["ssim"] == pytest.approx(oracle_ssim(p, g), abs=2e-6)


@pytest.mark.parametrize("shape", [(40, 75), (141, 74)])
def test_hinet_equals_its_definition(shape):
    picture, truth, mask = triple(*shape, (8, 8, 8))
    p, g, m = exact(picture), exact(truth), (mask / 255)[..., None]
    p = np.where(mask[..., None] > 100, p, g)
    mse = (m * (p - g) ** 2).mean()
    got = measure(picture, truth, mask, "hinet")
    assert got["mse"] == pytest.approx(mse, rel=1e-6)
    assert got["fmse"] == pytest.approx((m * (p - g) ** 2).sum() / (3 * m.sum() + 1e-6), rel=1e-6)
    assert got["psnr"] == pytest.approx(10 * math.log10(g.max() ** 2 / (mse + 1e-6)), rel=1e-6)
    assert got["ssim"] == pytest.approx(oracle_ssim(p * m + g * (1 - m), g), abs=2e-6)


def test_hinet_threshold_is_strictly_above_100():
    truth = np.zeros((12, 12, 3), np.uint8)
    picture = truth + 10
    for code, depth, counted in ((100, 8, False), (101, 8, True), (25700, 16, False)):
        mask = np.full((12, 12), code, np.uint8 if depth == 8 else np.uint16)
        assert (measure(picture, truth, mask, "hinet")["mse"] > 0) is counted


def test_ssim_of_bright_flat_pictures_is_that_of_the_formula():
    """Where variances vanish next to means: SSIM = (2ab + C1) / (a^2 + b^2 + C1)."""
    a, b = np.full((64, 64, 3), 250, np.uint8), np.full((64, 64, 3), 200, np.uint8)
    c1 = (0.01 * 255) ** 2
    formula = (2 * 250 * 200 + c1) / (250**2 + 200**2 + c1)
    got = measure(a, b, np.full((64, 64), 255, np.uint8))["ssim"]
    # Differences of squares near 15000 in float32 err by 0.001, against C2 = 58.5.
    assert got == pytest.approx(formula, abs=3e-5)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 150),
    st.integers(1, 90),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.sampled_from(["standard", "hinet"]),
)
def test_bands_give_the_figures_of_the_whole(height, width, heights, protocol):
    picture, truth, mask = triple(height, width)
    mask[0, 0] = 255
    streamed = StreamedMetrics(protocol)
    window_rows = sum(heights)
    for outer in bands(Size(height, width), window_rows):
        top = outer.top
        for rows in heights:
            bottom = min(top + rows, outer.bottom)
            if bottom > top:
                at = slice(top, bottom)
                window = type(outer)(top, bottom, 0, width, outer.size)
                streamed.update(picture[at], truth[at], mask[at], window)
            top = bottom
    got, whole = streamed.compute(), measure(picture, truth, mask, protocol)
    assert (got["ssim"] is None) == (min(height, width) < 11) == (whole["ssim"] is None)
    for name, value in whole.items():
        assert value is None or got[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_equal_pictures():
    picture, _, mask = triple(30, 30)
    got = measure(picture, picture, mask)
    assert got["mse"] == got["fmse"] == 0 and got["psnr"] == math.inf
    assert got["ssim"] == pytest.approx(1, abs=1e-6)
    assert measure(picture, picture, mask, "hinet")["psnr"] > 100


def test_8_and_16_bits_of_one_picture_are_equal():
    picture, truth, mask = triple(30, 30, (8, 8, 8))
    wide = picture.astype(np.uint16) * 257
    assert measure(wide, truth, mask) == measure(picture, truth, mask)


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (1, 1)])
def test_ssim_does_not_exist_where_its_window_does_not_fit(shape):
    got = measure(*triple(*shape))
    assert got["ssim"] is None and got["mse"] > 0


def test_bands_out_of_order_are_a_bug():
    picture, truth, mask = triple(20, 20)
    window = next(iter(bands(Size(40, 20), 20)))
    metrics = StreamedMetrics()
    metrics.update(picture, truth, mask, window)
    with pytest.raises(AssertionError):
        metrics.update(picture, truth, mask, window)
    with pytest.raises(AssertionError):
        metrics.compute()
