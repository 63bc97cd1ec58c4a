"""A look applied to 16-bit codes with numpy alone: tetrahedral or trilinear, block by block.

A table of n nodes a side divides the cube of colours into cells. Trilinear interpolation weighs
the eight corners of a colour's cell. Tetrahedral interpolation walks from the cell's dark corner
to its light one, along the channel with the largest remainder first, and weighs the four corners
on the way (Kasson, Nin, Plouffe and Hafner 1995, "Performing color space conversions with
three-dimensional linear interpolation"). Both leave the table of the identity exact.

    p = code (n - 1)        place in units of 1/65535 of a cell (behind a shaper, finer)
    q, f = divmod(p, 65535) cell and remainder: whole numbers, nothing is rounded

Shapes: n nodes a side, m entries of a shaper, N colours.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hzcli.core.codes import BLOCK, WHITE, blocks

if TYPE_CHECKING:
    from hzcli.core.native import Native

Interpolation = Literal["tetrahedral", "trilinear"]
Domain = tuple[tuple[float, float, float], tuple[float, float, float]]

INTERPOLATIONS: tuple[Interpolation, ...] = ("tetrahedral", "trilinear")
UNIT: Domain = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_STEP_BITS = 13  # under which a step of up to 90 * 90 nodes is packed below a remainder
_PACKED_SIZE = 90


def interpolate(
    table: np.ndarray, colours: np.ndarray, interpolation: Interpolation = "tetrahedral"
) -> np.ndarray:
    """The table's answer to colours, as numbers.

    Args:
        table: (n, n, n, 3), indexed [r][g][b].
        colours: (..., 3), [0, 1]; held there.

    Returns:
        (..., 3), float64, not clamped.
    """
    n = table.shape[0]
    nodes = table.reshape(-1, 3).astype(np.float64)
    place = np.clip(colours.reshape(-1, 3).astype(np.float64), 0, 1) * (n - 1)
    cell = np.minimum(place.astype(np.int64), max(n - 2, 0))
    rest = place - cell
    steps = np.array([n * n, n, 1])
    first = cell @ steps
    if interpolation == "trilinear":
        out = np.zeros((len(first), 3))
        for corner in np.ndindex(2, 2, 2):
            share = np.where(corner, rest, 1 - rest).prod(axis=1)
            out += share[:, None] * nodes[first + np.dot(corner, steps)]
        return out.reshape(colours.shape)
    order = np.argsort(-rest, axis=1, kind="stable")
    sorted_rest = np.take_along_axis(rest, order, axis=1)
    weights = -np.diff(sorted_rest, axis=1, prepend=1, append=0)
    walk = np.zeros((len(first), 4), np.int64)
    walk[:, 1:] = np.cumsum(steps[order], axis=1)
    path = first[:, None] + walk
    return np.einsum("nk,nkc->nc", weights, nodes[path]).reshape(colours.shape)


def interpolate_1d(curve: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Curves (m, 3) at places (..., 3), [0, 1] and held there: (..., 3), float64."""
    knots = np.linspace(0, 1, len(curve))
    parts = [np.interp(places[..., c], knots, curve[:, c]) for c in range(3)]
    return np.stack(parts, axis=-1)


def in_domain(colours: np.ndarray, domain: Domain) -> np.ndarray:
    """Colours as places in a domain, 0 at its lower end and 1 at its upper one; held there."""
    low, high = (np.asarray(end, np.float64) for end in domain)
    return np.clip((colours - low) / (high - low), 0, 1)


def shaped_codes(shaper: np.ndarray | None, domain: Domain) -> np.ndarray | None:
    """What each 16-bit code of each channel becomes before a table, or instead of one.

    Args:
        shaper: (m, 3), or None for none. domain: what it, or else the table, spans.

    Returns:
        (65536, 3), float64; None where nothing happens.
    """
    if shaper is None and domain == UNIT:
        return None
    every = np.repeat(np.arange(WHITE + 1)[:, None] / WHITE, 3, axis=1)
    places = in_domain(every, domain)
    return places if shaper is None else interpolate_1d(shaper, places)


