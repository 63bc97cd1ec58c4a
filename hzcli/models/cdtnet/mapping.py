"""CDTNet's RGB-to-RGB transformation (arXiv 2109.06671, Sec. 3.2): tables, and how they are mixed.

`pooling` and `legacy_layout`: see as_published.py.

Letters: B pictures, N tables of n nodes a side, C channels of F_enc, L of the pooled features.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.core.lut import identity_lut, lookup

# The authors' tables span a little more than [0, 1], so that 1.0 has a node above it.
SPAN = 1.000001
SOFT = 0.1  # of the tables' polynomials, and of what their weights start from

Pooling = Literal["whole", "area"]


class _Table(nn.Module):
    """A basis transformation Phi_n: (3, n, n, n), indexed [channel][b][g][r]."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.LUT = nn.Parameter(values)


class WeightPredictor(nn.Module):
    """F_enc and mask to the coefficients {w_n}."""

    def __init__(self, channels: int, pooled: int, luts: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, pooled, 1)
        self.fc = nn.Conv2d(2 * pooled, luts, 1)
        nn.init.xavier_uniform_(self.conv.weight, SOFT)  # the identity's coefficient moves gently
        nn.init.zeros_(self.fc.weight)
        with torch.no_grad():  # w = (1, 0, 0, ...): the first table is the identity
            self.fc.bias.zero_()  # type: ignore[union-attr]
            self.fc.bias[:1] = 1  # type: ignore[index]

    def forward(self, features: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
        """F_enc (B, C, h, w) and the mask at its size (B, 1, h, w) to w (B, N)."""
        # All is linear: features are pooled before the convolution, at a fraction of its cost.
        flat, m = features.flatten(2), mask.flatten(2)
        pooled, bias = [], self.conv.bias
        assert bias is not None
        for side in (m, 1 - m):  # foreground f_f, background f_b
            mean, area = (flat @ side.mT).squeeze(2) / flat.shape[2], side.mean(2)
            if pooling == "area":
                mean, area = mean / area.clamp_min(1e-6), torch.ones_like(area)
            pooled.append(F.linear(mean, self.conv.weight.flatten(1)) + area * bias)
        f = torch.cat(pooled, 1)  # f = f_f o f_b
        return F.linear(f, self.fc.weight.flatten(1), self.fc.bias)


class ColourMapping(nn.Module):
    """Basis LUTs and the predictor of their weights."""

    def __init__(self, channels: int, pooled: int, luts: int, size: int) -> None:
        super().__init__()
        for n, values in enumerate(_basis(luts, size)):
            self.add_module(f"LUT{n}", _Table(values))
        self.classifier = WeightPredictor(channels, pooled, luts)

    def combine(self, w: Tensor) -> Tensor:
        """sum_n w_n Phi_n of eq. (1): w (B, N) to (B, 3, n, n, n), [channel][r][g][b]."""
        tables: list[Tensor] = [self.get_parameter(f"LUT{n}.LUT") for n in range(w.shape[1])]
        mixed = w @ torch.stack(tables).flatten(1)
        return mixed.unflatten(1, tables[0].shape).permute(0, 1, 4, 3, 2)


def _basis(count: int, size: int) -> list[Tensor]:
    """Tables to start from: the identity, then polynomials of r, g, b up to degree two.

    Each moves one output channel; degrees rise. Random numbers when there are more tables than
    polynomials. None is 0: a table of zeros whose coefficient is 0 would never learn.
    """
    r, g, b = identity_lut(size)
    if r.is_meta:  # weights are about to be loaded
        return [torch.empty(3, size, size, size) for _ in range(count)]
    one = torch.ones_like(r)
    x, y, z = 2 * r - 1, 2 * g - 1, 2 * b - 1
    first, second = (x, y, z), (x * y, y * z, z * x, x * x - 1, y * y - 1, z * z - 1)
    tables = [torch.stack([r, g, b])]
    for polynomial in (one, *first, *second):
        for channel in range(3):
            table = torch.zeros(3, size, size, size)
            table[channel] = SOFT * polynomial
            tables.append(table)
    tables += [SOFT * (2 * torch.rand(3, size, size, size) - 1) for _ in range(count - len(tables))]
    return [table.permute(0, 3, 2, 1).contiguous() for table in tables[:count]]


def look_up(lut: Tensor, rgb: Tensor, legacy_layout: bool = False) -> Tensor:
    """Phi(I) of eq. (1), as the authors' operator places the nodes: at k * SPAN / (n - 1).

    Args:
        lut: (B, 3, n, n, n), [channel][r][g][b]. rgb: (B, 3, H, W), [0, 1].
        legacy_layout: see the head of this file; one table for all pictures then.
    """
    if not legacy_layout:
        return lookup(lut, rgb / SPAN)
    planes = rgb.reshape(3, len(rgb), *rgb.shape[2:]).transpose(0, 1)  # as (3, B, H, W)
    return lookup(lut, planes / SPAN).transpose(0, 1).reshape(rgb.shape)


def on_nodes(lut: Tensor) -> Tensor:
    """The same table with its nodes at k / (n - 1), where Lut3D has them."""
    n = lut.shape[-1]
    nodes = identity_lut(n, device=lut.device).to(lut).flatten(2)  # (3, n, n * n)
    return lookup(lut, nodes.expand(len(lut), -1, -1, -1) / SPAN).view(lut.shape)
