"""HINet's predicted function: from position, colour, mask and prior to the harmonised colour.

Paper: Chen, Zhang, Zou, Chen, Shi, Dense Pixel-to-Pixel Harmonization via Continuous Image
    Representation, 2023, arXiv 2303.01681: Sec. III-C (cells), III-D (prior), III-E (inputs).
Differences from the authors' code, the `aligned` reading:
 - the prior is carried pixel by pixel (upstream re-views its memory, which scrambles it), so
   that windows of a picture can be decoded by themselves;
 - a level's pixels are means of the 2 x 2 (4 x 4) pixels that they stand for, and their
   coordinates are pixel centres;
 - predicted weights are interpolated between cells, so that cells leave no edges;
 - the output may be a residual on the predicted table's colours.

Letters: B pictures, n blocks, K pixels of a block, (gh, gw) cells of a grid, W width of the MLPs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.lut import lookup
from hzcli.core.transform import Reach
from hzcli.core.window import Window
from hzcli.nets import cells, local_card, local_cpu, local_native
from hzcli.nets.cells import Patch, Stretch
from hzcli.nets.modulated import Modulated, linear, run_mlp

# Floats of input vectors decoded at a time: 4 MiB, so that blocks stay in the cache and calls are
# few beside the work. A graphics card wants fewer and larger pieces, and so does the kernel.
CHUNK, CHUNK_LARGE = 1 << 20, 1 << 25
# One pixel of the next coarser level on each side, at two levels, is 4 pixels; and the coarsest
# level's pixels are 4 x 4, so windows start at multiples of 4.
HALO = 4

Decoding = Callable[["Level"], "local_native.Decoder | local_cpu.Decoder"]


@dataclass(frozen=True)
class LocalMlp:
    """The function of one picture (or B): three levels of cell MLPs and a global MLP.

    mlps: shapes of the levels' MLPs, coarse to fine, and of the global one. maps: a level's
    parameter vectors, (B, P, gh, gw). appearance: (B, Q) parameters of the global MLP. basics:
    learnt factors of the weights, as `mlps`. waves (2, n) and phases (n): sine position
    features. table: (1, t, e, e) learnt position features. lut: (B, 3, s, s, s), the colours
    that the output is a residual on (if `residual`).
    """

    mlps: tuple[Modulated, Modulated, Modulated, Modulated]
    maps: tuple[Tensor, Tensor, Tensor]
    appearance: Tensor
    basics: tuple[tuple[Tensor, ...], ...]
    waves: Tensor
    phases: Tensor
    table: Tensor
    lut: Tensor
    residual: bool

    @property
    def width(self) -> int:
        return self.mlps[0].sizes[-1]

    @property
    def reach(self) -> Reach:
        # The result; picture, mask and features at 1/2 and 1/4 of the size; and some 10 MB for
        # the blocks in hand, as a share of a usual tile.
        return Reach(halo=HALO, align=4, bytes_per_pixel=12 + 5 + 5 * self.width // 4 + 15)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        """Decode the blocks of `window` that meet the mask; elsewhere return the input.

        See `Transform.apply` for shapes and ranges.
        """
        if len(rgb) == 1 and not self._learning(rgb):
            found = None
            if rgb.device.type == "cuda":
                found = local_card.region(self, rgb, mask, window)
            return self._region(rgb, mask, window) if found is None else found
        return self.levels(rgb, mask, window, finest_only=True)[-1]

    def _learning(self, rgb: Tensor) -> bool:
        tensors = [rgb, *self.maps, self.appearance, self.waves, self.phases, self.table, self.lut]
        tensors += [basic for basics in self.basics for basic in basics]
        return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)

    def levels(self, rgb: Tensor, mask: Tensor, window: Window, finest_only: bool) -> list[Tensor]:
        """Harmonised colours of the three levels (1/4, 1/2, 1), [0, 1] nominally: all pixels,
        all blocks at a time, differentiable.

        Args as `apply`. With `finest_only` the list holds the last level alone.
        """
        prior, outputs = None, []
        for index, picture in enumerate(_pyramid(rgb, mask)):
            level = Level(self, index, picture, window)
            coloured = index == 2 or not finest_only
            rows = [
                [level.decode((r, c), prior, coloured) for c in level.columns] for r in level.rows
            ]
            prior = _join([[features for features, _ in row] for row in rows])
            if coloured:
                outputs.append(_join([[c for _, c in row if c is not None] for row in rows]))
        return outputs

    def _region(
        self,
        rgb: Tensor,
        mask: Tensor,
        window: Window,
        decoder: Decoding | None = None,
    ) -> Tensor:
        """`apply` for one picture without gradients, a few blocks at a time. decoder: what does it
        on a processor; else the picture's size says."""
        processor = rgb.device.type == "cpu" and rgb.dtype == torch.float32
        decoder = decoder or local_native.decoder(self, window.size) if processor else None
        large = rgb.device.type != "cpu" or decoder is local_native.Decoder
        floats = CHUNK_LARGE if large else CHUNK
        pyramid = _pyramid(rgb, mask, _halved)
        coarse, middle, fine = (Level(self, n, pyramid[n], window) for n in range(3))
        patches = list(fine.meeting(mask[0, 0], floats, HALO))
        if not patches:
            return rgb.clone()
        needed = [(fine, patches)]
        for level in (middle, coarse):
            if decoder is not None:
                level = level.widened(needed[0][0])
            patches = list(level.meeting(level.read_by(*needed[0]), floats))
            needed.insert(0, (level, patches))
        if decoder is not None:
            return self._on_processor(needed, decoder)
        prior = None
        for level, patches in needed:
            last = level is fine
            out = rgb.clone() if last else rgb.new_zeros(1, self.width, level.height, level.width)
            for patch in patches:
                features, colour = level.blocks(patch, prior, last)
                rows, columns = patch[0].inside(level.top), patch[1].inside(level.left)
                found = features if colour is None else colour
                cells.put(found, out[..., rows, columns], *patch)
            prior = out
        return out

    def _on_processor(self, needed: list[tuple[Level, list[Patch]]], decoder: Decoding) -> Tensor:
        """The same patches of the same levels, by local_cpu.py or local_native.py."""
        prior = None
        for level, patches in needed[:2]:
            decoding = decoder(level)
            whole, inside = decoding.frame()
            for patch in patches:
                decoding.features(patch, prior, inside)
            cells.hold_ends(whole)
            finer = needed[level.index + 1][0]
            prior = whole[:, :, finer.left // 2 - level.left :]
        level, patches = needed[2]
        decoding = decoder(level)
        out = level.rgb.clone()
        for patch in patches:
            decoding.colours(patch, prior, out[0])
        return out


@dataclass(frozen=True)
class _Axis:
    """Pixels of one axis of a level: coordinates (n,), on the CPU, and sines and cosines
    (waves, n) of the axis's share of the waves' angles."""

    place: Tensor
    sin: Tensor
    cos: Tensor

    @classmethod
    def of(cls, place: Tensor, wave: Tensor, phase: Tensor | float = 0) -> _Axis:
        angle = (place.to(wave.device)[:, None] * wave + phase).T
        return cls(place, angle.sin(), angle.cos())

    def part(self, pixels: slice) -> _Axis:
        return _Axis(self.place[pixels], self.sin[:, pixels], self.cos[:, pixels])


def position_features(y: _Axis, x: _Axis, table: Tensor) -> list[Tensor]:
    """[y, x], sines of the waves and the table's features of a patch: (1, C, h, w) each."""
    device = table.device
    grid = torch.stack(torch.meshgrid(y.place, x.place, indexing="ij")).to(device)
    # sin(a y + b x + c) without a full grid of angles: a sum of two products.
    sines = torch.addcmul(y.sin[:, :, None] * x.cos[:, None], y.cos[:, :, None], x.sin[:, None])
    (rows, across_rows), (columns, across_columns) = (
        cells.hats((axis.place + 1) / 2 * nodes - 0.5, nodes)
        for axis, nodes in zip((y, x), table.shape[2:], strict=True)
    )
    patch = across_rows.to(device) @ table[..., rows, columns] @ across_columns.T.to(device)
    return [grid[None], sines[None], patch]


class Level:
    """One level of a LocalMlp over the pixels of a window."""

    def __init__(
        self, model: LocalMlp, index: int, picture: tuple[Tensor, Tensor], window: Window
    ) -> None:
        shift = 2 - index
        self.model, self.index, self.window = model, index, window
        self.rgb, self.mask = picture
        self.height, self.width = self.rgb.shape[2:]
        self.top, self.left = window.top >> shift, window.left >> shift
        self.size = tuple(-(-n >> shift) for n in (window.size.height, window.size.width))
        # Rows of a map's parameters, so that taking some nodes copies whole vectors.
        self.map = model.maps[index].permute(0, 2, 3, 1).contiguous()
        self.edges = tuple(
            cells.block_edge(n, nodes)
            for n, nodes in zip(self.size, self.map.shape[1:3], strict=True)
        )
        self.rows = cells.stretches(self.top, self.top + self.height, self.edges[0])
        self.columns = cells.stretches(self.left, self.left + self.width, self.edges[1])
        y = cells.centres(self.top, self.top + self.height, self.size[0])
        x = cells.centres(self.left, self.left + self.width, self.size[1])
        self.y = _Axis.of(y, model.waves[0], model.phases)
        self.x = _Axis.of(x, model.waves[1])
        self.shared = model.mlps[3].weights(model.appearance, model.basics[3])
        self._lines: tuple[Stretch, Tensor] | None = None  # the last rows of blocks' parameters
        self._hats: dict[tuple[int, Stretch], tuple[slice, Tensor]] = {}

    def meeting(self, marks: Tensor, floats: int, margin: int = 0) -> Iterator[Patch]:
        """Patches of the blocks that hold a marked pixel, those within `margin` of the window's
        inner edges left out. marks: (h, w). floats: of a patch's input vectors, at most."""
        w = self.window
        top, left = (margin if start else 0 for start in (w.top, w.left))
        bottom = margin if w.bottom < w.size.height else 0
        right = margin if w.right < w.size.width else 0
        rows = cells.stretches(self.top + top, self.top + self.height - bottom, self.edges[0])
        columns = cells.stretches(self.left + left, self.left + self.width - right, self.edges[1])
        most = floats // self.model.mlps[self.index].sizes[0]
        return cells.wanted(marks, (self.top, self.left), rows, columns, most)

    def read_by(self, finer: Level, patches: list[Patch]) -> Tensor:
        """Marks (h, w) of the pixels that these patches of the next finer level interpolate."""
        marks = torch.zeros(self.height, self.width, dtype=torch.bool)
        for r, c in patches:
            read = cells.behind(c.inside(finer.left))
            shift = finer.left // 2 - self.left
            columns = slice(max(0, read.start + shift), read.stop + shift)
            marks[cells.behind(r.inside(finer.top)), columns] = True
        return marks

    def widened(self, finer: Level) -> Level:
        """The same with all columns of the blocks that the window meets and that the finer level
        reads, so that no block is cut at its sides; what is beyond the window is 0."""
        edge, width = self.edges[1], self.size[1]
        # Blocks of an odd edge, of small pictures, may be cut: what reads twos must not be.
        step = 2 if edge % 2 else edge
        start = min(self.left, (finer.left - 1) // 2) // step * step
        stop = max(self.left + self.width, (finer.left + finer.width) // 2 + 1)
        start, stop = max(0, start), min(-(-stop // step) * step, width)
        found = copy.copy(self)
        sides = self.left - start, stop - self.left - self.width
        found.rgb, found.mask = (F.pad(values, sides) for values in (self.rgb, self.mask))
        found.left, found.width = start, stop - start
        found.columns = cells.stretches(start, stop, edge)
        found.x = _Axis.of(cells.centres(start, stop, width), self.model.waves[1])
        return found

    def decode(
        self, patch: Patch, prior: Tensor | None, coloured: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Features (B, W, h, w) and, if `coloured`, RGB (B, 3, h, w) of a patch."""
        features, colour = self.blocks(patch, prior, coloured)
        rgb = None if colour is None else cells.from_blocks(colour, *patch)
        return cells.from_blocks(features, *patch), rgb

    def blocks(
        self, patch: Patch, prior: Tensor | None, coloured: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The same, (n, W, K) and (n, 3, K). prior: the next coarser level's features."""
        rows, columns = patch
        ys, xs = rows.inside(self.top), columns.inside(self.left)
        position = position_features(self.y.part(ys), self.x.part(xs), self.model.table)
        parts = [*position, self.rgb[..., ys, xs] * 2 - 1, self.mask[..., ys, xs]]
        start = sum(part.shape[1] for part in position)
        if prior is not None:
            parts.append(cells.enlarge(prior, ys, xs))
        x = cells.to_blocks(parts, rows, columns)
        mlp, basics = self.model.mlps[self.index], self.model.basics[self.index]
        features = run_mlp(x, mlp.weights(self.parameters(rows, columns), basics))
        return features, self._colour(features, x[:, start : start + 3]) if coloured else None

    def whole(self, axis: int, stretch: Stretch) -> Stretch:
        """All uncut blocks of the window along an axis, if these are some of them; else these."""
        edge = self.edges[axis]
        if stretch.size != edge or stretch.start % edge:
            return stretch
        found = (self.rows, self.columns)[axis]
        return next(s for s in found if s.size == edge and s.start % edge == 0)

    def parameters(self, rows: Stretch, columns: Stretch, out: Tensor | None = None) -> Tensor:
        """The map at the centres of blocks: (n, P). out: of a row of blocks alone."""
        down, along = self.whole(0, rows), self.whole(1, columns)
        if self._lines is None or self._lines[0] != down:
            nodes, weights = self._between(0, down)
            lines = weights @ self.map[:, nodes].flatten(2)  # (B, rows, gw P)
            self._lines = down, lines.unflatten(2, self.map.shape[2:])
        nodes, weights = self._between(1, along)
        first, start = rows.first - down.first, columns.first - along.first
        weights = weights[start : start + columns.count]
        if out is not None:
            return torch.mm(weights, self._lines[1][0, first, nodes], out=out)
        lines = self._lines[1][:, first : first + rows.count, nodes]
        return (weights @ lines).flatten(0, 2)

    def _between(self, axis: int, stretch: Stretch) -> tuple[slice, Tensor]:
        """Nodes of the map along an axis and their weights at the centres of blocks."""
        if (axis, stretch) not in self._hats:
            nodes = self.map.shape[1 + axis]
            centres = cells.block_centres(stretch, self.edges[axis], self.size[axis], nodes)
            read, weights = cells.hats(centres, nodes)
            self._hats[axis, stretch] = read, weights.to(self.map.device)
        return self._hats[axis, stretch]

    def _colour(self, features: Tensor, rgb: Tensor) -> Tensor:
        """The global MLP: features (n, W, K) and RGB (n, 3, K) in [-1, 1] to colours (n, 3, K)."""
        b = len(self.model.appearance)
        each = len(features) // b
        layers = [
            (
                weight[:, None].expand(-1, each, -1, -1).flatten(0, 1),
                bias[:, None].expand(-1, each, -1, -1).flatten(0, 1),
            )
            for weight, bias in self.shared
        ]
        z = linear(run_mlp(features, layers[:-1]), *layers[-1])
        if not self.model.residual:
            return (torch.tanh(z) + 1) / 2
        pixels = ((rgb + 1) / 2).unflatten(0, (b, each)).transpose(1, 2)
        base = lookup(self.model.lut, pixels).transpose(1, 2).flatten(0, 1)
        return base + torch.tanh(z / 2)


def _pooled(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, of what there is at odd ends."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def _halved(x: Tensor) -> Tensor:
    """The same, up to rounding, in a fraction of the time, but more memory for gradients."""
    if x.shape[2] % 2 or x.shape[3] % 2:
        return _pooled(x)
    rows = x[:, :, ::2] + x[:, :, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)


def _pyramid(
    rgb: Tensor, mask: Tensor, half: Callable[[Tensor], Tensor] = _pooled
) -> list[tuple[Tensor, Tensor]]:
    """RGB and mask at 1/4, 1/2 and 1 of the size."""
    middle = half(rgb), half(mask)
    return [(half(middle[0]), half(middle[1])), middle, (rgb, mask)]


def _join(patches: list[list[Tensor]]) -> Tensor:
    """One picture of patches, row by row."""
    if len(patches) == len(patches[0]) == 1:
        return patches[0][0]
    return torch.cat([torch.cat(row, 3) for row in patches], 2)
