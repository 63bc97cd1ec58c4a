"""Affine colour maps: a 3x4 matrix a place, from a coarse grid, for every pixel of a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hzcli.core.sampling import Mode, places, resample, taps
from hzcli.core.transform import Reach
from hzcli.core.window import Window

STRIP = 8192  # pixels whose twelve maps, as float32, stay in a processor's cache


def as_maps(matrix: Tensor, offset: Tensor) -> Tensor:
    """Matrices and offsets in the channel order of `AffineMap`.

    Args:
        matrix: (B, 3, 3, gh, gw), [out][in]. offset: (B, 3, gh, gw).

    Returns:
        (B, 12, gh, gw).
    """
    return torch.cat([matrix, offset.unsqueeze(2)], 2).flatten(1, 2)


def recolour(maps: Tensor, rgb: Tensor) -> Tensor:
    """Each pixel through its own matrix: out_c = sum_k A_ck rgb_k + A_c3.

    Args:
        maps: (B, 12, h, w), channels viewed as (3, 4).
        rgb: (B, 3, h, w), in the space that the maps were made for.

    Returns:
        (B, 3, h, w); not clamped.
    """
    rows = maps.unflatten(1, (3, 4))  # (B, 3 out, 4, h, w)
    out = rows[:, :, 3]
    for k in range(3):
        out = torch.addcmul(out, rows[:, :, k], rgb[:, k : k + 1])
    return out


def strips(
    maps: Tensor, window: Window, *, align_corners: bool, mode: Mode
) -> Iterator[tuple[slice, Tensor]]:
    """Maps enlarged to a window's pixels, a few rows at a time, top to bottom.

    What is done with a strip finds it in the processor's cache. Rows between the same cells
    share all but their weights, so that most of the work is products with whole rows.

    Args:
        maps: (B, C, gh, gw), of the whole picture. align_corners, mode: as for F.interpolate.

    Yields:
        Rows of the window, and the maps there (B, C, rows, w): the same bits whatever the window.
    """
    size, cells = window.size, maps.shape[2]
    place = places(window.top, window.bottom, size.height, cells, align_corners=align_corners)
    index, weight = taps(place, cells, mode)
    weight = weight.to(maps).unsqueeze(-1)  # (T, h, 1)
    first = int(index.min())
    columns = resample(
        maps[:, :, first : int(index.max()) + 1],
        -1,
        (window.left, window.right),
        size.width,
        align_corners=align_corners,
        mode=mode,
    )  # (B, C, cells that are read, w)
    most = max(1, STRIP // (len(maps) * window.width))
    runs, lengths = torch.unique_consecutive(index - first, dim=1, return_counts=True)
    top = 0
    for cell, length in zip(runs.T.tolist(), lengths.tolist(), strict=True):
        for start in range(top, top + length, most):
            rows = slice(start, min(start + most, top + length))
            here = weight[0, rows] * columns[:, :, cell[0], None]
            for k in range(1, len(cell)):
                here = torch.addcmul(here, weight[k, rows], columns[:, :, cell[k], None])
            yield rows, here
        top += length


@dataclass(frozen=True)
class AffineMap:
    """A recolouring by position: 3x4 matrices on a grid, interpolated at each pixel.

    maps: (B, 12, gh, gw), channels viewed as (3, 4): three columns of the matrix, then the
        offset; for colours in [0, 1]. The grid covers the whole picture.
    mode, align_corners: as torch.nn.functional.interpolate would enlarge the grid.
    """

    maps: Tensor
    mode: Mode = "bilinear"
    align_corners: bool = False

    @property
    def reach(self) -> Reach:
        # The result twice, as strips and joined, and the maps, enlarged in width alone: less than
        # this for pictures that are much larger than the grid.
        return Reach(bytes_per_pixel=2 * 3 * 4 + 56)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        del mask
        parts = strips(self.maps, window, align_corners=self.align_corners, mode=self.mode)
        return torch.cat([recolour(maps, rgb[:, :, rows]) for rows, maps in parts], 2)
