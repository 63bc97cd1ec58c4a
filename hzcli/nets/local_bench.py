"""Memory for HINet's decoder on a processor: a row of blocks, its weights, inputs and layers.

A small product takes about as long as the view of a tensor that it is given. What rows of blocks
of one shape need is therefore built once, and kept with its thread.

Letters: k blocks side by side, n of them in hand, (p, q) pixels of a block, K = p q, W width of the
MLPs, C channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hzcli.nets import cells
from hzcli.nets.local_place import kronecker
from hzcli.nets.modulated import Modulated

WORKED = 1 << 13  # pixels that go through an MLP's layers at once, so that they stay in a cache
BENCHES = 256  # shapes whose views are kept


class Buffers:
    """Memory that pieces of work use again, by name; and what is built on it, by shape."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}
        self._views: dict[str, dict[tuple[int, ...], Tensor]] = {}
        self._benches: dict[Shape, Bench] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A float32 tensor of this shape, whatever is in it."""
        views = self._views.setdefault(name, {})
        if shape not in views:
            needed = math.prod(shape)
            held = self._held.get(name)
            if held is None or held.numel() < needed:
                with torch.inference_mode(False):  # what is kept must serve outside it too
                    held = self._held[name] = torch.empty(needed)
                views.clear()
                self._benches.clear()
            views[shape] = held[:needed].view(shape)
        return views[shape]

    def bench(self, shape: Shape) -> Bench:
        """Where blocks of such a shape are worked on."""
        if shape not in self._benches:
            if len(self._benches) >= BENCHES:
                self._benches.clear()
            made = Bench(shape, self)
            self._benches[shape] = made
        return self._benches[shape]


@dataclass(frozen=True)
class Shape:
    """A row of `blocks` blocks side by side, each of `height` x `width` pixels.

    places: of the polynomials across and down. nodes: of the position table that a block's row
    reads. smooth, table: position features of each kind. prior: whether the MLP reads one, and
    whether the first row and column are odd.
    """

    blocks: int
    height: int
    width: int
    mlp: Modulated
    places: tuple[int, int]
    nodes: int
    smooth: int
    table: int
    prior: tuple[bool, bool] | None


class Bench:
    """Memory for a row of blocks, and all views of it: making them takes longer than their use."""

    def __init__(self, shape: Shape, buffers: Buffers) -> None:
        take, mlp = buffers.take, shape.mlp
        k, p, q = shape.blocks, shape.height, shape.width
        width, count = mlp.sizes[-1], p * q
        self.vectors = take("vectors", k, mlp.length)
        matrices = []
        self.layers = []  # factors, bias; their product; where it, bias, zeros and ones belong
        for i, ((a, b, bias), size) in enumerate(
            zip(mlp.split(self.vectors), itertools.pairwise(mlp.sizes), strict=True)
        ):
            matrix = take(f"matrix {i}", k, 1 + size[0], 1 + size[1])
            matrices.append(matrix)
            views = matrix[:, 1:, 1:], matrix[:, 0, 1:], matrix[:, 1:, 0], matrix[:, 0, 0]
            self.layers.append((a, b, bias, take(f"product {i}", k, *size), *views))
        first, *rest = matrices
        start = shape.smooth + shape.table
        self.bias, self.colour = first[:, 0], first[:, start : start + 3]
        self.sums = take("sums", k, 1 + width)
        places = math.prod(shape.places)
        self.waved = take("waved", k * shape.places[0], shape.places[1] * shape.smooth)
        self.waves = self.waved.view(k, places, shape.smooth).mT
        self.left = take("left", k, 1 + width, places)
        self.smooth = first[:, : shape.smooth].mT
        self.lines = take("lines", shape.table, p, k * shape.nodes)
        self.nodes = self.lines.view(-1, k, shape.nodes).transpose(0, 1)
        table = take("table", k, shape.table, count)
        self.table = table.view(k, -1, q)
        self.pixels = take("pixels", k, 4, count)
        self.picture = self.pixels.view(k, 4, p, q).permute(1, 2, 0, 3)
        parts = [table, self.pixels]
        if shape.prior is not None:
            parts.append(take("prior", k, width, count))
            self._prior(shape, take, parts[-1].view(k, -1, q))
        self.colours = take("colours", k, 3, count)
        self.target = self.colours.view(k, 3, p, q).permute(1, 2, 0, 3)
        between = kronecker((q, p), shape.places)
        step = max(1, WORKED // count)
        self.pieces = []  # of a size that stays in a core's cache
        for begin in range(0, k, step):
            some = slice(begin, min(begin + step, k))
            n, inputs, start = some.stop - begin, [], shape.smooth
            for part in parts:
                weight = first[some, start : start + part.shape[1]].mT
                inputs.append((weight, part[some]))
                start += part.shape[1]
            held = [take(name, n, 1 + width, count) for name in ("even", "odd")]
            features = [x[:, 1:].view(n, width, p, q).permute(1, 2, 0, 3) for x in held]
            self.pieces.append(
                Piece(
                    slice(begin * q, some.stop * q),
                    n,
                    self.left[some],
                    between.expand(n, -1, -1),
                    inputs,
                    [matrix[some].mT for matrix in rest],
                    held,
                    features,
                    self.colours[some],
                )
            )

    def _prior(self, shape: Shape, take: Callable[..., Tensor], into: Tensor) -> None:
        """Where a prior is doubled: first its rows, then the columns of each block."""
        assert shape.prior is not None
        k, p, q, width = shape.blocks, shape.height, shape.width, shape.mlp.sizes[-1]
        top, left = map(int, shape.prior)
        span, _ = cells.doubling(left, k * q)
        self.tall = take("tall", width, p, span.stop - span.start)
        self.halves = [self.tall[:, turn::2] for turn in range(2)]
        self.between = cells.between(top)
        tall = self.tall.flatten(0, 1)
        # Blocks of an odd width begin at even and at odd pixels in turn, which read differently.
        turns = 1 if q % 2 == 0 else min(2, k)
        step = max(1, turns * q // 2)
        self.doublings = []
        for turn in range(turns):
            read, across = cells.doubling(left + turn * q, q)
            steps = tall[:, read.start - span.start :].unfold(1, across.shape[1], step)
            part = into[turn::turns]
            n = len(part)
            made = part if turns == 1 else take("turn", *part.shape)
            across = across.T.expand(n, -1, -1)
            self.doublings.append((steps.transpose(0, 1)[:n], across, made, part))


@dataclass(frozen=True)
class Piece:
    """Some of a row's blocks, n of them.

    columns: of the row's pixels. left, between: see local_place.py. inputs: of the first layer,
    each its weights (n, 1 + W, C) and values (n, C, K). hidden: the other layers' weights. held:
    two tensors (n, 1 + W, K), features: their views (W, p, n, q). colours: (n, 3, K).
    """

    columns: slice
    blocks: int
    left: Tensor
    between: Tensor
    inputs: list[tuple[Tensor, Tensor]]
    hidden: list[Tensor]
    held: list[Tensor]
    features: list[Tensor]
    colours: Tensor
