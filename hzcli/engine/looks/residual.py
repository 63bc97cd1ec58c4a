"""How far a look is from the picture that it stands for: in 8-bit levels and as Delta E 2000."""

from __future__ import annotations

from typing import Any

import numpy as np

from hzcli.engine.looks.spaces import D65, SRGB

BINS = 64  # a side, of the colours that are told apart
LEVEL_BINS = 64  # to an 8-bit level
DELTA_BINS = 100  # to a unit of Delta E
DELTA_MOST = 100  # beyond it, all colours count as equally far


def cielab(srgb: np.ndarray) -> np.ndarray:
    """sRGB-encoded colours (..., 3) as CIE L*a*b* under D65 (CIE 15:2004), float64."""
    x, y = D65
    white = np.array([x / y, 1, (1 - x - y) / y])
    ratio = SRGB.decode(srgb) @ SRGB.to_xyz().T / white
    step = 6 / 29
    f = np.where(ratio > step**3, np.cbrt(ratio), ratio / (3 * step**2) + 4 / 29)
    fx, fy, fz = np.moveaxis(f, -1, 0)
    return np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=-1)


def delta_e_2000(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """CIEDE2000 of L*a*b* colours (..., 3), weights 1 (Sharma, Wu and Dalal 2005)."""
    l1, a1, b1 = np.moveaxis(one, -1, 0)
    l2, a2, b2 = np.moveaxis(two, -1, 0)
    mean7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    g = 0.5 * (1 - np.sqrt(mean7 / (mean7 + 25.0**7)))  # eq. 4
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.arctan2(b1, a1) % (2 * np.pi), np.arctan2(b2, a2) % (2 * np.pi)  # eq. 7
    grey = c1 * c2 == 0
    turn = h2 - h1
    turn = turn - 2 * np.pi * np.sign(turn) * (np.abs(turn) > np.pi)  # eq. 10
    dl, dc, dh = l2 - l1, c2 - c1, 2 * np.sqrt(c1 * c2) * np.sin(turn / 2)  # eqs. 8, 9, 11
    l_mean, c_mean, total = (l1 + l2) / 2, (c1 + c2) / 2, h1 + h2
    wrapped = np.where(total < 2 * np.pi, total + 2 * np.pi, total - 2 * np.pi)
    h_mean = np.where(np.abs(h1 - h2) > np.pi, wrapped, total) / 2  # eq. 14
    h_mean = np.where(grey, total, h_mean)
    t = (
        1
        - 0.17 * np.cos(h_mean - np.pi / 6)
        + 0.24 * np.cos(2 * h_mean)
        + 0.32 * np.cos(3 * h_mean + np.pi / 30)
        - 0.20 * np.cos(4 * h_mean - 63 * np.pi / 180)
    )  # eq. 15
    bend = np.pi / 6 * np.exp(-(((np.degrees(h_mean) - 275) / 25) ** 2))  # eq. 16
    c7 = c_mean**7
    rc = 2 * np.sqrt(c7 / (c7 + 25.0**7))  # eq. 17
    away = (l_mean - 50) ** 2
    sl = 1 + 0.015 * away / np.sqrt(20 + away)  # eqs. 18 to 20
    sc, sh = 1 + 0.045 * c_mean, 1 + 0.015 * c_mean * t
    rt = -np.sin(2 * bend) * rc  # eq. 21
    dl, dc, dh = dl / sl, dc / sc, dh / sh
    return np.sqrt(np.maximum(dl**2 + dc**2 + dh**2 + rt * dc * dh, 0))


class Spread:
    """Mean, median, 99th percentile and maximum of values that come in parts."""

    def __init__(self, bins: int, most: int) -> None:
        self._bins, self._most = bins, most
        self._counts = np.zeros(bins * most + 1, np.int64)
        self._sum, self._max = 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Values of any shape, 0 or more."""
        if not values.size:
            return
        places = np.minimum(values * self._bins, len(self._counts) - 1).astype(np.int64)
        self._counts += np.bincount(places.ravel(), minlength=len(self._counts))
        self._sum += float(values.sum(dtype=np.float64))
        self._max = max(self._max, float(values.max()))

    def figures(self) -> dict[str, float]:
        """Percentiles are right to a bin, and given as its middle."""
        count = int(self._counts.sum())
        if not count:
            return {"mean": 0.0, "median": 0.0, "p99": 0.0, "max": 0.0}
        sums = np.cumsum(self._counts)
        middle, high = (
            min((int(np.searchsorted(sums, share * count)) + 0.5) / self._bins, self._max)
            for share in (0.5, 0.99)
        )
        return {"mean": self._sum / count, "median": middle, "p99": high, "max": self._max}


def binned(rgb: np.ndarray, size: int = BINS) -> np.ndarray:
    """Which of size^3 bins each colour (N, 3), [0, 1], belongs to: (N,)."""
    place = np.clip((rgb * size).astype(np.int64), 0, size - 1)
    return place @ np.array([size**2, size, 1])


class Residual:
    """The distance of colours delivered by a look from those that hz delivers."""

    def __init__(self) -> None:
        self.pixels = 0
        self._levels = Spread(LEVEL_BINS, 255)
        self._deltas = Spread(DELTA_BINS, DELTA_MOST)
        self._square = 0.0
        self._bins = np.zeros((4, BINS**3))  # pixels of a colour, sum of their errors

    def add(self, wanted: np.ndarray, found: np.ndarray, source: np.ndarray) -> None:
        """Pixels (N, 3) of both, sRGB-encoded, held in [0, 1] as files hold them; and what they
        were made from."""
        wanted, found = np.clip(wanted, 0, 1), np.clip(found, 0, 1)
        error = found - wanted
        self.pixels += len(wanted)
        self._levels.add(255 * np.abs(error))
        self._deltas.add(delta_e_2000(cielab(wanted), cielab(found)))
        self._square += float((error**2).sum())
        index = binned(source)
        for sums, values in zip(self._bins, (np.ones(len(error)), *error.T), strict=True):
            sums += np.bincount(index, values, BINS**3)

    def figures(self) -> dict[str, Any]:
        """{"levels" | "delta_e": {"mean", "median", "p99", "max"}, "by_place"}.

        Levels are of single channels, 0 to 255; Delta E 2000 is of pixels. by_place: share of
        the squared error that differs between pixels of one colour, which no table can take
        away; the rest, 0 to 1, is a table's fault.
        """
        count, *sums = self._bins
        by_colour = float(sum((s**2 / np.maximum(count, 1)).sum() for s in sums))
        return {
            "levels": self._levels.figures(),
            "delta_e": self._deltas.figures(),
            "by_place": max(0.0, 1 - by_colour / self._square) if self._square else 0.0,
        }
