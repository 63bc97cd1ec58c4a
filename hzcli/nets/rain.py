"""RAIN, region-aware adaptive instance normalisation, whole and in rows.

Paper: Ling, Xue, Song, Xie, Gu, Region-aware Adaptive Instance Normalization for Image
    Harmonization, CVPR 2021, arXiv 2106.02853. Authors' code: github.com/junleen/RainNet, MIT;
    this file is written from the paper and from measurements, not from that code.
As published, and kept: the background is standardised by its own statistics, but the foreground
is given the background's raw mean and deviation, and only then scaled and shifted.

All of it is one affine map a region and channel, y = a_r x + b_r, so that only sums over the
regions need the whole picture. `moments` takes these sums from any part of a picture; parts add
up. `Rain` is the layer. `rain_` does the same in rows, on tensors in channels_last memory, where
rows lie together and a slice of rows is no copy.

Letters: B batch, C channels, N pixels, r region: 0 foreground (weight m), 1 background (1 - m).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5
# Floats of a row block: 4 MiB, so that the passes over it find it in the cache.
BLOCK = 1 << 20


def rows_of(x: Tensor, blocks: int = 1) -> Iterator[slice]:
    """Slices of rows of (B, C, H, W) that hold about `blocks` x BLOCK floats, top to bottom."""
    height = x.shape[2]
    step = max(1, blocks * BLOCK * height // max(x.numel(), 1))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def wide(x: Tensor) -> Tensor:
    """In float64, for long sums; Apple's graphics processors have none."""
    return x if x.device.type == "mps" else x.double()


@dataclass(frozen=True)
class Moments:
    """Sums over the regions, of d = x - shift: (B, C, 2), counts (B, 1, 2); last axis r.

    first: sum of r d. first_sq: sum of r^2 d. second: sum of r^2 d^2. count: sum of r.
    count_sq: sum of r^2. Squares, since the published deviation weighs each pixel's difference
    before it squares it; for a mask of 0 and 1 they change nothing.
    """

    shift: Tensor  # (B, C, 1)
    first: Tensor
    first_sq: Tensor
    second: Tensor
    count: Tensor
    count_sq: Tensor

    def __add__(self, other: Moments) -> Moments:
        """Of two parts of a picture; both must have the same shift."""
        return Moments(
            self.shift,
            self.first + other.first,
            self.first_sq + other.first_sq,
            self.second + other.second,
            self.count + other.count,
            self.count_sq + other.count_sq,
        )

    def wide(self) -> Moments:
        return Moments(**{name: wide(value) for name, value in vars(self).items()})


def moments(x: Tensor, mask: Tensor, shift: Tensor) -> Moments:
    """The sums behind RAIN.

    Args:
        x: (B, C, N). mask: (B, 1, N), [0, 1].
        shift: (B, C, 1), near the mean of each channel: the sums are of x - shift, or small
            deviations about a large mean would drown in rounding.
    """
    weights = torch.cat([mask, 1 - mask], 1).to(x)  # (B, 2, N)
    squares = weights.square()
    d = x - shift
    first = d @ weights.mT
    binary = torch.equal(weights, squares)
    return Moments(
        shift=shift,
        first=first,
        first_sq=first if binary else d @ squares.mT,
        second=d.square() @ squares.mT,
        count=weights.sum(2, keepdim=True).mT,
        count_sq=squares.sum(2, keepdim=True).mT,
    )


@dataclass(frozen=True)
class RegionAffine:
    """y = scale_r x + offset_r, (B, C, 2) each, blended by the mask."""

    scale: Tensor
    offset: Tensor

    def apply(self, x: Tensor, mask: Tensor) -> Tensor:
        """Of (B, C, N), with mask (B, 1, N)."""
        scale_f, scale_b = self.scale.split(1, 2)
        offset_f, offset_b = self.offset.split(1, 2)
        scale = scale_b + mask * (scale_f - scale_b)
        return torch.addcmul(offset_b + mask * (offset_f - offset_b), x, scale)

    def apply_(self, x: Tensor, mask: Tensor) -> Tensor:
        """The same of (1, C, h, w), in place, without gradients."""
        low, high = (float(value) for value in mask.aminmax())
        if low == high and low in (0.0, 1.0):  # one region: no maps of numbers to make
            r = 0 if low == 1 else 1
            scale, offset = (t[:, :, r, None, None].to(x) for t in (self.scale, self.offset))
            return torch.addcmul(offset, x, scale, out=x)
        y = self.apply(x.flatten(2), mask.flatten(2)).unflatten(2, x.shape[2:])
        return x.copy_(y)

    def total(self, sums: Moments) -> Tensor:
        """Sum of y over the picture, (B, C), from the sums of x."""
        x = sums.first + sums.shift * sums.count
        return (self.scale * x + self.offset * sums.count).sum(2)


