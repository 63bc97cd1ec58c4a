"""Affine colour maps: a 3x4 matrix a place, from a coarse grid, for every pixel of a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from hzcli.core.sampling import Mode, places, resample, taps
from hzcli.core.transform import Reach
from hzcli.core.window import Window

# Rows and columns whose colours and results stay in a processor's cache, and so do the columns'
# maps from row to row.
TILE = 16, 4096


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
        maps: (B, 12, h or 1, w), channels viewed as (3, 4).
        rgb: (B, 3, h, w), in the space that the maps were made for.

    Returns:
        (B, 3, h, w); not clamped.
    """
    rows = maps.unflatten(1, (3, 4))  # (B, 3 out, 4, h, w)
    out = torch.addcmul(rows[:, :, 3], rows[:, :, 0], rgb[:, :1])
    for k in (1, 2):
        # In place where nobody learns: fresh memory costs more than the sum.
        into = None if torch.is_grad_enabled() else out
        out = torch.addcmul(out, rows[:, :, k], rgb[:, k : k + 1], out=into)
    return out


@dataclass(frozen=True)
class Tile:
    """Pixels of a window that lie between the same rows of a grid of maps.

    rows, columns: which pixels of the window. maps: for each of T taps, what the maps are there
        on that row of the grid, (B, C, 1, w). weights: (T, h, 1), of the taps in each row.
    """

    rows: slice
    columns: slice
    maps: tuple[Tensor, ...]
    weights: Tensor

    def mixed(self, values: Sequence[Tensor]) -> Tensor:
        """What lies between values (B, C, h or 1, w) of the taps: (B, C, h, w)."""
        if len(values) == 2:
            return torch.lerp(values[0], values[1], self.weights[1])
        out = self.weights[0] * values[0]
        for weight, value in zip(self.weights[1:], values[1:], strict=True):
            out = torch.addcmul(out, weight, value)
        return out


def tiles(maps: Tensor, window: Window, *, align_corners: bool, mode: Mode) -> Iterator[list[Tile]]:
    """Maps enlarged in width, in tiles that cover a window's pixels.

    To recolour is linear in the maps: what lies between two rows of a grid is between the results
    of both. That is three values a pixel to mix in place of twelve, and no map is enlarged to
    more pixels than a row has.

    Args:
        maps: (B, C, gh, gw), of the whole picture. align_corners, mode: as for F.interpolate.

    Yields:
        Tiles side by side, from left to right; and so from top to bottom. A pixel's numbers are
        the same bits whatever the window.
    """
    size, cells = window.size, maps.shape[2]
    place = places(window.top, window.bottom, size.height, cells, align_corners=align_corners)
    index, weight = taps(place, cells, mode)
    weight = weight.to(maps).unsqueeze(-1)  # (T, h, 1)
    first = int(index.min())
    wide = resample(
        maps[:, :, first : int(index.max()) + 1],
        -1,
        (window.left, window.right),
        size.width,
        align_corners=align_corners,
        mode=mode,
    )  # (B, C, rows of the grid that are read, w)
    height, width = TILE if maps.device.type == "cpu" else (size.height, size.width)
    cell = (index - first).T.tolist()
    ends = [y for y in range(1, len(cell)) if cell[y] != cell[y - 1]]
    for top, bottom in pairwise([0, *ends, len(cell)]):
        for start, stop in _cut(top, bottom, height):
            rows = slice(start, stop)
            yield [
                Tile(
                    rows,
                    slice(left, right),
                    tuple(wide[:, :, k, None, left:right] for k in cell[top]),
                    weight[:, rows],
                )
                for left, right in _cut(0, window.width, width)
            ]


def recoloured(
    rgb: Tensor, tiles: Iterator[list[Tile]], work: Callable[[Tensor, Tile], Tensor]
) -> Tensor:
    """What is made of the pixels of each tile, (B, 3, h, w), as one picture of the same."""
    if torch.is_grad_enabled():
        rows = [[work(rgb[:, :, t.rows, t.columns], t) for t in row] for row in tiles]
        return torch.cat([torch.cat(row, 3) for row in rows], 2)
    out = torch.empty_like(rgb)
    for tile in (tile for row in tiles for tile in row):
        part = (..., tile.rows, tile.columns)
        out[part] = work(rgb[part], tile)
    return out


def _cut(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    for begin in range(start, stop, step):
        yield begin, min(begin + step, stop)


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
        # The result (twice where somebody learns) and the maps, enlarged in width alone: less than
        # this for pictures that are much larger than the grid.
        return Reach(bytes_per_pixel=2 * 3 * 4 + 56)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        del mask

        def work(pixels: Tensor, tile: Tile) -> Tensor:
            return tile.mixed([recolour(maps, pixels) for maps in tile.maps])

        parts = tiles(self.maps, window, align_corners=self.align_corners, mode=self.mode)
        return recoloured(rgb, parts, work)
