"""Losses of harmonisation, a value a picture. Pictures (B, 3, h, w) in [0, 1], masks (B, 1, h, w)."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_AREA = 60.0  # pixels: a smaller foreground counts as if it had this many


def foreground_mse(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Squared error inside the mask over its area, (B,); foreground-normalised MSE of iDIH
    (Sofiiuk et al., arXiv 2006.00809) with the error weighted by the soft mask."""
    error = ((prediction - truth).square() * mask).sum((1, 2, 3))
    return error / (3 * mask.sum((1, 2, 3)).clamp_min(LEAST_AREA))


def relative(error: Tensor, before: Tensor, floor: float = 0.01) -> Tensor:
    """One number to minimise from errors after and before, (B,) each.

    Each picture's error relative to doing nothing, so that hopeless composites do not rule
    the batch; the floor (650 on the 255 scale) keeps subtle ones from ruling it instead.
    Beyond doing nothing the gradient is that of the root.
    """
    ratio = error / (before + floor)
    return torch.where(ratio > 1, 2 * ratio.clamp_min(1).sqrt() - 1, ratio).mean()


def lut_range(lut: Tensor) -> Tensor:
    """Mean square of the table entries' excess over [0, 1] (HINet, eq. of L_reg)."""
    return (lut.clamp(0, 1) - lut).square().mean()
