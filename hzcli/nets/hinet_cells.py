"""HINet's published grids of predicted MLPs, run over any window of a level.

Paper: Chen, Zhang, Zou, Chen, Shi, Dense Pixel-to-Pixel Harmonization via Continuous Image
    Representation, 2023, arXiv 2303.01681: Sec. III-C (cells) and III-E (inputs).
As published: a pixel takes the weights of the cell that it lies in; coordinates go from corner
to corner; the learnt position table is read as it is by levels of exactly 65536 pixels.

A level's pixels are laid out as blocks that share one cell's MLP, and run a few blocks at a
time. Letters: n blocks, (p, q) pixels of a block, C channels, e edge of the table, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.window import Size
from hzcli.nets.modulated import Modulated, linear, run_mlp

# Floats of input vectors decoded at a time: 2 MiB, about a core's cache. A graphics card wants
# fewer and larger pieces.
CHUNK, CHUNK_GPU = 1 << 19, 1 << 25
LARGEST = 32  # edge of a block: more only repeats less of a cell's weights

Prior = Callable[[slice, slice], Tensor]  # rows and columns of a level to (32, h, w)


def cells_of(pixels: int, cells: int) -> Tensor:
    """Which of `cells` cells each of `pixels` rows (or columns) falls into; int64, rising."""
    if pixels % cells == 0:
        return torch.arange(pixels) // (pixels // cells)
    # The published rule for ragged sizes: the nearest cell to a corner-aligned coordinate.
    place = torch.arange(pixels) / max(pixels - 1, 1) * cells - 0.5
    return place.round().clamp(0, cells - 1).long()


@dataclass(frozen=True)
class Run:
    """Pixels [start, stop) of an axis that lie in cell number `cell`."""

    start: int
    stop: int
    cell: int


def runs(start: int, stop: int, pixels: int, cells: int) -> list[Run]:
    """Pixels [start, stop) of an axis as blocks of one cell each, `LARGEST` long at most.

    >>> [(r.start, r.stop, r.cell) for r in runs(2, 9, 12, 3)]
    [(2, 4, 0), (4, 8, 1), (8, 9, 2)]
    """
    cell = cells_of(pixels, cells)[start:stop]
    values, counts = cell.unique_consecutive(return_counts=True)
    found = []
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        parts = -(-count // LARGEST)
        edges = [start + count * i // parts for i in range(parts + 1)]
        found += [Run(a, b, value) for a, b in pairwise(edges)]
        start += count
    return found


@dataclass(frozen=True)
class CellMlps:
    """The function of one picture (or B): three levels of cell MLPs and a global MLP.

    coarse, middle, fine: parameters of the cells, (B, P, g, g). appearance: (B, 2369).
    mlps, basics: shapes and learnt factors of the three levels and of the global MLP.
    waves (32, 2), phases (32,): the sines of a position. table: (e, e, 32).
    """

    coarse: Tensor
    middle: Tensor
    fine: Tensor
    appearance: Tensor
    mlps: tuple[Modulated, Modulated, Modulated, Modulated]
    basics: tuple[tuple[Tensor, ...], ...]
    waves: Tensor
    phases: Tensor
    table: Tensor

    def level(self, index: int, size: Size, picture: int = 0) -> Level:
        """Level 0 (quarter), 1 (half) or 2 of a picture of the batch."""
        shift = 2 - index
        return Level(self, index, picture, Size(size.height >> shift, size.width >> shift))


@dataclass(frozen=True)
class Patch:
    """Blocks side by side: rows [top, bottom) and, in each of n blocks, q columns."""

    top: int
    bottom: int
    columns: Tensor  # (n q,), rising

    def moved(self, rows: int) -> Patch:
        return Patch(self.top + rows, self.bottom + rows, self.columns)

    def put(self, values: Tensor, into: Tensor) -> None:
        """Write (n, C, p q) to a picture (C, h, w)."""
        p = self.bottom - self.top
        lines = values.unflatten(2, (p, -1)).permute(1, 2, 0, 3).flatten(2).to(into.device)
        a, b = int(self.columns[0]), int(self.columns[-1]) + 1
        if b - a == len(self.columns):
            into[:, self.top : self.bottom, a:b] = lines
        else:
            into[:, self.top : self.bottom, self.columns.to(into.device)] = lines


class Level:
    """One level of one picture's function."""

    def __init__(self, model: CellMlps, index: int, picture: int, size: Size) -> None:
        self.model, self.index, self.size = model, index, size
        self.map = (model.coarse, model.middle, model.fine)[index][picture]  # (P, g, g)
        self.shared = model.mlps[3].weights(model.appearance[picture], model.basics[3])

    def decode(
        self,
        picture: Tensor,
        origin: tuple[int, int],
        prior: Prior | None,
        marks: Tensor | None = None,
    ) -> Iterator[tuple[Patch, Tensor]]:
        """Run the cells' MLPs (Sec. III-C) over the pixels of a window.

        Args:
            picture: (4, h, w), colours in [-1, 1] and mask, at this level's size.
            origin: row and column of its first pixel.
            prior: of the level before; None for level 0.
            marks: (h, w); blocks in which all are 0 are left out.

        Yields:
            Where blocks lie in the window, and their features (n, 32, p q).
        """
        model, (top, left) = self.model, origin
        height, width = picture.shape[1:]
        grid = self.map.shape[-1]
        mlp, basics = model.mlps[self.index], model.basics[self.index]
        columns = runs(left, left + width, self.size.width, grid)
        cells = torch.tensor([run.cell for run in columns])
        starts = torch.tensor([run.start for run in columns])
        lengths = torch.tensor([run.stop - run.start for run in columns])
        floats = (CHUNK if picture.device.type == "cpu" else CHUNK_GPU) // mlp.sizes[0]
        current, layers = -1, []
        for row in runs(top, top + height, self.size.height, grid):
            wanted = torch.ones(len(columns), dtype=torch.bool)
            if marks is not None:
                hits = (marks[row.start - top : row.stop - top] > 0).any(0).cpu()
                before = F.pad(hits.cumsum(0), (1, 0))
                wanted = before[starts - left + lengths] > before[starts - left]
            if not wanted.any():
                continue
            if row.cell != current:
                current = row.cell
                vectors = self.map[:, current, int(cells[0]) : int(cells[-1]) + 1].T
                layers = mlp.weights(vectors, basics)
            lines = _Lines.of(model, row.start, row.stop, self.size)
            for q in lengths[wanted].unique().tolist():
                found = (wanted & (lengths == q)).nonzero().flatten()
                for part in found.split(max(1, floats // (q * (row.stop - row.start)))):
                    places = starts[part, None] + torch.arange(q)  # (n, q)
                    patch = Patch(row.start - top, row.stop - top, places.flatten() - left)
                    x = self._vectors(picture, patch, lines, places, prior)
                    which = (cells[part] - cells[0]).to(x.device)
                    chosen = [(weight[which], bias[which]) for weight, bias in layers]
                    yield patch, run_mlp(x, chosen)

    def _vectors(
        self,
        picture: Tensor,
        patch: Patch,
        lines: _Lines,
        places: Tensor,
        prior: Prior | None,
    ) -> Tensor:
        """V of Sec. III-E and the prior of eq. (3): (n, C, p q)."""
        n, q = places.shape
        p = patch.bottom - patch.top
        colours = picture[:, patch.top : patch.bottom, patch.columns.to(picture.device)]
        parts = [*lines.position(places), colours.unflatten(2, (n, q)).permute(2, 0, 1, 3)]
        if prior is not None:
            first, stop = int(places[0, 0]), int(places[-1, -1]) + 1
            values = prior(slice(lines.start, lines.stop), slice(first, stop))
            if stop - first > n * q:
                values = values[..., places.flatten() - first]
            parts.append(values.unflatten(2, (n, q)).permute(2, 0, 1, 3).to(picture.device))
        return torch.cat([part.expand(n, -1, p, q) for part in parts], 1).flatten(2)

    def colours(self, features: Tensor) -> Tensor:
        """The global MLP: (n, 32, K) to (n, 3, K) in (-1, 1)."""
        n = len(features)
        layers = [(w.expand(n, -1, -1), b.expand(n, -1, -1)) for w, b in self.shared]
        return torch.tanh(linear(run_mlp(features, layers[:-1]), *layers[-1]))


def corners(start: int, stop: int, pixels: int) -> Tensor:
    """Coordinates of pixels of an axis, from -1 to 1 inclusive; always float32."""
    index = torch.arange(start, stop, dtype=torch.float32)
    return 2 * (index / max(pixels - 1, 1) - 0.5)


@dataclass(frozen=True)
class _Lines:
    """What a position's features owe to its row, for rows [start, stop) of a level.

    place: (p,). sin, cos: (32, p) of the row's share of the angles. table: (32, p, e), the
    table between its rows; None where the table is read as it is.
    """

    model: CellMlps
    start: int
    stop: int
    size: Size
    place: Tensor
    sin: Tensor
    cos: Tensor
    table: Tensor | None

    @classmethod
    def of(cls, model: CellMlps, start: int, stop: int, size: Size) -> _Lines:
        edge, device = len(model.table), model.table.device
        place = corners(start, stop, size.height).to(device)
        angle = model.waves[:, :1] * place + model.phases[:, None]
        table = None
        if size.pixels != edge * edge:  # as published: then coordinates are not looked at
            at = (place + 1) / 2 * (edge - 1)  # corners on corners
            low = at.floor().long().clamp(0, edge - 2)
            t = (at - low)[:, None, None]
            table = torch.lerp(model.table[low], model.table[low + 1], t).permute(2, 0, 1)
        return cls(model, start, stop, size, place, angle.sin(), angle.cos(), table)

    def position(self, places: Tensor) -> list[Tensor]:
        """Row, column, 32 sines and 32 values of the table, (n or 1, C, p or 1, q or 1) each.

        Args:
            places: (n, q), columns.
        """
        model, device = self.model, self.sin.device
        n, q = places.shape
        x = corners(0, self.size.width, self.size.width)[places].to(device)
        angle = model.waves[:, 1, None] * x[:, None]  # (n, 32, q)
        # sin(a y + b x + c) without a full grid of angles: a sum of two products.
        sines = self.sin[:, :, None] * angle.cos()[:, :, None]
        sines.addcmul_(self.cos[:, :, None], angle.sin()[:, :, None])
        rows, columns = self.place[None, None, :, None], x[:, None, None]
        row_of, column_of = (part.expand(n, 1, len(self.place), q) for part in (rows, columns))
        return [row_of, column_of, sines, self._table(places, x)]

    def _table(self, places: Tensor, x: Tensor) -> Tensor:
        edge = len(self.model.table)
        if self.table is None:
            index = torch.arange(self.start, self.stop)[:, None, None] * self.size.width + places
            return self.model.table.flatten(0, 1)[index].permute(1, 3, 0, 2)
        at = (x + 1) / 2 * (edge - 1)
        low = at.floor().long().clamp(0, edge - 2)
        # A block lies on few columns of the table: a product with their hats.
        first = low[:, :1]
        reach = int((low[:, -1:] - first).max()) + 2
        columns = (first + torch.arange(reach, device=x.device)).clamp(max=edge - 1)
        hats = 1 - (at[:, None] - first[..., None] - torch.arange(reach).to(at)[:, None]).abs()
        taken = self.table[:, :, columns].permute(2, 0, 1, 3)  # (n, 32, p, reach)
        found = taken.flatten(1, 2) @ hats.clamp_min_(0)
        return found.unflatten(1, (32, -1))
