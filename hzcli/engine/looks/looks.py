"""A picture's look: what a model does to its colours, as a table or as curves.

Where a Transform is a table or curves, its look is that, exactly. Elsewhere one is fitted to the
foreground: pixels are gathered by colour into bins, and the table that comes nearest to what
becomes of each bin is smooth, follows the colours seen where there are none, and never lets a
lighter grey become a darker one. What a table cannot say is what becomes of one colour at two
places; the residual tells how much of that there is.

Shapes: n nodes a side, K knots a curve, N pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hzcli.core import lut, tetra
from hzcli.core.curves import Curves
from hzcli.core.lut import Lut3D, fit_lut
from hzcli.core.transform import Transform
from hzcli.engine.looks import spaces
from hzcli.engine.looks.foreground import Foreground, Part
from hzcli.engine.looks.residual import BINS, Residual, binned
from hzcli.engine.looks.spaces import SRGB, Space

FIT_SIZE = 33  # nodes a side of a fitted table, at least
BEYOND = 0.25  # how far a model's colours may leave [0, 1] before a fit holds them
RISE = 0.1  # of greys, at least, by that of the identity
PURE = 0.25  # difference of channels from which on a colour is no grey at all
BLOCK = 1 << 16  # pixels measured at once
GUARDED = 3  # looks from which on a merge knows an outlier
CUT = 6.0  # of the looks' median distance, where an outlier counts no more (Tukey's biweight)
CLOSE = 2 / 255  # distance at which looks count as alike


@dataclass(frozen=True)
class PictureLook:
    """sRGB-encoded colours to such, at full strength, not clamped.

    table: (n, n, n, 3) float64, indexed [r][g][b], interpolated trilinearly; or
    knots, places: (3, K) each, a curve a channel.
    exact: whether the model itself holds this. weight: foreground pixels behind it.
    """

    table: np.ndarray | None = None
    knots: np.ndarray | None = None
    places: np.ndarray | None = None
    exact: bool = False
    weight: int = 0

    @property
    def nodes(self) -> int:
        """Nodes a side of the table, or knots of the curves."""
        held = self.knots[0] if self.knots is not None else self.table
        assert held is not None
        return len(held)

    @property
    def even(self) -> bool:
        """Whether this is curves with equidistant knots."""
        if self.places is None:
            return False
        return bool(np.abs(self.places - np.linspace(0, 1, self.nodes)).max() < 1e-12)

    def __call__(self, colours: np.ndarray) -> np.ndarray:
        if self.knots is not None and self.places is not None:
            channels = zip(np.moveaxis(colours, -1, 0), self.places, self.knots, strict=True)
            return np.stack([np.interp(x, p, k) for x, p, k in channels], axis=-1)
        assert self.table is not None, "a look is a table or curves"
        return tetra.interpolate(self.table, colours, "trilinear")


# --- Finding it -------------------------------------------------------------------------------


def look_of(seen: Foreground, size: int = FIT_SIZE) -> PictureLook:
    """What a model does to a picture's colours.

    Args:
        seen: the picture and what is to be done with it.
        size: nodes a side of a fitted table; a smaller one is made with FIT_SIZE.

    Returns:
        The look; exact where the Transform is a table or curves. Where it builds on a table of
        the model's own, only the difference from that is fitted.
    """
    held = _held(seen.transform)
    if held is not None:
        return PictureLook(**held, exact=True, weight=seen.inside)
    size = max(size, FIT_SIZE)
    base = _base(seen, size)
    bins = Bins()
    for part in seen.parts():
        bins.add(part, None if base is None else base(part.rgb))
    table = fitted(*bins.samples(), size)
    if base is not None:
        nodes = spaces.nodes(len(table))
        table = base(nodes) + table - nodes
    return PictureLook(table=rising_greys(table), weight=seen.inside)


def _held(transform: Transform) -> dict[str, np.ndarray] | None:
    """The table or the curves that a Transform of one picture is."""
    if isinstance(transform, Lut3D):
        return {"table": transform.lut[0].permute(1, 2, 3, 0).cpu().double().numpy()}
    if isinstance(transform, Curves):
        knots = transform.knots[0].cpu().double().numpy()
        if transform.places is None:
            places = np.broadcast_to(np.linspace(0, 1, knots.shape[1]), knots.shape)
        else:
            places = transform.places[0].cpu().double().numpy()
        return {"knots": knots, "places": places}
    return None


def _base(seen: Foreground, size: int) -> PictureLook | None:
    """The table of the model's own that the Transform builds on, if its nodes are among the
    new ones: its bends between them would be lost, and a smooth fit is nearer without."""
    held = None if seen.table is None else _held(seen.table)
    if held is None or (size - 1) % (len(held["table"]) - 1):
        return None
    return PictureLook(**held)  # type: ignore[arg-type]


class Bins:
    """Pixels by the colour of their source: how many there are, and how they change."""

    def __init__(self, size: int = BINS) -> None:
        self._size = size
        # Weight, source (3) and change (3), each weighted.
        self._sums = np.zeros((7, size, size, size))

    def add(self, part: Part, expected: np.ndarray | None = None) -> None:
        """Count pixels in, by their mask; changes are from `expected` (N, 3), or the source."""
        index = binned(part.rgb, self._size)
        start = part.rgb if expected is None else expected
        change = np.clip(part.result, -BEYOND, 1 + BEYOND) - start
        values = (np.ones(len(index)), *part.rgb.T, *change.T)
        for sums, value in zip(self._sums, values, strict=True):
            sums += np.bincount(index, part.soft * value, self._size**3).reshape(sums.shape)

    def samples(self, most: int = lut.PIXELS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean source (N, 3), mean result (N, 3) and weight (N,) of bins with pixels in them,
        which are made larger until there are no more than `most`."""
        sums = self._sums
        while np.count_nonzero(sums[0]) > most:
            half = sums.shape[1] // 2
            sums = sums.reshape(7, half, 2, half, 2, half, 2).sum((2, 4, 6))
        full = sums[0] > 0
        weight = sums[0][full]
        source, change = sums[1:4, full].T / weight[:, None], sums[4:, full].T / weight[:, None]
        return source, source + change, weight


