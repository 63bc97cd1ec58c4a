"""Losses of harmonisation, a value a picture.

Pictures (B, 3, h, w) in [0, 1], masks (B, 1, h, w).
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_AREA = 60.0  # pixels: a smaller foreground counts as if it had this many


def foreground_mse(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Squared error inside the mask over its area, (B,); foreground-normalised MSE of iDIH
    (Sofiiuk et al., arXiv 2006.00809) with the error weighted by the soft mask."""
    error = ((prediction - truth).square() * mask).sum((1, 2, 3))
    return error / (3 * mask.sum((1, 2, 3)).clamp_min(LEAST_AREA))


def foreground_normalised(prediction: Tensor, truth: Tensor, mask: Tensor, least: float) -> Tensor:
    """Squared error over the whole picture by three times the foreground's area, (B,).

    As iDIH, CDTNet, AICT, HDNet and HINet have it: the numerator is not masked, and an area
    below `least` pixels counts as `least` (A_min).
    """
    error = (prediction - truth).square().sum((1, 2, 3))
    return error / (3 * mask.sum((1, 2, 3)).clamp_min(least))


def relative_l1(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """S2CRNet's eq. 5: absolute error inside the mask by the mask's area, summed over the
    channels, a mean over pictures. An empty mask counts as one pixel."""
    error = ((prediction - truth).abs() * mask).sum((1, 2, 3))
    return (error / mask.sum((1, 2, 3)).clamp_min(1)).mean()


def violations(lut: Tensor) -> Tensor:
    """HINet's L_reg: mean square of the entries below 0, and of the excess of those above 1,
    each over the entries concerned."""
    low, high = lut[lut < 0], lut[lut > 1] - 1
    return sum(  # type: ignore[return-value]
        (part.square().mean() for part in (low, high) if part.numel()), lut.new_zeros(())
    )


def relative(error: Tensor, before: Tensor, floor: float = 0.01) -> Tensor:
    """Each picture's error relative to doing nothing, as a mean.

    The floor (650 on the 255 scale) keeps subtle composites from ruling the batch. Beyond
    doing nothing the gradient is that of the root.
    """
    return _rooted(error / (before + floor), 1.0).mean()


def balanced(error: Tensor, before: Tensor) -> Tensor:
    """One number to minimise from errors after and before, (B,) each.

    Mostly the error itself, as the field's metric is a mean of errors: large simple faults
    teach first. Partly the relative one, so that subtle composites are not made worse.
    """
    return _rooted(error, 0.12).mean() / 0.025 + 0.25 * relative(error, before)


def _rooted(error: Tensor, knee: float) -> Tensor:
    """The error up to the knee; above it, with the root's gradient, so that one hopeless
    picture does not rule a batch."""
    return torch.where(error > knee, 2 * (error.clamp_min(knee) * knee).sqrt() - knee, error)


def lut_range(lut: Tensor) -> Tensor:
    """Mean square of the table entries' excess over [0, 1] (HINet, eq. of L_reg)."""
    return (lut.clamp(0, 1) - lut).square().mean()
