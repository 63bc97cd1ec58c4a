"""Grids of cells over a picture: which blocks share weights, and what lies between nodes.

A level of HINet (arXiv 2303.01681, Sec. III-C) has a coarse grid of predicted weights. Here
they are interpolated between the centres of cells, in steps of a block: all pixels of a block
share one set of weights. Blocks lie on a grid of the whole picture, so that every window sees
the same ones.

Letters: B pictures, C channels, (m, k) blocks, (p, q) pixels of a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Stretch:
    """`count` blocks side by side along an axis, from block `first` on, each `size` pixels of
    it long, from pixel `start` on. Blocks that are cut make a stretch by themselves."""

    first: int
    count: int
    start: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.count * self.size

    def part(self, begin: int, end: int) -> Stretch:
        """Blocks [begin, end) of it."""
        at = self.start + begin * self.size
        return Stretch(self.first + begin, end - begin, at, self.size)

    def inside(self, origin: int) -> slice:
        """Its pixels in an array that begins at pixel `origin`."""
        return slice(self.start - origin, self.stop - origin)


Patch = tuple[Stretch, Stretch]  # rows, columns


def block_edge(pixels: int, cells: int) -> int:
    """Edge of the blocks that share one set of weights: about a quarter of a cell, so that the step
    from block to block is a quarter of that from cell to cell. The nearest power of two, which
    tiles of a picture seldom cut; 16 to 64 pixels (smaller blocks cost more in weights than in
    pixels), but no more than a cell."""
    cell = -(-pixels // cells)
    if cell < 16:
        return max(cell, 1)
    return min(max(1 << round(math.log2(pixels / (4 * cells))), 16), 64)


def stretches(start: int, stop: int, edge: int) -> list[Stretch]:
    """Pixels [start, stop) of an axis: a cut block, whole ones, a cut one, as there are.

    >>> [(s.first, s.count, s.start, s.size) for s in stretches(6, 21, 8)]
    [(0, 1, 6, 2), (1, 1, 8, 8), (2, 1, 16, 5)]
    """
    if start >= stop:
        return []
    first, last = -(-start // edge), stop // edge  # whole blocks
    if first > last:
        return [Stretch(last, 1, start, stop - start)]
    found = []
    if start % edge:
        found.append(Stretch(first - 1, 1, start, first * edge - start))
    if last > first:
        found.append(Stretch(first, last - first, first * edge, edge))
    if stop % edge:
        found.append(Stretch(last, 1, last * edge, stop - last * edge))
    return found


def wanted(
    marks: Tensor,
    origin: tuple[int, int],
    rows: list[Stretch],
    columns: list[Stretch],
    most: int,
) -> Iterator[Patch]:
    """Patches of at most `most` pixels (or one block) that hold the marked blocks alone.

    Args:
        marks: (h, w), above 0 (or true) where a pixel is wanted.
        origin: row and column of its first pixel.
    """
    for r in rows:
        for c in columns:
            blocks = marks[r.inside(origin[0]), c.inside(origin[1])]
            blocks = blocks.unflatten(1, (c.count, c.size)).unflatten(0, (r.count, r.size))
            hits = (blocks.amax((1, 3)) > 0).tolist()
            room = max(1, most // (r.size * c.size))
            # Rows that want the same blocks go together, where there is room.
            runs = [_runs(line, room) for line in hits]
            begin = 0
            for i in range(1, r.count + 1):
                height = room // max((b - a for a, b in runs[begin]), default=1)
                if i < r.count and runs[i] == runs[begin] and i - begin < height:
                    continue
                for a, b in runs[begin]:
                    yield r.part(begin, i), c.part(a, b)
                begin = i


def rows_of(patches: Iterable[Patch]) -> Iterator[Patch]:
    """The same blocks, a row of them at a time."""
    for rows, columns in patches:
        for i in range(rows.count):
            yield rows.part(i, i + 1), columns


def _runs(line: list[bool], longest: int) -> list[tuple[int, int]]:
    """[begin, end) of consecutive true places, in parts of `longest` at most."""
    found: list[tuple[int, int]] = []
    for i, hit in enumerate(line):
        if hit and found and found[-1][1] == i and i - found[-1][0] < longest:
            found[-1] = (found[-1][0], i + 1)
        elif hit:
            found.append((i, i + 1))
    return found


def to_blocks(parts: list[Tensor], rows: Stretch, columns: Stretch) -> Tensor:
    """Channels of a patch, (B or 1, C_i, h, w) each, as (B m k, sum of C_i, p q)."""
    b = max(len(part) for part in parts)
    views = [
        part.expand(b, -1, -1, -1)
        .unflatten(3, (columns.count, columns.size))
        .unflatten(2, (rows.count, rows.size))
        .permute(0, 2, 4, 1, 3, 5)
        for part in parts
    ]
    return torch.cat(views, 3).flatten(4).flatten(0, 2)


def _from_blocks(x: Tensor, rows: Stretch, columns: Stretch) -> Tensor:
    x = x.unflatten(2, (rows.size, columns.size))
    x = x.unflatten(0, (-1, rows.count, columns.count))
    return x.permute(0, 3, 1, 4, 2, 5)  # (B, C, m, p, k, q)


def from_blocks(x: Tensor, rows: Stretch, columns: Stretch) -> Tensor:
    """(B m k, C, p q) to a patch (B, C, h, w)."""
    return _from_blocks(x, rows, columns).flatten(4).flatten(2, 3)


def put(x: Tensor, into: Tensor, rows: Stretch, columns: Stretch) -> None:
    """Write blocks (B m k, C, p q) to a patch of a picture, (B, C, h, w)."""
    into = into.unflatten(3, (columns.count, columns.size)).unflatten(2, (rows.count, rows.size))
    into.copy_(_from_blocks(x, rows, columns))


def centres(start: int, stop: int, whole: int) -> Tensor:
    """Coordinates of pixel centres [start, stop) of `whole`, in (-1, 1), float32."""
    index = torch.arange(start, stop, dtype=torch.float32)
    return (index + 0.5) * (2 / whole) - 1


def block_centres(stretch: Stretch, edge: int, pixels: int, cells: int) -> Tensor:
    """Where the centres of blocks (uncut ones) lie among `cells` nodes, fractional indices."""
    return (stretch.first + torch.arange(stretch.count) + 0.5) * edge / pixels * cells - 0.5


def hats(position: Tensor, nodes: int) -> tuple[slice, Tensor]:
    """Linear interpolation at rising fractional indices, ends held, as a matrix.

    Args:
        position: (n,), on the CPU.

    Returns:
        Which of the nodes matter, and their weights (n, how many), on the CPU.
    """
    position = position.clamp(0, nodes - 1)
    low, high = int(position[0].floor()), int(position[-1].ceil())
    weights = 1 - (position[:, None] - torch.arange(low, high + 1)).abs()
    return slice(low, high + 1), weights.clamp_min_(0)


def behind(part: slice) -> slice:
    """Pixels at half the size that bilinear interpolation of these reads, whatever the edge."""
    return slice(max(0, (part.start - 1) // 2), part.stop // 2 + 1)


def enlarge(features: Tensor, rows: slice, columns: slice) -> Tensor:
    """A patch of features at twice their size, bilinear: (B, C, h, w) of `rows`, `columns`."""
    patch = features[..., behind(rows), behind(columns)]
    large = F.interpolate(patch, scale_factor=2, mode="bilinear", align_corners=False)
    top, left = (s.start - 2 * behind(s).start for s in (rows, columns))
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return large[..., top : top + height, left : left + width]


def framed(channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Zeros (C, h + 2, w + 2), and a view of what is inside the frame of one pixel."""
    whole = torch.zeros(channels, height + 2, width + 2)
    return whole, whole[:, 1:-1, 1:-1]


