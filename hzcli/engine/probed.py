"""A profile's way to linear sRGB, asked of Little CMS once and then computed much faster.

Most profiles are three curves and a matrix. Which ones is not read from the profile: single
channels are sent through Little CMS in float, curves and matrix are taken from its answers, and
the two must then agree on colours mixed at random. Where they do not, the profile is made of
tables, and Little CMS itself converts every pixel.

A curve is the nearest of the known ones (a power, or a power with a straight beginning), in
closed form, and where it is not that curve exactly a table of how far it bends away. Colours
beyond [0, 1] follow the closed form; below 0 curves are mirrored, as in IEC 61966-2-2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hzcli.io import profiles

CODES = 65535
# Curves that differ from a closed form by less than this, in 16-bit codes, are it: profiles
# hold numbers in 65536ths, and the two halves of sRGB's curve then miss each other by most of
# a code.
_NEAR, _SAME = 1.0, 0.1
# A model whose colours differ from Little CMS's by more, in 16-bit codes of sRGB, is none.
_AGREES = 2.0
# A curve that does not come back within this is flat somewhere.
_RETURNS = 0.05
# Each channel alone, then greys, is sampled at these codes first.
_COARSE = np.append(np.arange(0, CODES, 64), CODES)


@dataclass(frozen=True)
class Curve:
    """From numbers to light: (a x + b)^g from d on, c x below, after a bend of the numbers.

    bend, unbend: (65536,) float64, what is added to numbers before the curve and to its inverse
    afterwards, over [0, 1]; None where the closed form is exact.
    """

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 1.0
    d: float = 0.0
    bend: Tensor | None = None
    unbend: Tensor | None = None

    @property
    def _meets(self) -> float:
        """The power where it meets the straight beginning."""
        return (self.a * self.d + self.b) ** self.g

    def decode(self, numbers: Tensor) -> Tensor:
        """Numbers of any shape, float32 or float64, to light."""
        x = _bent(numbers.abs(), self.bend)
        # Least and greatest in the place of a choice, which takes longer than both powers.
        low = x.clamp(max=self.d).mul_(self.c) if self.d else None
        if self.d:
            x.clamp_(min=self.d)
        if (self.a, self.b) != (1.0, 0.0):
            x.mul_(self.a).add_(self.b)
        if self.g != 1:
            _power_(x, self.g)
        if low is not None:
            x.add_(low).sub_(self._meets)
        return x.copysign_(numbers)

    def encode(self, light: Tensor) -> Tensor:
        """The inverse."""
        x = light.abs()
        corner = self.c * self.d
        low = x.clamp(max=corner).mul_(1 / self.c) if self.d else None
        if self.d:
            x.clamp_(min=corner).add_(self._meets - corner)
        if self.g != 1:
            _power_(x, 1 / self.g)
        if (self.a, self.b) != (1.0, 0.0):
            x.sub_(self.b).div_(self.a)
        if low is not None:
            x.sub_(self.d).add_(low)
        return _bent(x, self.unbend).copysign_(light)


def _power_(x: Tensor, exponent: float) -> None:
    """x ** exponent in place, for x >= 0: three times as fast as `pow`, as exact in its range."""
    x.log2_().mul_(exponent).exp2_()


def _bent(x: Tensor, table: Tensor | None) -> Tensor:
    """x plus what a table over [0, 1] says there, linearly between its entries."""
    if table is None:
        return x
    at = x.clamp(0, 1).mul_(len(table) - 1).nan_to_num_(0.0)
    cell = at.to(torch.int32).clamp_(max=len(table) - 2)
    at -= cell
    table = table.to(x.dtype)
    flat = cell.reshape(-1)
    first = table.index_select(0, flat).view(x.shape)
    after = table.index_select(0, flat + 1).view(x.shape)
    return x + first.lerp_(after, at)


SRGB = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# IEC 61966-2-1; ISO 22028-2 (ROMM); ITU-R BT.709 undone, and BT.2020 with its finer numbers;
# CIE L*.
_KNOWN = (
    SRGB,
    Curve(1.8, 1.0, 0.0, 1 / 16, 1 / 32),
    Curve(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081),
    Curve(1 / 0.45, 1 / 1.0993, 0.0993 / 1.0993, 1 / 4.5, 0.08145),
    Curve(3.0, 1 / 1.16, 0.16 / 1.16, 1 / 9.033, 0.08),
)


def _stored(curve: Curve) -> Curve:
    """As a profile can hold it: numbers in 65536ths, and light that is 1 at 1 again."""
    g, a, b, c, d = (
        round(v * 65536) / 65536 for v in (curve.g, curve.a, curve.b, curve.c, curve.d)
    )
    return Curve(g, a / (a + b), b / (a + b), c / (a + b) ** g, d)


@dataclass(frozen=True)
class Shaper:
    """Linear sRGB = matrix @ curves(numbers) + offset.

    curves: one for each channel. matrix: (3, 3), offset: (3, 1), float64. exact: whether the way
    there and back gives every 16-bit code again.
    """

    curves: tuple[Curve, Curve, Curve]
    matrix: Tensor
    offset: Tensor
    exact: bool

    def light(self, numbers: Tensor) -> Tensor:
        """(3, n) numbers, float32 or float64, to linear sRGB."""
        found = self.matrix.to(numbers.dtype) @ self._each(numbers, False)
        return found.add_(self.offset.to(found.dtype)) if self.offset.any() else found

    def numbers(self, light: Tensor) -> Tensor:
        """The inverse."""
        back = torch.linalg.inv(self.matrix).to(light.dtype)
        if self.offset.any():
            light = light - self.offset.to(light.dtype)
        return self._each(back @ light, True)

    def _each(self, values: Tensor, encode: bool) -> Tensor:
        first = self.curves[0]
        if all(curve is first for curve in self.curves):
            return first.encode(values) if encode else first.decode(values)
        rows = zip(self.curves, values, strict=True)
        return torch.stack([c.encode(row) if encode else c.decode(row) for c, row in rows])


@lru_cache(maxsize=16)
def shaper(icc: bytes, intent: str) -> Shaper | None:
    """Curves and matrix of an RGB or a grey profile, or None if it has others than these.

    Raises:
        PictureError: Little CMS cannot convert from it.
    """
    if profiles.describe(icc).model == "lut":
        return None
    linear = profiles.profile("linear")
    grey = icc[16:20] == b"GRAY"

    def ask(codes: np.ndarray) -> np.ndarray:
        """(n, 3) linear sRGB of (n, 3) codes, in float64."""
        values = (codes / CODES).astype(np.float32)
        values = values[:, :1] if grey else values
        return profiles.transform(values, icc, linear, intent).astype(np.float64)

    ends = ask(np.vstack([np.zeros(3), np.eye(3) * CODES]))
    black, columns = ends[0], (ends[1:] - ends[0]).T  # columns: what each channel adds at most
    if grey:
        columns = np.diag(ask(np.full((1, 3), CODES))[0] - black)
    if not np.isfinite(ends).all() or abs(np.linalg.det(columns)) < 1e-9:
        return None
    found: list[Curve] = []
    exact = True
    for channel in range(1 if grey else 3):

        def share(codes: np.ndarray, channel: int = channel) -> np.ndarray:
            """How much of a channel's light there is at its codes: 0 at 0, 1 at 65535."""
            colours = np.zeros((len(codes), 3))
            colours[:, channel] = codes
            column = columns.sum(axis=1) if grey else columns[:, channel]
            largest = int(np.abs(column).argmax())
            return (ask(colours)[:, largest] - black[largest]) / column[largest]

        curve = _curve(share)
        if curve is None:
            return None
        same = next((c for c in found if _alike(c, curve)), curve)
        found.append(same)
        exact = exact and _returns(curve)
    curves = tuple(found * 3 if grey else found)
    made = Shaper(
        curves,  # type: ignore[arg-type]
        torch.from_numpy(columns),
        torch.from_numpy(black.copy())[:, None],
        exact,
    )
    codes = np.random.default_rng(0).integers(0, CODES + 1, (2048, 3))
    codes = codes[:, :1].repeat(3, 1) if grey else codes
    ours = SRGB.encode(made.light(torch.from_numpy(codes.T / CODES)))
    theirs = SRGB.encode(torch.from_numpy(ask(codes).T.copy()))
    agree = float((ours - theirs).abs().max()) * CODES <= _AGREES
    return made if agree else None


