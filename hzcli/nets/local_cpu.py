"""HINet's predicted function on a processor: the equations of local_mlp.py, regrouped.

The first layer is linear: of the inputs that are interpolated it takes 1, position and sines before
they are (local_place.py), and inputs are never put side by side, but each part's product is added
to the others. Layers carry a row of ones, so that a bias is a row of the weights. A row of blocks
is prepared at once, and run through the layers a cache's worth at a time, in memory that is used
again (local_bench.py).

Letters: n blocks side by side, (p, q) pixels of a block, K = p q, W width of the MLPs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.lut import lookup
from hzcli.nets import cells
from hzcli.nets.cells import Patch
from hzcli.nets.local_bench import Bench, Buffers, Piece, Shape
from hzcli.nets.local_place import Places
from hzcli.nets.modulated import LEAK, homogeneous

if TYPE_CHECKING:
    from hzcli.nets.local_mlp import Level


_LOCAL = threading.local()


def _buffers() -> Buffers:
    """This thread's memory for decoding, a few megabytes."""
    if not hasattr(_LOCAL, "buffers"):
        _LOCAL.buffers = Buffers()
    return _LOCAL.buffers


class Atlas:
    """A trilinear table, (3, s, s, s) indexed [channel][r][g][b], as a flat picture.

    Between two nodes of red the table is one picture over green and blue plus red's fraction
    times another. Sampling pictures is vectorised, which sampling volumes is not. Places on a
    picture of many pages are less exact: tables of more than `MOST` nodes are left as they are.
    """

    MOST = 9

    def __init__(self, lut: Tensor) -> None:
        self.lut, self.nodes = lut, lut.shape[1]
        pages = torch.cat([lut[:, :-1], lut[:, 1:] - lut[:, :-1]])  # (6, s - 1, s, s)
        # Each page's outer rows twice, so that rounding never blends in another page's colours.
        pages = torch.cat([pages[:, :, :1], pages, pages[:, :, -1:]], 2)
        self.pages = pages.flatten(1, 2)[None].contiguous()
        self.below, self.above = torch.tensor(-1.0), torch.tensor(2 / (self.pages.shape[2] - 1) - 1)

    def lookup(self, rgb: Tensor, buffers: Buffers) -> Tensor:
        """Colours (n, 3, K) to what the table says, (3, n, K): as hzcli.core.lut.lookup."""
        n, _, count = rgb.shape
        if self.nodes > self.MOST:
            return lookup(self.lut[None], rgb.transpose(0, 1)[None])[0]
        span, last = self.nodes - 1, self.pages.shape[2] - 1
        fraction, page = (buffers.take(name, n, count) for name in ("fraction", "page"))
        # Planes, not pairs: written at full speed, and read so too.
        grid = buffers.take("grid", 2, n, count)
        torch.clamp(rgb[:, 0], 0, 1, out=fraction).mul_(span)
        torch.floor(fraction, out=page).clamp_(max=span - 1)
        fraction -= page
        green = torch.clamp(rgb[:, 1], 0, 1, out=buffers.take("green", n, count))
        # Row (s + 2) page + 1 + (s - 1) green of `last`, on grid_sample's scale.
        torch.add(page, green, alpha=span / (span + 3), out=grid[1])
        torch.add(self.above, grid[1], alpha=(span + 3) * 2 / last, out=grid[1])
        torch.add(self.below, rgb[:, 2], alpha=2, out=grid[0])
        found = F.grid_sample(
            self.pages,
            grid.permute(1, 2, 0)[None],
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )[0]
        return found[:3].addcmul_(found[3:], fraction)