def hold_ends(whole: Tensor) -> None:
    """Repeat the outer pixels inside a frame in it, as bilinear interpolation does."""
    whole[:, 0], whole[:, -1] = whole[:, 1], whole[:, -2]
    whole[..., 0], whole[..., -1] = whole[..., 1], whole[..., -2]


def doubling(start: int, size: int) -> tuple[slice, Tensor]:
    """Bilinear interpolation of pixels [start, start + size) at twice the size, as a matrix.

    Returns:
        Which of the coarser pixels in a frame matter, and their weights (size, how many).
    """
    first = (start + 1) // 2
    weights = _doubling(start % 2, size)
    return slice(first, first + weights.shape[1]), weights


def between(start: int) -> tuple[tuple[int, float], tuple[int, float]]:
    """The same for rows start, start + 2, .. and for start + 1, start + 3, ..: from which of the
    coarser rows that matter two neighbours are mixed, and the share of the second of them.

    >>> between(0)
    ((0, 0.75), (1, 0.25))
    """
    return ((0, 0.25), (0, 0.75)) if start % 2 else ((0, 0.75), (1, 0.25))


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is kept must serve outside it too
def _doubling(start: int, size: int) -> Tensor:
    first, last = (start + 1) // 2, (start + size) // 2 + 1
    place = (torch.arange(start, start + size) + 0.5) / 2 - 0.5 + 1  # in the frame
    return (1 - (place[:, None] - torch.arange(first, last + 1)).abs()).clamp_min_(0)