def fitted(source: np.ndarray, target: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """The smooth table nearest to turning colours (N, 3) into others.

    Returns:
        (n, n, n, 3) float64, indexed [r][g][b].
    """
    rgb, new = (torch.from_numpy(x.T.copy())[None, :, None] for x in (source, target))
    table = fit_lut(rgb, new, torch.from_numpy(weight.copy())[None, None, None], size)
    return table[0].permute(1, 2, 3, 0).numpy()


def rising_greys(table: np.ndarray) -> np.ndarray:
    """The table with greys that become lighter where they were lighter.

    Along the diagonal of a cell trilinear interpolation is a cubic whose control points are the
    means of the nodes with 0, 1, 2 and 3 steps up, and tetrahedral interpolation is the straight
    line between the first and the last: if these rise from cell to cell, so do both. Nodes with
    i + j + k steps from black belong to no other control point, hence what one lacks is added to
    them, and less to the colours around them.
    """
    n = table.shape[0]
    index = np.stack(np.broadcast_arrays(*np.ogrid[:n, :n, :n]), axis=-1)
    steps = index.sum(-1)
    apart = index.max(-1) - index.min(-1)
    grey = apart <= 1
    counts = np.bincount(steps[grey])
    control = [np.bincount(steps[grey], table[grey][:, c]) / counts for c in range(3)]
    slope = RISE * np.arange(len(counts)) / (len(counts) - 1)
    lacking = np.stack([_rising(y - slope) - (y - slope) for y in control], axis=-1)
    if not lacking.any():
        return table
    near = np.clip(1 - np.maximum(apart - 1, 0) / (n - 1) / PURE, 0, 1) ** 2
    return table + near[..., None] * lacking[steps]


def _rising(values: np.ndarray) -> np.ndarray:
    """The nearest values that never fall (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        pools.append((mean, count))
    return np.repeat([mean for mean, _ in pools], [count for _, count in pools])


# --- Several pictures -------------------------------------------------------------------------


def merged(looks: Sequence[PictureLook], size: int = FIT_SIZE) -> tuple[PictureLook, list[float]]:
    """One look for several pictures: their mean, weighted by foreground pixels.

    From three looks on, those far from the others (from the median of each node, by the median
    of all such distances) count less, and not at all beyond CUT times it.

    Returns:
        The look, and how much each one counted, 0 to 1, its pixels aside.
    """
    size = max(size, FIT_SIZE, *(len(look.table) for look in looks if look.table is not None))
    nodes = spaces.nodes(size)
    tables = np.stack([look(nodes).astype(np.float32) for look in looks])
    trust = np.ones(len(looks))
    if len(looks) >= GUARDED:
        coarse = tables[:, ::2, ::2, ::2]  # enough to know an outlier by
        away = np.sqrt(((coarse - np.median(coarse, axis=0)) ** 2).mean((1, 2, 3, 4)))
        scale = max(float(np.median(away)), CLOSE)
        trust = np.clip(1 - (away / (CUT * scale)) ** 2, 0, None) ** 2
    weights = trust * [max(look.weight, 1) for look in looks]
    table = np.tensordot(weights / weights.sum(), tables, 1).astype(np.float64)
    return PictureLook(table=table, weight=sum(look.weight for look in looks)), trust.tolist()


# --- Writing it down --------------------------------------------------------------------------


def table_of(
    look: PictureLook, size: int, *, space: Space = SRGB, strength: float = 1, clamp: bool = False
) -> np.ndarray:
    """A look as the table that a host is given: (n, n, n, 3) float64, indexed [r][g][b]."""
    table = spaces.tabulated(_weaker(look, strength), size, space)
    return np.clip(table, 0, 1) if clamp else table


def curves_of(
    look: PictureLook, size: int, *, strength: float = 1, clamp: bool = False
) -> np.ndarray:
    """A look that is curves, as a table of one dimension: (n, 3) float64."""
    x = np.broadcast_to(np.linspace(0, 1, size)[:, None], (size, 3))
    curves = _weaker(look, strength)(x)
    return np.clip(curves, 0, 1) if clamp else curves


def _weaker(look: PictureLook, strength: float) -> spaces.Colours:
    if strength == 1:
        return look
    # As a picture is: the model's colours are held in [0, 1] before they are mixed in.
    return lambda x: x + strength * (np.clip(look(x), 0, 1) - x)


def residual_of(
    seen: Foreground,
    delivered: np.ndarray,
    *,
    interpolation: tetra.Interpolation = "tetrahedral",
    space: Space = SRGB,
    strength: float = 1,
) -> dict[str, Any]:
    """How far a host's picture is from hz's, over the pixels with mask > 0.

    Args:
        seen: the picture and what hz does with it.
        delivered: what the host is given: (n, n, n, 3), or curves (n, 3).
        interpolation: how it reads a table. space: where. strength: as `delivered` has it.

    Returns:
        Figures as `Residual` gives them.
    """
    residual = Residual()
    for part in seen.parts():
        for start in range(0, len(part.rgb), BLOCK):
            these = slice(start, start + BLOCK)
            rgb = part.rgb[these].astype(np.float64)
            soft = part.soft[these, None].astype(np.float64)
            wanted = rgb + strength * soft * (np.clip(part.result[these], 0, 1) - rgb)
            given = np.clip(spaces.convert(rgb, SRGB, space), 0, 1)
            if delivered.ndim == 2:
                found = tetra.interpolate_1d(delivered, given)
            else:
                found = tetra.interpolate(delivered, given, interpolation)
            found = spaces.convert(np.clip(found, 0, 1), space, SRGB)
            residual.add(wanted, rgb + soft * (found - rgb), rgb)
    return residual.figures()
