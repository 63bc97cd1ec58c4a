"""Position features of HINet's blocks on a processor.

A linear layer may be applied before interpolation. 1, y, x and the sines of a block are polynomials
to the last bit, for it is a small part of a wave: they are taken at Chebyshev's places, the layer
is applied there, and one matrix product with what all blocks of a size have between their places
gives every pixel. The table's features are linear between its nodes.

Letters: m rows, k columns of blocks, (p, q) pixels of a block, (a, b) places down and across,
F = 3 + waves smooth features, T features of the table.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hzcli.nets import cells
from hzcli.nets.cells import Stretch

if TYPE_CHECKING:
    from hzcli.nets.local_mlp import Level

ERROR = 2**-27  # of an interpolated sine


class Places:
    """Position features of one level."""

    def __init__(self, level: Level) -> None:
        model = level.model
        self.level = level
        self.waves = model.waves.shape[1]
        self.smooth = 3 + self.waves
        # What the phase of each wave grows by from pixel to pixel, and what it is at pixel 0.
        steps = [(wave * (2 / n)).double() for wave, n in zip(model.waves, level.size, strict=True)]
        starts = [0.5 * step - wave for step, wave in zip(steps, model.waves, strict=True)]
        self._phases = (steps[0], starts[0] + model.phases), (steps[1], starts[1])
        table = model.table[0]
        (down, heights), (along, self._hats) = (
            cells.hats((axis.place + 1) / 2 * nodes - 0.5, nodes)
            for axis, nodes in zip((level.y, level.x), table.shape[1:], strict=True)
        )
        self.lines = heights @ table[:, down, along]  # (T, h, nodes across)
        self._rows: dict[Stretch, Tensor] = {}
        self._columns: dict[Stretch, tuple[Tensor, Tensor, Tensor]] = {}
        self._parts: dict[Stretch, tuple[Tensor, Tensor, Tensor]] = {}

    def down(self, rows: Stretch) -> Tensor:
        """Factors of 1, y, x and the sines in a row of blocks: (2 waves + 2, a F)."""
        whole = self.level.whole(0, rows)
        if whole not in self._rows:
            self._rows[whole] = self._down(whole)
        return self._rows[whole][rows.first - whole.first]

    def across(self, columns: Stretch) -> tuple[Tensor, Tensor, Tensor]:
        """Of columns of blocks: factors at places (k b, 2 waves + 2); which nodes of the table each
        reads, k times so many; and those nodes' hats over its pixels, (k, nodes, q)."""
        if columns not in self._parts:
            whole = self.level.whole(1, columns)
            if whole not in self._columns:
                self._columns[whole] = self._across(whole)
            begin = columns.first - whole.first
            factors, index, hats = (t[begin : begin + columns.count] for t in self._columns[whole])
            self._parts[columns] = factors.flatten(0, 1), index.flatten(), hats
        return self._parts[columns]

    def _places(self, axis: int, size: int) -> Tensor:
        return chebyshev(size, places(size, float(self._phases[axis][0].abs().max())))[0]

    def _down(self, rows: Stretch) -> Tensor:
        """Factors of rows of blocks: (m, 2 waves + 2, a F)."""
        y, angle = self._angles(0, rows)
        waves = self.waves
        found = angle.new_zeros(*y.shape, self.smooth, 2 * waves + 2)  # (m, a, F, J)
        found[..., 0, -1] = found[..., 2, -2] = 1
        found[..., 1, -1] = y
        found[..., 3:, :waves].diagonal(dim1=2, dim2=3).copy_(angle.sin())
        found[..., 3:, waves : 2 * waves].diagonal(dim1=2, dim2=3).copy_(angle.cos())
        return found.flatten(1, 2).mT.float().contiguous()

    def _across(self, columns: Stretch) -> tuple[Tensor, Tensor, Tensor]:
        """What `across` gives, (k, b, 2 waves + 2), (k, nodes) and (k, nodes, q)."""
        x, angle = self._angles(1, columns)
        one = torch.ones_like(x)[..., None]
        factors = torch.cat([angle.cos(), angle.sin(), x[..., None], one], 2).float()
        hats = self._hats[columns.inside(self.level.left)].unflatten(0, (columns.count, -1))
        # From the first to the last: where nodes are dense, pixels pass some over.
        read = (hats > 0).any(1).byte()  # (k, nodes)
        first, after = read.argmax(1), read.shape[1] - read.flip(1).argmax(1)
        count = int((after - first).max())
        first = first.clamp(max=read.shape[1] - count)
        index = first[:, None] + torch.arange(count)
        weights = hats.gather(2, index[:, None].expand(-1, columns.size, -1)).mT.contiguous()
        return factors, index, weights

    def _angles(self, axis: int, stretch: Stretch) -> tuple[Tensor, Tensor]:
        """Coordinates (count, places) and the waves' share of phases (count, places, waves)."""
        places = self._places(axis, stretch.size)
        pixel = stretch.start + torch.arange(stretch.count)[:, None] * stretch.size + places
        step, start = self._phases[axis]
        return (pixel + 0.5) * (2 / self.level.size[axis]) - 1, pixel[..., None] * step + start


def places(size: int, phase: float) -> int:
    """How many places interpolate a sine over `size` pixels, a pixel of which is `phase` of it, to
    within `ERROR`: with c of Chebyshev's places, and half the pixels' phase h, the error is at
    most 2 (h / 2)^c / c!. No more than there are pixels, and two for what is linear."""
    half, count = phase * (size - 1) / 2, 2
    while count < size and 2 * (half / 2) ** count / math.factorial(count) > ERROR:
        count += 1
    return min(count, size)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is kept must serve outside it too
def chebyshev(size: int, count: int) -> tuple[Tensor, Tensor]:
    """The roots of Chebyshev's polynomial among `size` pixels, and the polynomials that are 1 at
    one of them, 0 at others; where they are as many as the pixels, the pixels themselves.

    Returns:
        Places (count,) in pixels from the first, and (count, size), both float64.
    """
    pixels = torch.arange(size, dtype=torch.float64)
    if count >= size:
        return pixels, torch.eye(size, dtype=torch.float64)
    half = (size - 1) / 2
    order = torch.arange(count, dtype=torch.float64)
    found = half - half * torch.cos((order + 0.5) * (math.pi / count))
    itself = torch.eye(count, dtype=torch.bool)
    gaps = (found[:, None] - found).masked_fill(itself, 1)
    factors = (pixels - found[:, None]).expand(count, -1, -1).masked_fill(itself[..., None], 1)
    return found, factors.prod(1) / gaps.prod(1)[:, None]


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def kronecker(size: tuple[int, int], counts: tuple[int, int]) -> Tensor:
    """Products of the polynomials of two axes, across and down: (b a, height width), float32."""
    xs, ys = (chebyshev(*axis)[1] for axis in zip(size, counts, strict=True))
    return (xs[:, None, None] * ys[None, :, :, None]).flatten(2).flatten(0, 1).float()