def _curve(share: Callable[[np.ndarray], np.ndarray]) -> Curve | None:
    """The curve behind `share`, None where it does not rise."""
    light = share(_COARSE)
    if not np.isfinite(light).all() or (np.diff(light) < -1e-4).any():
        return None
    numbers = _COARSE / CODES
    middle = int(np.searchsorted(light, 0.2).clip(1, len(light) - 2))
    if not 0 < light[middle] < 1:
        return None
    power = math.log(light[middle]) / math.log(numbers[middle])
    # Round numbers first, those of older files in 256ths: equal channels then have one curve.
    powers = (round(power, 2), round(power * 256) / 256, round(power * 65536) / 65536)
    known = (*_KNOWN, *map(_stored, _KNOWN), *(Curve(g) for g in powers if 0.2 < g < 8))

    def bends(curve: Curve) -> np.ndarray:
        return curve.encode(torch.from_numpy(light.clip(0, 1))).numpy() - numbers

    def misses(curve: Curve) -> float:
        """In codes: of its own, and of another channel that the matrix leaves next to dark."""
        lit = curve.decode(torch.from_numpy(numbers)).numpy() - light
        return CODES * max(np.abs(bends(curve)).max(), np.abs(lit).max() / SRGB.c)

    off = [misses(curve) for curve in known]
    curve = known[next((i for i, o in enumerate(off) if o < _SAME), int(np.argmin(off)))]
    if min(off) < _NEAR:
        return curve
    codes = np.arange(CODES + 1)
    numbers, light = codes / CODES, share(codes).clip(0, 1)
    bent = np.maximum.accumulate(curve.encode(torch.from_numpy(light)).numpy())
    back = np.interp(numbers, bent, numbers)
    return Curve(
        curve.g,
        curve.a,
        curve.b,
        curve.c,
        curve.d,
        torch.from_numpy(bent - numbers),
        torch.from_numpy(back - numbers),
    )


def _alike(one: Curve, other: Curve) -> bool:
    """Whether two curves may be taken as one, which is faster."""
    if (one.g, one.a, one.c, one.d) != (other.g, other.a, other.c, other.d):
        return False
    if one.bend is None or other.bend is None:
        return one.bend is other.bend
    return bool((one.bend - other.bend).abs().max() * CODES < _SAME)


def _returns(curve: Curve) -> bool:
    if curve.bend is None:
        return True
    numbers = torch.arange(CODES + 1, dtype=torch.float64) / CODES
    return float((curve.encode(curve.decode(numbers)) - numbers).abs().max()) * CODES < _RETURNS


def by_tables(values: Tensor, source: bytes, target: bytes, intent: str) -> Tensor:
    """(3, n) colours through Little CMS in float32, not clipped; grey profiles take the first.

    Raises:
        PictureError: a profile without tables for this direction.
    """
    pixels = np.ascontiguousarray(values.numpy().T, np.float32)
    if source[16:20] == b"GRAY":
        pixels = pixels[:, :1]
    found = profiles.transform(pixels, source, target, intent)
    if found.shape[1] == 1:
        found = np.repeat(found, 3, axis=1)
    return torch.from_numpy(np.ascontiguousarray(found.T)).to(values.dtype)