class Decoder:
    """Decodes rows of blocks of one level (of one picture) into an array of the level's pixels."""

    def __init__(self, level: Level) -> None:
        model = level.model
        self.level, self.buffers, self.places = level, _buffers(), Places(level)
        self._atlas: Atlas | None = None
        self.mlp = model.mlps[level.index]
        # The picture's colours are in [0, 1], the MLP's in [-1, 1]: W (2 c - 1) = 2 W c - W 1.
        first, *rest = (basic.view(basic.shape[-2:]) for basic in model.basics[level.index])
        start = self.places.smooth + model.table.shape[1] - 1
        first = first.clone()
        first[start : start + 3] *= 2
        self.basics = [first, *rest]
        *hidden, last = homogeneous([(w[0], b[0]) for w, b in level.shared])
        # The output layer ends the chain: no ones, and the half that a residual's tanh takes.
        last = last[:, 1:] / 2 if model.residual else last[:, 1:]
        self.shared = [matrix.mT for matrix in (*hidden, last)]
        self.picture = torch.cat([level.rgb[0], level.mask[0]])

    def frame(self) -> tuple[Tensor, Tensor]:
        """Room for the level's features, see cells.framed."""
        return cells.framed(self.level.model.width, self.level.height, self.level.width)

    def features(self, patch: Patch, prior: Tensor | None, out: Tensor) -> None:
        """Write a patch's features to `out` (W, h, w). `prior`: the coarser level's features in
        their frame, (W, h / 2 + 2, w / 2 + 2), see `cells.framed`."""
        for rows, columns in cells.rows_of([patch]):
            at = out[:, rows.inside(self.level.top), columns.inside(self.level.left)]
            for piece, held in self._features(self._prepared((rows, columns), prior)):
                into = at[:, :, piece.columns].unflatten(2, (piece.blocks, columns.size))
                into.copy_(piece.features[held])

    def colours(self, patch: Patch, prior: Tensor | None, out: Tensor) -> None:
        """Write a patch's harmonised colours to `out` (3, h, w)."""
        for row in cells.rows_of([patch]):
            self._row_of_colours(row, prior, out)

    def _row_of_colours(self, patch: Patch, prior: Tensor | None, out: Tensor) -> None:
        rows, columns = patch
        bench = self._prepared(patch, prior)
        for piece, held in self._features(bench):
            *hidden, last = (matrix.expand(piece.blocks, -1, -1) for matrix in self.shared)
            held = self._run(piece, held, hidden)
            torch.bmm(last, piece.held[held], out=piece.colours)
        torch.tanh_(bench.colours)
        at = out[:, rows.inside(self.level.top), columns.inside(self.level.left)]
        at = at.unflatten(2, (columns.count, columns.size))
        if not self.level.model.residual:
            torch.add(bench.target, 1, out=at).div_(2)
            return
        self._atlas = self._atlas or Atlas(self.level.model.lut[0])
        base = self._atlas.lookup(bench.pixels[:, :3], self.buffers)
        base = base.view(3, columns.count, rows.size, columns.size).transpose(1, 2)
        torch.add(base, bench.target, out=at)

    def _prepared(self, patch: Patch, prior: Tensor | None) -> Bench:
        """A row of blocks with its weights and all inputs of its MLPs."""
        rows, columns = patch
        top, left = rows.start - self.level.top, columns.start - self.level.left
        factors, index, hats = self.places.across(columns)
        down = self.places.down(rows)
        shape = Shape(
            columns.count,
            rows.size,
            columns.size,
            self.mlp,
            (factors.shape[0] // columns.count, down.shape[1] // self.places.smooth),
            hats.shape[1],
            self.places.smooth,
            self.places.lines.shape[0],
            None if prior is None else (top % 2 == 1, left % 2 == 1),
        )
        bench = self.buffers.bench(shape)
        self._weigh(bench, patch)
        torch.mm(factors, down, out=bench.waved)
        torch.bmm(bench.smooth, bench.waves, out=bench.left)
        lines = self.places.lines[:, top : top + rows.size]
        torch.index_select(lines, 2, index, out=bench.lines)
        torch.bmm(bench.nodes, hats, out=bench.table)
        ys, xs = rows.inside(self.level.top), columns.inside(self.level.left)
        seen = self.picture[:, ys, xs]
        bench.picture.copy_(seen.unflatten(2, (columns.count, columns.size)))
        if prior is not None:
            behind = prior[:, (top + 1) // 2 :, (left + 1) // 2 :][..., : bench.tall.shape[2]]
            for lines, (skip, share) in zip(bench.halves, bench.between, strict=True):
                a, b = (behind[:, n : n + lines.shape[1]] for n in (skip, skip + 1))
                torch.lerp(a, b, share, out=lines)
            for steps, across, made, part in bench.doublings:
                torch.bmm(steps, across, out=made)
                if made is not part:
                    part.copy_(made)
        return bench

    def _weigh(self, bench: Bench, patch: Patch) -> None:
        """What `homogeneous` gives of the blocks' MLPs, for inputs whose colours are in [0, 1]."""
        self.level.parameters(*patch, out=bench.vectors)
        for basic, (a, b, bias, product, inner, edge, zeros, ones) in zip(
            self.basics, bench.layers, strict=True
        ):
            torch.bmm(a, b, out=product)
            product.tanh_()
            torch.mul(product, basic, out=inner)
            edge.copy_(bias)
            zeros.zero_()
            ones.fill_(1)
        torch.sum(bench.colour, 1, out=bench.sums)
        bench.bias.sub_(bench.sums, alpha=0.5)

    def _features(self, bench: Bench) -> Iterator[tuple[Piece, int]]:
        """Run the cells' MLPs: which of what each piece holds has the features, ones first."""
        for piece in bench.pieces:
            x = piece.held[0]
            torch.bmm(piece.left, piece.between, out=x)
            for weight, values in piece.inputs:
                torch.baddbmm(x, weight, values, out=x)
            F.leaky_relu_(x, LEAK)
            yield piece, self._run(piece, 0, piece.hidden)

    def _run(self, piece: Piece, held: int, layers: Sequence[Tensor]) -> int:
        """LeakyReLU(W^T x), layer after layer. The ones stay what they are."""
        for weight in layers:
            torch.bmm(weight, piece.held[held], out=piece.held[1 - held])
            held = 1 - held
            F.leaky_relu_(piece.held[held], LEAK)
        return held
