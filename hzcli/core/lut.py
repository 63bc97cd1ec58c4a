"""Three-dimensional lookup tables."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.transform import Reach
from hzcli.core.window import Window


def identity_lut(size: int, *, device: torch.device | str = "cpu") -> Tensor:
    """The table that changes nothing: (3, n, n, n), indexed [channel][r][g][b]."""
    axis = torch.linspace(0, 1, size, device=device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def lookup(lut: Tensor, rgb: Tensor) -> Tensor:
    """Trilinear lookup, clamped to the table's border.

    Args:
        lut: (B, 3, n, n, n), indexed [batch][channel][r][g][b].
        rgb: (B, 3, h, w), [0, 1].

    Returns:
        (B, 3, h, w); not clamped.
    """
    # grid_sample wants the last axis of the table (b) as x, the first (r) as z.
    grid = (rgb.flip(1).movedim(1, -1) * 2 - 1).unsqueeze(1)
    out = F.grid_sample(lut, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return out.squeeze(2)


@dataclass(frozen=True)
class Lut3D:
    """A position-free recolouring by one table per picture, (B, 3, n, n, n)."""

    lut: Tensor

    @property
    def reach(self) -> Reach:
        return Reach(bytes_per_pixel=48)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        del mask, window
        return lookup(self.lut, rgb)


# --- A table fitted to pixels ---------------------------------------------------------------

PIXELS = 4096  # of a picture that the fit looks at, at most
AFFINE_PULL = 1e-4  # towards the identity, against a variance of colours of 0.001 to 0.1
BEND = 2e-6  # weight of the table's squared curvature against the mean squared error
PULL = 1e-5  # of the table towards the affine fit, where there are no colours
STEPS = 16  # of conjugate gradients at each of the sizes, coarse to fine


def fit_lut(source: Tensor, target: Tensor, weight: Tensor, size: int = 17) -> Tensor:
    """The smooth table that comes nearest to turning `source` into `target`.

    Minimises, over an affine map and then over the table's difference from it,

        sum_i w_i |T(s_i) - t_i|^2 / sum_i w_i  +  BEND |second differences|^2  +  PULL |T - A|^2

    so that colours that do not occur follow those that do, and far from all of them the affine
    map A, itself pulled to the identity in directions in which the colours do not differ.

    Args:
        source, target: (B, 3, h, w), [0, 1]; more than PIXELS pixels are thinned out evenly.
        weight: (B, 1, h, w), 0 or more; where it is 0 throughout, the result is the identity.
        size: n, nodes a side, 2 or more.

    Returns:
        (B, 3, n, n, n), indexed [channel][r][g][b], not clamped; of `source`'s type and device.
    """
    tables = [
        _fit_one(s.flatten(1).T, t.flatten(1).T, w.flatten(), size)
        for s, t, w in zip(source, target, weight, strict=True)
    ]
    return torch.stack(tables).to(source)


def _fit_one(s: Tensor, t: Tensor, w: Tensor, size: int) -> Tensor:
    """Colours (N, 3), (N, 3) and weights (N,) to a table (3, n, n, n), float64, on the CPU."""
    kept = w.nonzero().squeeze(1)
    kept = kept[:: -(-len(kept) // PIXELS) or 1]
    # On the CPU: float64 is not to be had everywhere, and sums there have a fixed order.
    s, t, w = (x[kept].detach().cpu().double() for x in (s.clamp(0, 1), t, w))
    n, table = min(size, 3), torch.zeros(3, 0, 0, 0, dtype=torch.float64)
    if not len(kept):
        return identity_lut(size).double()
    w = w / w.sum()
    affine = _fit_affine(s, t, w)  # (4, 3)
    rest = t - (s @ affine[:3] + affine[3])
    while True:
        start = _enlarge(table, n)
        table = _Fit(s, w, n).solve(rest, start)
        if n == size:
            break
        n = min(2 * n - 1, size)
    nodes = identity_lut(size).double()
    return torch.einsum("kxyz,kc->cxyz", nodes, affine[:3]) + affine[3].view(3, 1, 1, 1) + table


def _fit_affine(s: Tensor, t: Tensor, w: Tensor) -> Tensor:
    """Ridge regression of colours, about their means: (4, 3), matrix above offset."""
    mean_s, mean_t = w @ s, w @ t
    ds, dt = s - mean_s, t - mean_t
    eye = torch.eye(3, dtype=s.dtype)
    left = ds.T @ (w[:, None] * ds) + AFFINE_PULL * eye
    right = ds.T @ (w[:, None] * dt) + AFFINE_PULL * eye
    matrix = torch.linalg.solve(left, right)
    return torch.cat([matrix, (mean_t - mean_s @ matrix)[None]])


def _enlarge(table: Tensor, size: int) -> Tensor:
    """A table at more nodes, trilinear; an empty one becomes zeros."""
    if table.numel() == 0:
        return torch.zeros(3, size, size, size, dtype=table.dtype)
    return F.interpolate(table[None], (size,) * 3, mode="trilinear", align_corners=True)[0]


class _Fit:
    """The quadratic form of `fit_lut` for tables of n nodes a side, and its minimum."""

    def __init__(self, s: Tensor, w: Tensor, size: int) -> None:
        self.size, self.w = size, w
        place = s * (size - 1)
        low = place.floor().clamp(max=size - 2)
        part = place - low  # (N, 3)
        corners = torch.cartesian_prod(*[torch.arange(2)] * 3)  # (8, 3)
        steps = torch.tensor([size * size, size, 1])
        self.index = ((low.long()[:, None] + corners) * steps).sum(2)  # (N, 8)
        self.share = torch.where(corners == 1, part[:, None], 1 - part[:, None]).prod(2)
        eye = torch.eye(size, dtype=s.dtype)
        slope, bend = eye.diff(dim=0), eye.diff(n=2, dim=0)
        # A curvature c is a second difference of c / (n - 1)^2 at each of n^3 nodes.
        self.slope = slope.T @ slope
        self.bend = bend.T @ bend
        self.stiff = BEND * (size - 1) ** 4 / size**3
        self.pull = PULL / size**3

    def _spread(self, values: Tensor) -> Tensor:
        """Values at pixels (N, 3), weighted, added to the nodes: (n^3, 3)."""
        parts = self.share[..., None] * (self.w[:, None] * values)[:, None]
        zeros = torch.zeros(self.size**3, 3, dtype=values.dtype)
        return zeros.index_add_(0, self.index.flatten(), parts.flatten(0, 1))

    def _times(self, table: Tensor) -> Tensor:
        """The quadratic form's matrix times a table (n^3, 3)."""
        read = (table[self.index] * self.share[..., None]).sum(1)
        return self._spread(read) + self._smooth(table)

    def _smooth(self, table: Tensor) -> Tensor:
        cube = table.view(self.size, self.size, self.size, 3)

        def along(axis: int, matrix: Tensor, x: Tensor) -> Tensor:
            return torch.tensordot(matrix, x, dims=([1], [axis])).movedim(0, axis)

        gb = along(2, self.slope, cube)
        r = along(0, self.bend, cube) + 2 * along(0, self.slope, along(1, self.slope, cube) + gb)
        g = along(1, self.bend, cube) + 2 * along(1, self.slope, gb)
        b = along(2, self.bend, cube)
        return (self.stiff * (r + g + b) + self.pull * cube).reshape(-1, 3)

    def _diagonal(self) -> Tensor:
        """The matrix's diagonal (n^3, 1)."""
        data = torch.zeros(self.size**3, dtype=self.w.dtype)
        data.index_add_(0, self.index.flatten(), (self.w[:, None] * self.share**2).flatten())
        bend, slope = self.bend.diagonal(), self.slope.diagonal()
        sums = bend[:, None, None] + bend[:, None] + bend
        pairs = slope[:, None] * slope
        twists = pairs[:, :, None] + pairs[:, None, :] + pairs[None]
        return (data + (self.stiff * (sums + 2 * twists) + self.pull).flatten())[:, None]

    def solve(self, rest: Tensor, start: Tensor) -> Tensor:
        """Conjugate gradients with the diagonal as preconditioner.

        Args:
            rest: (N, 3), what the table should say at the pixels. start: (3, n, n, n).
        """
        x = start.flatten(1).T.contiguous()
        scale = 1 / self._diagonal()
        left = self._spread(rest) - self._times(x)
        step = scale * left
        energy = (left * step).sum(0)
        for _ in range(STEPS):
            image = self._times(step)
            length = energy / (step * image).sum(0).clamp_min(1e-300)
            x = x + length * step
            left = left - length * image
            after = (left * scale * left).sum(0)
            step = scale * left + after / energy.clamp_min(1e-300) * step
            energy = after
        return x.T.unflatten(1, (self.size,) * 3)
