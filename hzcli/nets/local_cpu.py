"""HINet's predicted function on a processor: the equations of local_mlp.py, regrouped.

What is the same for many pixels is computed once: a sine of the position is a sum of products of
a row's and a column's numbers, and so is what lies between nodes of a table or between coarser
features; a block's positions are then one matrix product. The first layer is linear, so its
inputs are never put side by side: each part's product is added to the others. Layers carry a
row of ones, so that a bias is a row of the weights. All is written to buffers of about a core's
cache that are used again.

Letters: n = m k blocks of a patch (m rows of them, k columns), (p, q) pixels of a block, K = p q,
W width of the MLPs, T features of the position table.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.lut import lookup
from hzcli.nets import cells
from hzcli.nets.cells import Patch, Stretch
from hzcli.nets.modulated import LEAK, homogeneous

if TYPE_CHECKING:
    from hzcli.nets.local_mlp import Level


HELD = 1 << 20  # floats of lines of the position table that are kept for other patches


class Buffers:
    """Memory that pieces of work use again, by name."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}
        self._views: dict[str, dict[tuple[int, ...], Tensor]] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A float32 tensor of this shape, whatever is in it."""
        views = self._views.setdefault(name, {})
        if shape not in views:
            needed = math.prod(shape)
            held = self._held.get(name)
            if held is None or held.numel() < needed:
                held = self._held[name] = torch.empty(needed)
                views.clear()
            views[shape] = held[:needed].view(shape)
        return views[shape]


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

    def lookup(self, rgb: Tensor, buffers: Buffers) -> Tensor:
        """Colours (n, 3, K) to what the table says, (3, n, K): as hzcli.core.lut.lookup."""
        n, _, count = rgb.shape
        if self.nodes > self.MOST:
            return lookup(self.lut[None], rgb.transpose(0, 1)[None])[0]
        span, last = self.nodes - 1, self.pages.shape[2] - 1
        fraction, page = (buffers.take(name, n, count) for name in ("fraction", "page"))
        grid = buffers.take("grid", n, count, 2)
        torch.clamp(rgb[:, 0], 0, 1, out=fraction).mul_(span)
        torch.floor(fraction, out=page).clamp_(max=span - 1)
        fraction -= page
        green = torch.clamp(rgb[:, 1], 0, 1, out=buffers.take("green", n, count))
        # Row (s + 2) page + 1 + (s - 1) green of `last`, on grid_sample's scale.
        page.mul_((span + 3) * 2 / last).add_(green, alpha=span * 2 / last)
        torch.add(page, 2 / last - 1, out=grid[..., 1])
        torch.mul(rgb[:, 2], 2, out=grid[..., 0]).sub_(1)
        found = F.grid_sample(
            self.pages, grid[None], mode="bilinear", padding_mode="border", align_corners=True
        )[0]
        return found[:3].addcmul_(found[3:], fraction)


class Decoder:
    """Decodes patches of one level (of one picture) into an array of the level's pixels."""

    def __init__(self, level: Level, buffers: Buffers) -> None:
        model = level.model
        self.level, self.buffers = level, buffers
        self.mlp, self.basics = model.mlps[level.index], model.basics[level.index]
        *hidden, last = homogeneous([(w[0], b[0]) for w, b in level.shared])
        # The output layer ends the chain: no ones, and the half that a residual's tanh takes.
        self.shared = [*hidden, last[:, 1:] / 2 if model.residual else last[:, 1:]]
        self._columns: dict[Stretch, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        self._lines: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        y, x = level.y, level.x
        waves = len(y.sin)
        # 1, y, x and the sines are products of (3 + waves, h, J) and (J, w), J = 2 waves + 2.
        rows = torch.zeros(3 + waves, level.height, 2 * waves + 2)
        rows[0, :, -1] = rows[2, :, -2] = 1
        rows[1, :, -1] = y.place
        rows[3:, :, :waves].diagonal(dim1=0, dim2=2).copy_(y.sin.T)
        rows[3:, :, waves : 2 * waves].diagonal(dim1=0, dim2=2).copy_(y.cos.T)
        self.rows = rows
        self.columns = torch.cat([x.cos, x.sin, x.place[None], torch.ones_like(x.place)[None]])
        table = model.table[0]
        self.heights, across = (
            (axis.place + 1) / 2 * nodes - 0.5
            for axis, nodes in zip((y, x), table.shape[1:], strict=True)
        )
        along, self.hats = cells.hats(across, table.shape[2])
        self.table = table[:, :, along]  # (T, nodes, nodes)

    def features(self, patch: Patch, prior: Tensor | None, out: Tensor) -> None:
        """Write a patch's features to `out` (W, h, w). `prior`: the coarser level's features in
        their frame, (W, h / 2 + 2, w / 2 + 2), see `cells.framed`."""
        rows, columns = patch
        at = out[None, :, rows.inside(self.level.top), columns.inside(self.level.left)]
        cells.put(self._features(patch, prior)[:, 1:], at, rows, columns)

    def colours(self, patch: Patch, prior: Tensor | None, out: Tensor, atlas: Atlas | None) -> None:
        """Write a patch's harmonised colours to `out` (3, h, w). atlas: the colours that they
        are a residual on."""
        rows, columns = patch
        m, k, p, q = rows.count, columns.count, rows.size, columns.size
        x = self._features(patch, prior)
        *hidden, last = self.shared
        x = self._run(x, [w.expand(m * k, -1, -1) for w in hidden])
        z = self.buffers.take("colours", m * k, 3, p * q)
        torch.bmm(last.expand(m * k, -1, -1).mT, x, out=z)
        torch.tanh(z, out=z)
        ours = z.view(m, k, 3, p, q).permute(2, 0, 3, 1, 4)
        at = out[:, rows.inside(self.level.top), columns.inside(self.level.left)]
        at = at.unflatten(2, (k, q)).unflatten(1, (m, p))
        if atlas is None:
            torch.add(ours, 1, out=at).div_(2)
            return
        base = atlas.lookup(self._pixels(patch)[:, :3], self.buffers)
        torch.add(base.view(3, m, k, p, q).transpose(2, 3), ours, out=at)

    def _features(self, patch: Patch, prior: Tensor | None) -> Tensor:
        """The cell MLP's output (n, 1 + W, K), a row of ones first."""
        rows, columns = patch
        m, k, p, q = rows.count, columns.count, rows.size, columns.size
        width, take = self.level.model.width, self.buffers.take
        sines = take("sines", m * k, self.rows.shape[0], p * q)
        table = take("table", m * k, self.table.shape[0], p * q)
        parts = [sines, table, self._pixels(patch, fill=True)]
        if prior is not None:
            parts.append(take("prior", m * k, width, p * q))
        for i in range(m):
            begin = rows.start - self.level.top + i * p
            line = slice(i * k, i * k + k)
            self._place(slice(begin, begin + p), columns, sines[line], table[line])
            if prior is not None:
                self._enlarge(prior, begin, p, columns, parts[-1][line])
        vectors = self.level.parameters(rows, columns)
        first, *rest = homogeneous(self.mlp.weights(vectors, self.basics))
        # The picture's colours are in [0, 1], the MLP's in [-1, 1]: W (2 c - 1) = 2 W c - W 1.
        start = self.rows.shape[0] + self.table.shape[0]
        colour = first[:, start : start + 3]
        first[:, 0] -= colour.sum(1)
        colour *= 2
        x, start = take("even", m * k, 1 + width, p * q), 0
        for part in parts:
            weight = first[:, start : start + part.shape[1]].mT
            torch.baddbmm(x, weight, part, beta=int(start > 0), out=x)
            start += part.shape[1]
        return self._run(F.leaky_relu_(x, LEAK), rest)

    def _run(self, x: Tensor, layers: list[Tensor]) -> Tensor:
        """LeakyReLU(W^T x), layer after layer; `x` is overwritten. The ones stay what they are."""
        even, odd = (self.buffers.take(name, *x.shape) for name in ("even", "odd"))
        other = odd if x.data_ptr() == even.data_ptr() else even
        for weight in layers:
            torch.bmm(weight.mT, x, out=other)
            x, other = F.leaky_relu_(other, LEAK), x
        return x

    def _pixels(self, patch: Patch, fill: bool = False) -> Tensor:
        """Colours in [0, 1] and mask of a patch, (n, 4, K)."""
        rows, columns = patch
        m, k, p, q = rows.count, columns.count, rows.size, columns.size
        pixels = self.buffers.take("pixels", m * k, 4, p * q)
        if fill:
            ys, xs = rows.inside(self.level.top), columns.inside(self.level.left)
            into = pixels.view(m, k, 4, p, q).permute(2, 0, 3, 1, 4)
            for source, to in ((self.level.rgb, into[:3]), (self.level.mask, into[3:])):
                to.copy_(source[0, :, ys, xs].unflatten(2, (k, q)).unflatten(1, (m, p)))
        return pixels

    def _place(self, ys: slice, columns: Stretch, sines: Tensor, table: Tensor) -> None:
        """Position features of a row of blocks: (k, 3 + waves, K) and (k, T, K)."""
        k, q = columns.count, columns.size
        if columns not in self._columns:
            self._columns[columns] = self._across(columns)
        waves, nodes, index, hats = self._columns[columns]
        rows, lines = self._down(ys)
        torch.bmm(rows.expand(k, -1, -1), waves, out=sines.view(k, -1, q))
        lines = lines.index_select(1, index).view(-1, k, nodes.shape[0]).transpose(0, 1)
        torch.bmm(lines, hats, out=table.view(k, -1, q))

    def _down(self, ys: slice) -> tuple[Tensor, Tensor]:
        """What a row of blocks has down: of the waves ((3 + waves) p, J), and of the table, whose
        nodes are those across, (T p, nodes)."""
        at = ys.start, ys.stop
        if at not in self._lines:
            down, weights = cells.hats(self.heights[ys], self.table.shape[1])
            lines = (weights @ self.table[:, down]).flatten(0, 1)
            if (len(self._lines) + 1) * lines.numel() > HELD:
                self._lines.clear()
            self._lines[at] = self.rows[:, ys].flatten(0, 1), lines
        return self._lines[at]

    def _across(self, columns: Stretch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a row of blocks has across: waves (k, J, q); and of the table, nodes that a block
        reads (counted from its first), their indices (k of them, flat), weights (k, nodes, q)."""
        k, q = columns.count, columns.size
        xs = columns.inside(self.level.left)
        waves = self.columns[:, xs].unflatten(1, (k, q)).transpose(0, 1)
        hats = self.hats[xs].unflatten(0, (k, q))
        # From the first to the last: where nodes are dense, pixels pass some over.
        read = (hats > 0).any(1).byte()  # (k, nodes)
        first, after = read.argmax(1), read.shape[1] - read.flip(1).argmax(1)
        count = int((after - first).max())
        first = first.clamp(max=read.shape[1] - count)
        nodes = torch.arange(count)
        index = first[:, None] + nodes
        weights = hats.gather(2, index[:, None].expand(-1, q, -1)).mT.contiguous()
        return waves, nodes, index.flatten(), weights

    def _enlarge(self, prior: Tensor, top: int, height: int, columns: Stretch, out: Tensor) -> None:
        """A row of blocks of the coarser level's features at twice their size: (k, W, K).

        Args:
            top, height: its rows of pixels.
        """
        k, q = columns.count, columns.size
        left = columns.start - self.level.left
        read, down = cells.doubling(top, height)
        span, _ = cells.doubling(left, k * q)
        tall = self.buffers.take("tall", len(prior), height, span.stop - span.start)
        torch.bmm(down.expand(len(prior), -1, -1), prior[:, read, span], out=tall)
        tall = tall.flatten(0, 1)
        into = out.view(k, -1, q)
        # Blocks of an odd width begin at even and at odd pixels in turn, which read differently.
        turns = 1 if q % 2 == 0 else min(2, k)
        step = max(1, turns * q // 2)
        for turn in range(turns):
            read, across = cells.doubling(left + turn * q, q)
            steps = tall[:, read.start - span.start :].unfold(1, across.shape[1], step)
            part = into[turn::turns]
            steps, across = steps.transpose(0, 1)[: len(part)], across.T.expand(len(part), -1, -1)
            if turns == 1:
                torch.bmm(steps, across, out=part)
            else:
                made = self.buffers.take("turn", *part.shape)
                part.copy_(torch.bmm(steps, across, out=made))