class Rain(nn.Module):
    """The layer, under its published parameter names; gammas are offsets from 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.foreground_gamma = nn.Parameter(torch.zeros(channels))
        self.foreground_beta = nn.Parameter(torch.zeros(channels))
        self.background_gamma = nn.Parameter(torch.zeros(channels))
        self.background_beta = nn.Parameter(torch.zeros(channels))

    def affine(self, sums: Moments) -> RegionAffine:
        """What the layer does to a picture with these sums.

        An empty region has mean 0 and deviation sqrt(EPS), as published.
        """
        count = sums.count + EPS
        shift = sums.shift
        delta = (sums.first - shift * EPS) / count  # mean - shift
        squares = sums.second - 2 * delta * sums.first_sq + delta.square() * sums.count_sq
        deviation = ((squares / count).clamp(min=0) + EPS).sqrt()
        (mean_f, mean_b), (dev_f, dev_b) = (t.unbind(2) for t in (delta + shift, deviation))
        gamma_f, gamma_b = 1 + self.foreground_gamma, 1 + self.background_gamma
        scale_f = gamma_f * dev_b / dev_f
        scale_b = gamma_b / dev_b
        offset_f = gamma_f * mean_b - scale_f * mean_f + self.foreground_beta
        offset_b = self.background_beta - scale_b * mean_b
        return RegionAffine(
            torch.stack([scale_f, scale_b], 2), torch.stack([offset_f, offset_b], 2)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, C, H, W) with the mask at the same size, (B, 1, H, W)."""
        flat, m = x.flatten(2), mask.flatten(2)
        sums = moments(flat, m, flat.mean(2, keepdim=True).detach())
        return self.affine(sums).apply(flat, m).unflatten(2, x.shape[2:])


# --- In rows, without gradients ---------------------------------------------------------------


def region_moments(blocks: Iterable[tuple[Tensor, Tensor]]) -> Moments:
    """`moments` of a picture in blocks (1, C, h, w) with their masks, added up in float64."""
    total: Moments | None = None
    shift: Tensor | None = None
    for x, mask in blocks:
        flat = x.flatten(2)
        if shift is None:
            shift = flat.mean(2, keepdim=True)
        part = moments(flat, mask.flatten(2), shift).wide()
        total = part if total is None else total + part
    assert total is not None
    return total


def affine_of(blocks: Iterable[tuple[Tensor, Tensor]], norm: Rain) -> tuple[RegionAffine, Tensor]:
    """What RAIN does to a picture in blocks, float32, and its result's sum over the picture."""
    sums = region_moments(blocks)
    affine = norm.affine(sums)
    return RegionAffine(affine.scale.float(), affine.offset.float()), affine.total(sums).float()


def in_blocks(x: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of rows of (1, C, H, W), and of its mask."""
    for rows in rows_of(x):
        yield x[:, :, rows], mask[:, :, rows]


def rain_(x: Tensor, mask: Tensor, norm: Rain) -> Tensor:
    """RAIN of (1, C, H, W) in place."""
    affine, _ = affine_of(in_blocks(x, mask), norm)
    for block, part in in_blocks(x, mask):
        affine.apply_(block, part)
    return x


def instance_norm_(x: Tensor, leak: float) -> Tensor:
    """Instance normalisation and LeakyReLU of (1, C, H, W), in place."""
    shift = x[:, :, :1].mean((2, 3), keepdim=True)
    first = second = wide(torch.zeros((), device=x.device))
    for rows in rows_of(x):
        d = x[:, :, rows] - shift
        first = first + wide(d.sum((2, 3), keepdim=True))
        second = second + wide(d.square_().sum((2, 3), keepdim=True))
    pixels = x.shape[2] * x.shape[3]
    mean = first / pixels
    scale = ((second / pixels - mean.square()).clamp(min=0) + EPS).rsqrt()
    offset = -(mean + shift) * scale
    scale, offset = scale.to(x.dtype), offset.to(x.dtype)
    for rows in rows_of(x):
        part = x[:, :, rows]
        F.leaky_relu_(torch.addcmul(offset, part, scale, out=part), leak)
    return x