class CodedLook:
    """A look prepared for 16-bit codes. Threads may share it.

    Args:
        table: (n, n, n, 3), indexed [r][g][b].
        shaper: (m, 3), applied first; its values are places in the table, 0 to 1. None: none.
        domain: colours that the first of them spans.
        interpolation: in the table; a shaper is always linear between its entries.
    """

    def __init__(
        self,
        table: np.ndarray,
        shaper: np.ndarray | None = None,
        domain: Domain = UNIT,
        interpolation: Interpolation = "tetrahedral",
    ) -> None:
        self._interpolation = interpolation
        shaped = shaped_codes(shaper, domain)
        self._given = table, interpolation, shaped
        n = self._size = table.shape[0]
        packed = shaped is None and n <= _PACKED_SIZE
        self._int = np.int32 if packed else np.int64
        self._shift = self._int(_STEP_BITS if packed else 32)
        # A shaper's places are no whole numbers: they are rounded 256 times finer.
        self._unit = self._int(WHITE if shaped is None else WHITE << 8)
        planes = np.moveaxis(table, -1, 0).reshape(3, -1) * np.float32(WHITE / self._unit)
        self._planes = np.ascontiguousarray(planes, np.float32)
        self._places: np.ndarray | None = None
        if shaped is not None:
            exact = np.clip(shaped.T, 0, 1) * (int(self._unit) * (n - 1))
            self._places = np.rint(exact).astype(self._int)

    def apply(self, codes: np.ndarray, out: np.ndarray) -> None:
        """As `hzcli.core.codes.Coded.apply`."""
        work = _Work(min(BLOCK, codes.shape[0] * codes.shape[1]), self._int)
        for part in blocks(codes.shape[0], codes.shape[1], BLOCK):
            self._block(codes[part], out[part], work)

    def colours(self, codes: np.ndarray) -> np.ndarray:
        """As `hzcli.core.codes.Coded.colours`."""
        out = np.empty((3, len(codes)), np.float32)
        work = _Work(min(BLOCK, len(codes)), self._int)
        for start in range(0, len(codes), BLOCK):
            these = slice(start, start + BLOCK)
            out[:, these] = self._look_up(codes[these].T, work)
        return out.T

    @cached_property
    def native(self) -> Native | None:
        """As `hzcli.core.codes.Coded.native`."""
        from hzcli.core import native

        return native.table(*self._given)

    def _block(self, codes: np.ndarray, out: np.ndarray, work: _Work) -> None:
        # Channel by channel: numpy is three times slower on (h, w, 3) seen as (3, h, w).
        shape = codes.shape[:2]
        count = shape[0] * shape[1]
        for c in range(3):
            np.copyto(work.codes[c, :count].reshape(shape), codes[..., c])
        new = _as_codes(self._look_up(work.codes[:, :count], work))
        for c in range(3):
            out[..., c] = new[c].reshape(shape)

    def _look_up(self, codes: np.ndarray, work: _Work) -> np.ndarray:
        """Codes (3, N) to results (3, N) float32, in codes; part of `work`."""
        n, whole, count = self._size, self._int, codes.shape[1]
        place, cell = work.place[:, :count], work.cell[:, :count]
        if self._places is None:
            np.multiply(codes, whole(n - 1), out=place, dtype=whole)
        else:
            for c in range(3):
                place[c] = self._places[c][codes[c]]
        if whole is np.int32:
            # p // 65535 without a division. At a node it gives the cell below, with all of a cell
            # as remainder: the same place.
            np.right_shift(place, 16, out=cell)
            cell += place
            cell >>= 16
        else:
            np.floor_divide(place, self._unit, out=cell)
        first = work.first[:count]
        np.multiply(cell[0], whole(n), out=first)
        first += cell[1]
        first *= whole(n)
        first += cell[2]
        cell *= self._unit
        place -= cell
        if self._interpolation == "trilinear":
            return self._trilinear(first, place, work)
        return self._tetrahedral(first, place, work)

    def _tetrahedral(self, first: np.ndarray, rest: np.ndarray, work: _Work) -> np.ndarray:
        n, shift, count = self._size, self._shift, len(first)
        # The step to the next node of a channel travels below its remainder through the sort.
        keys = rest
        keys <<= shift
        keys += np.array([[n * n], [n], [1]], self._int)
        most, least, corner = work.cell[:, :count]
        np.maximum(keys[0], keys[1], out=most)
        np.minimum(keys[0], keys[1], out=least)
        np.maximum(most, keys[2], out=most)
        np.minimum(least, keys[2], out=least)
        middle = keys[0]
        middle += keys[1]
        middle += keys[2]
        middle -= most
        middle -= least
        middle >>= shift
        low_bits = (self._int(1) << shift) - self._int(1)
        np.bitwise_and(most, low_bits, out=corner)
        corner += first
        most >>= shift
        self._add(first, np.subtract(self._unit, most, out=keys[1]), work, start=True)
        self._add(corner, np.subtract(most, middle, out=keys[1]), work)
        first += self._int(n * n + n + 1)
        np.bitwise_and(least, low_bits, out=corner)
        np.subtract(first, corner, out=corner)
        least >>= shift
        self._add(corner, np.subtract(middle, least, out=keys[1]), work)
        return self._add(first, least, work)

    def _trilinear(self, first: np.ndarray, rest: np.ndarray, work: _Work) -> np.ndarray:
        n, count = self._size, len(first)
        shares = work.shares[:, :, :count]
        low, high = shares
        np.multiply(rest, np.float32(1 / self._unit), out=high, casting="unsafe")
        np.subtract(1, high, out=low)
        shares[:, 2] *= np.float32(self._unit)
        corner, weight = work.cell[0, :count], work.weight[:count]
        for r, g, b in np.ndindex(2, 2, 2):
            np.add(first, self._int(r * n * n + g * n + b), out=corner)
            np.multiply(shares[r, 0], shares[g, 1], out=weight)
            weight *= shares[b, 2]
            out = self._add(corner, weight, work, start=r + g + b == 0)
        return out

    def _add(
        self, corner: np.ndarray, weight: np.ndarray, work: _Work, *, start: bool = False
    ) -> np.ndarray:
        """Add weight times the table at corner; the weights of a colour add up to a unit."""
        count = len(corner)
        at, share, out, value = work.at[:count], work.share[:count], *work.sums[:, :, :count]
        np.copyto(at, corner)
        np.copyto(share, weight, casting="unsafe")
        into = out if start else value
        for c in range(3):
            # Beyond the last node the weight is 0, and any node will do.
            np.take(self._planes[c], at, out=into[c], mode="wrap")
            into[c] *= share
        if not start:
            out += value
        return out


class _Work:
    """Arrays that every block of `count` colours uses again: fresh memory costs more than sums."""

    def __init__(self, count: int, whole: Any) -> None:
        self.codes = np.empty((3, count), np.uint16)
        self.place, self.cell = np.empty((2, 3, count), whole)
        self.first = np.empty(count, whole)
        self.at = np.empty(count, np.intp)
        self.shares = np.empty((2, 3, count), np.float32)
        self.weight, self.share = np.empty((2, count), np.float32)
        self.sums = np.empty((2, 3, count), np.float32)


def _as_codes(values: np.ndarray) -> np.ndarray:
    """Numbers in codes, changed on the way, to the nearest codes."""
    values += np.float32(0.5)  # and cut off below
    np.clip(values, 0, WHITE, out=values)
    return values.astype(np.uint16)
