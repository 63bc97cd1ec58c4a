"""HINet: Dense Pixel-to-Pixel Harmonization via Continuous Image Representation.

Jianqi Chen, Yilan Zhang, Zhengxia Zou, Keyan Chen, Zhenwei Shi. IEEE TCSVT 2023,
arXiv 2303.01681. The authors' code: github.com/WindVChen/INR-Harmonization (Apache-2.0).

The picture is a continuous function: a small MLP maps (position, colour, mask, prior) to the
harmonised colour at any coordinate. The MLP's weights differ from cell to cell of a grid and
are predicted from the encoded thumbnail; a last MLP, predicted from the whole picture's
appearance, is shared by all pixels. Three levels (1/4, 1/2 and full size) run coarse to fine,
each handing its features to the next as a prior (LRIP).

Differences from the authors' code, all part of the `aligned` reading and stored with weights:
 - the prior is carried pixel by pixel (upstream re-views its memory, which scrambles it), so
   that windows of a picture can be decoded by themselves;
 - a level's pixels are means of the 2 x 2 (4 x 4) pixels that they stand for, and their
   coordinates are pixel centres;
 - predicted weights are interpolated between cells, so that cells leave no edges;
 - the output is a residual on the input colour (`residual=True`) in our own recipes.

Letters: B pictures, K pixels of a block, (gh, gw) cells of a grid, W width of the MLPs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.catalog import WeightsCard
from hzcli.core.lut import Lut3D, identity_lut, lookup
from hzcli.core.transform import Reach, Thumbnail
from hzcli.core.window import Window
from hzcli.nets.compact import CompactEncoder

LEAK = 0.01
# Pixels decoded at a time: 16k pixels x 16 floats are 1 MiB, which stays in a core's cache.
CHUNK_PIXELS = 16_384
# Number of products of Legendre polynomials in r, g, b of total degree 3 or less.
POLYNOMIALS = 20
# What heads predict is a small multiple of their output, so that one learning rate suits them
# and the encoder: an Adam step moves a head's result by rate x fan-in, not by rate.
GAIN = 0.1


@dataclass(frozen=True)
class HINetConfig:
    """Numbers that give a HINet its size.

    thumbnail: edge of the square thumbnail in pixels.
    channels, blocks, code: of the compact encoder.
    width: of every MLP. hidden: modulated layers after the first, a level, coarse to fine
    (the paper's best ablation is 3, 2, 1). rank: of the weight factorisation (paper: 10).
    waves: sine features of the position. table, table_edge: learnt position table.
    lut: nodes a side of the auxiliary 3D LUT (paper: 7).
    """

    thumbnail: int = 128
    channels: tuple[int, int, int, int] = (32, 64, 128, 192)
    blocks: int = 1
    code: int = 512
    hyper: int = 128
    width: int = 16
    hidden: tuple[int, int, int] = (2, 1, 1)
    rank: int = 4
    waves: int = 8
    table: int = 8
    table_edge: int = 32
    lut: int = 7
    residual: bool = True

    @classmethod
    def compact(cls) -> HINetConfig:
        """Small enough to train and run on a CPU; the one that ships."""
        return cls()


@dataclass(frozen=True)
class Modulated:
    """Shapes of a predicted MLP and the slicing of its parameter vector (section III-C).

    A layer's weight is tanh(A @ B) * basic, with A (in, rank) and B (rank, out) predicted and
    `basic` learnt; its bias is predicted as it is.
    """

    sizes: tuple[int, ...]
    rank: int

    @property
    def length(self) -> int:
        """Length of the parameter vector of one cell."""
        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        return sum((a + b) * self.rank + b for a, b in pairs)

    def split(self, vector: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Cut (..., length) into (A, B, bias) of each layer, A row-major (in, rank)."""
        layers, start = [], 0
        for a, b in zip(self.sizes, self.sizes[1:], strict=False):
            r = self.rank
            parts = vector[..., start : start + (a + b) * r + b].split([a * r, b * r, b], -1)
            lead = vector.shape[:-1]
            layers.append((parts[0].reshape(*lead, a, r), parts[1].reshape(*lead, r, b), parts[2]))
            start += (a + b) * r + b
        return layers

    def weights(self, vector: Tensor, basics: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        """(weight (..., in, out), bias (..., 1, out)) of each layer."""
        return [
            (torch.tanh(a @ b) * basic, bias.unsqueeze(-2))
            for (a, b, bias), basic in zip(self.split(vector), basics, strict=True)
        ]

    def initial(self) -> Tensor:
        """A vector for which every weight is tanh(1) * basic: a plain MLP to start from."""
        vector = torch.randn(self.length) * 0.1
        for a, b, bias in self.split(vector):
            b.zero_()
            a[..., 0] = 1
            b[..., 0, :] = 1
            bias.zero_()
        return self._joined(self.split(vector), vector)

    @staticmethod
    def _joined(layers: list[tuple[Tensor, Tensor, Tensor]], like: Tensor) -> Tensor:
        parts = [part.reshape(*like.shape[:-1], -1) for layer in layers for part in layer]
        return torch.cat(parts, -1)


def run_mlp(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """y = LeakyReLU(x W + b) for every layer: (n, K, in) to (n, K, out)."""
    for weight, bias in layers:
        x = F.leaky_relu(torch.baddbmm(bias, x, weight), LEAK, inplace=not torch.is_grad_enabled())
    return x


def _centres(start: int, stop: int, whole: int, device: torch.device) -> Tensor:
    """Coordinates of pixel centres [start, stop) of `whole`, in (-1, 1), float32."""
    index = torch.arange(start, stop, device=device, dtype=torch.float32)
    return (index + 0.5) * (2 / whole) - 1


def _interpolate(values: Tensor, position: Tensor, dim: int) -> Tensor:
    """Linear interpolation of `values` along `dim` at fractional indices, ends held."""
    position = position.clamp(0, values.shape[dim] - 1)
    low = position.floor().long().clamp_max(max(values.shape[dim] - 2, 0))
    high = (low + 1).clamp_max(values.shape[dim] - 1)
    shape = [1] * values.ndim
    shape[dim] = -1
    share = (position - low).view(shape).to(values.dtype)
    return torch.lerp(values.index_select(dim, low), values.index_select(dim, high), share)


@dataclass(frozen=True)
class LocalMlp:
    """HINet's predicted function of one picture: three levels of cell MLPs and a global one.

    maps: a level's parameter vectors, (B, P, gh, gw), coarse to fine. basics: the learnt
    factors of its weights. appearance: (B, Q) parameters of the global MLP. waves (2, n) and
    phases (n): sine position features. table: (1, t, e, e) learnt position features.
    """

    config: HINetConfig
    maps: tuple[Tensor, Tensor, Tensor]
    basics: tuple[tuple[Tensor, ...], ...]
    appearance: Tensor
    appearance_basics: tuple[Tensor, ...]
    waves: Tensor
    phases: Tensor
    table: Tensor
    lut: Tensor

    @property
    def reach(self) -> Reach:
        # One pixel of the next coarser level on each side, at two levels: 4 pixels, and the
        # coarsest level's pixels are 4 x 4, so windows start at multiples of 4.
        return Reach(halo=4, align=4, bytes_per_pixel=16 * self.config.width + 64)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        """Decode the blocks of `window` that meet the mask; elsewhere return the input.

        See `Transform.apply` for shapes and ranges.
        """
        out = self.levels(rgb, mask, window, finest_only=True)[-1]
        return out

    def levels(self, rgb: Tensor, mask: Tensor, window: Window, finest_only: bool) -> list[Tensor]:
        """Harmonised colours of the three levels (1/4, 1/2, 1), [0, 1] nominally.

        Args as `apply`. With `finest_only` the list holds the last level alone.
        """
        needs = [mask > 0]
        pictures = [torch.cat([rgb * 2 - 1, mask], 1)]
        for _ in range(2):
            pictures.append(F.avg_pool2d(pictures[-1], 2, ceil_mode=True, count_include_pad=False))
            need = F.max_pool2d(needs[-1].float(), 2, ceil_mode=True)
            needs.append(F.max_pool2d(need, 3, stride=1, padding=1) > 0)
        prior, outputs = None, []
        for level in range(3):
            shift = 2 - level
            picture, need = pictures[shift], needs[shift]
            coloured = level == 2 or not finest_only
            features, colour = self._level(level, picture, need, prior, window, shift, coloured)
            if colour is not None:
                outputs.append(colour)
            if level < 2:
                h, w = pictures[shift - 1].shape[-2:]
                prior = F.interpolate(
                    features, scale_factor=2, mode="bilinear", align_corners=False
                )[..., :h, :w]
        return outputs

    def _level(
        self,
        level: int,
        picture: Tensor,
        need: Tensor,
        prior: Tensor | None,
        window: Window,
        shift: int,
        coloured: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Run one level on its pixels of the window, block by block."""
        b, _, h, w = picture.shape
        full_h, full_w = -(-window.size.height >> shift), -(-window.size.width >> shift)
        top, left = window.top >> shift, window.left >> shift
        map_ = self.maps[level]
        bh, bw = _block(full_h, map_.shape[2]), _block(full_w, map_.shape[3])
        # Blocks lie on a grid of the whole picture, so that every window sees the same ones.
        before = (left % bw, -(left + w) % bw, top % bh, -(top + h) % bh)
        inputs = picture if prior is None else torch.cat([picture, prior], 1)
        inputs = F.pad(inputs, before)
        rows, columns = inputs.shape[2] // bh, inputs.shape[3] // bw
        blocks = _to_blocks(inputs, bh, bw)  # (B, rows, columns, K, C)
        position = self._position(top - before[2], left - before[0], inputs, full_h, full_w)
        places = _to_blocks(position, bh, bw)  # (1, rows, columns, K, P)
        block_rows = (top // bh + torch.arange(rows, device=picture.device) + 0.5) * bh
        block_columns = (left // bw + torch.arange(columns, device=picture.device) + 0.5) * bw
        cells = _interpolate(map_, block_rows / full_h * map_.shape[2] - 0.5, 2)
        cells = _interpolate(cells, block_columns / full_w * map_.shape[3] - 0.5, 3)
        cells = cells.permute(0, 2, 3, 1)  # (B, rows, columns, P)
        mlp, last = self._shapes(level)
        shared = last.weights(self.appearance, self.appearance_basics)

        if torch.is_grad_enabled() or b > 1:
            n = b * rows * columns
            x = torch.cat([places.expand(b, -1, -1, -1, -1), blocks], -1).flatten(0, 2)
            features = run_mlp(x, mlp.weights(cells.reshape(n, -1), self.basics[level]))
            colour = self._colour(x, features, shared, b) if coloured else None
            features = _from_blocks(features, b, rows, columns, bh, bw)
            colour = _from_blocks(colour, b, rows, columns, bh, bw) if coloured else None
        else:
            wanted = F.pad(need.float(), before)
            wanted = F.max_pool2d(wanted, (bh, bw)).flatten().nonzero().squeeze(1)
            blocks, places = blocks.flatten(0, 2), places.flatten(0, 2)
            cells = cells.flatten(0, 2)
            features = inputs.new_zeros(rows * columns, bh * bw, self.config.width)
            colour = None
            if coloured:
                colour = (blocks[..., :3] + 1) / 2
            for part in wanted.split(max(1, CHUNK_PIXELS // (bh * bw))):
                x = torch.cat([places[part], blocks[part]], -1)
                f = run_mlp(x, mlp.weights(cells[part], self.basics[level]))
                features[part] = f
                if coloured:
                    colour[part] = self._colour(x, f, shared, 1)
            features = _from_blocks(features, 1, rows, columns, bh, bw)
            colour = _from_blocks(colour, 1, rows, columns, bh, bw) if coloured else None
        ys, xs = slice(before[2], before[2] + h), slice(before[0], before[0] + w)
        return features[..., ys, xs], colour[..., ys, xs] if coloured else None

    def _shapes(self, level: int) -> tuple[Modulated, Modulated]:
        return level_mlp(self.config, level), appearance_mlp(self.config)

    def _position(self, top: int, left: int, like: Tensor, full_h: int, full_w: int) -> Tensor:
        """[y, x, sin(waves), table] of a padded window's pixels: (1, P, h, w)."""
        h, w = like.shape[2:]
        y = _centres(top, top + h, full_h, like.device)
        x = _centres(left, left + w, full_w, like.device)
        # sin(a y + b x + c) without a full grid of angles: sum of two products.
        ay = y[:, None] * self.waves[0] + self.phases  # (h, n)
        bx = x[:, None] * self.waves[1]  # (w, n)
        sines = torch.einsum("hn,wn->nhw", ay.sin(), bx.cos())
        sines = sines + torch.einsum("hn,wn->nhw", ay.cos(), bx.sin())
        edge = self.table.shape[-1]
        table = _interpolate(self.table, (y + 1) / 2 * edge - 0.5, 2)
        table = _interpolate(table, (x + 1) / 2 * edge - 0.5, 3)
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij"))
        return torch.cat([grid.unsqueeze(0), sines.unsqueeze(0), table], 1)

    def _colour(
        self, x: Tensor, features: Tensor, shared: list[tuple[Tensor, Tensor]], b: int
    ) -> Tensor:
        """The global MLP: features (n, K, W) of a level to colours (n, K, 3), [0, 1]."""
        n, k, w = features.shape
        f = features.reshape(b, -1, w)
        f = run_mlp(f, shared[:-1])
        weight, bias = shared[-1]
        z = torch.baddbmm(bias, f, weight).view(n, k, 3)
        if not self.config.residual:
            return (torch.tanh(z) + 1) / 2
        c = self.waves.shape[1] + self.table.shape[1] + 2
        rgb = (x[..., c : c + 3] + 1) / 2
        base = lookup(self.lut, rgb.reshape(b, -1, 1, 3).permute(0, 3, 1, 2))
        return base.permute(0, 2, 3, 1).reshape(n, k, 3) + torch.tanh(z / 2)


def _block(pixels: int, cells: int) -> int:
    """Edge of the blocks that share one set of weights: a quarter of a cell, so that the step
    from block to block is a quarter of that from cell to cell; 16 to 64 pixels, no more than
    a cell (smaller blocks cost more in weights than in pixels)."""
    cell = -(-pixels // cells)
    return min(max(pixels // (4 * cells), 16), 64, max(cell, 1))


def _to_blocks(x: Tensor, bh: int, bw: int) -> Tensor:
    """(B, C, h, w) to (B, h / bh, w / bw, bh * bw, C)."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // bh, bh, w // bw, bw).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(b, h // bh, w // bw, bh * bw, c)


def _from_blocks(x: Tensor, b: int, rows: int, columns: int, bh: int, bw: int) -> Tensor:
    """(B * rows * columns, bh * bw, C) to (B, C, rows * bh, columns * bw)."""
    x = x.view(b, rows, columns, bh, bw, -1).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(b, x.shape[1], rows * bh, columns * bw)


def level_mlp(config: HINetConfig, level: int) -> Modulated:
    """The cell MLP of a level (0 coarse to 2 fine): position, colour, mask (and prior) in."""
    inputs = 2 + config.waves + config.table + 4 + (config.width if level else 0)
    return Modulated((inputs, *[config.width] * (config.hidden[level] + 1)), config.rank)


def appearance_mlp(config: HINetConfig) -> Modulated:
    """The global MLP: three hidden layers and the colour."""
    return Modulated((*[config.width] * 4, 3), config.rank)


class HINet(nn.Module):
    """Predicts a LocalMlp, or the auxiliary 3D LUT, from a thumbnail."""

    def __init__(self, config: HINetConfig) -> None:
        super().__init__()
        self.config = config
        self.card = WeightsCard(id="untrained", model="hinet", file="")
        c = config
        self.encoder = CompactEncoder(c.channels, c.blocks, c.code)
        mlps = [level_mlp(c, n) for n in range(3)]
        last = appearance_mlp(c)
        sources = (c.channels[3], c.channels[3], c.channels[2])
        self.local = nn.ModuleList(nn.Conv2d(s, c.hyper, 1) for s in sources)
        self.context = nn.ModuleList(nn.Linear(c.code, c.hyper) for _ in range(3))
        self.hyper = nn.ModuleList(nn.Conv2d(c.hyper, m.length, 1) for m in mlps)
        self.appearance = nn.Linear(c.code, last.length)
        self.tone = nn.Linear(c.code, 3 * POLYNOMIALS)
        self.lut = nn.Linear(c.code, 3 * c.lut**3)
        self.basics = nn.ModuleList(_basics(m, 1.0) for m in [*mlps, last])
        self.waves = nn.Parameter(torch.empty(2, c.waves).uniform_(-(4.5**0.5), 4.5**0.5))
        self.phases = nn.Parameter(torch.zeros(c.waves))
        self.table = nn.Parameter(torch.randn(1, c.table, c.table_edge, c.table_edge) * 0.02)
        self.starts = nn.ParameterList(m.initial() for m in [*mlps, last])
        for head, _ in [*zip(self.hyper, mlps, strict=True), (self.appearance, last)]:
            nn.init.kaiming_normal_(head.weight, nonlinearity="relu")
            with torch.no_grad():
                head.weight.mul_(0.3)
                head.bias.zero_()
        for head in (self.tone, self.lut):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @property
    def thumbnail_edge(self) -> int:
        return self.config.thumbnail

    def predict(self, thumb: Thumbnail) -> LocalMlp:
        """The INR decoder's function for each picture of a batch of thumbnails."""
        return self.predict_both(thumb)[0]

    def predict_lut(self, thumb: Thumbnail) -> Lut3D:
        """The auxiliary 3D LUT (section III-E) for each picture."""
        _, code = self.encoder(thumb.rgb, thumb.mask)
        return self._lut(code)

    def predict_both(self, thumb: Thumbnail) -> tuple[LocalMlp, Lut3D]:
        maps, code = self.encoder(thumb.rgb, thumb.mask)
        lut = self._lut(code)
        params = [
            start[:, None, None] + GAIN * hyper(F.silu(local(m) + context(code)[:, :, None, None]))
            for m, local, context, hyper, start in zip(
                maps, self.local, self.context, self.hyper, self.starts[:3], strict=True
            )
        ]
        basics = [tuple(b) for b in self.basics]
        transform = LocalMlp(
            self.config,
            tuple(params),
            tuple(basics[:3]),
            self.starts[3] + GAIN * self.appearance(code),
            basics[3],
            self.waves,
            self.phases,
            self.table,
            lut.lut,
        )
        return transform, lut

    def _lut(self, code: Tensor) -> Lut3D:
        n = self.config.lut
        basis = polynomials(n).to(code)
        smooth = torch.einsum("bck,kxyz->bcxyz", self.tone(code).view(-1, 3, POLYNOMIALS), basis)
        free = self.lut(code).view(-1, 3, n, n, n)
        return Lut3D(identity_lut(n, device=code.device) + GAIN * smooth + 0.2 * GAIN * free)


@lru_cache
def polynomials(size: int) -> Tensor:
    """Products of Legendre polynomials of total degree 3 or less on a cube of nodes.

    Returns:
        (POLYNOMIALS, size, size, size), indexed [k][r][g][b].
    """
    x = torch.linspace(-1, 1, size)
    one = [torch.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2]
    powers = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]
    return torch.stack([torch.einsum("i,j,k->ijk", one[i], one[j], one[k]) for i, j, k in powers])


def _basics(mlp: Modulated, gain: float) -> nn.ParameterList:
    """Learnt factors, scaled so that tanh(1) * basic keeps the variance of activations."""
    pairs = list(zip(mlp.sizes, mlp.sizes[1:], strict=False))
    return nn.ParameterList(
        torch.randn(a, b) * (gain * math.sqrt(2 / a) / math.tanh(1)) * (0.02 if b == 3 else 1)
        for a, b in pairs
    )


__all__ = ["HINet", "HINetConfig", "LocalMlp"]
