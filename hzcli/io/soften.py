"""Values of a mask between its pixels: another size, and a soft edge. Any window at any time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from hzcli.core.window import Size, Window

# Columns feathered at once: where a tile and its surroundings are one value, so is the result.
_TILE = 256


class Resized:
    """Values (h, w) in [0, 1], brought to another size by a separable filter.

    Pixel centres are kept: target i lies at (i + 0.5) * step - 0.5. Growing, "bilinear" mixes two
    neighbours and "lanczos" six; shrinking, the filter is widened by the step, so that every pixel
    counts. It is cut at the border and adds up to 1 everywhere. Lanczos overshoots beside hard
    edges: what leaves [0, 1] is clipped.
    """

    def __init__(self, values: Any, size: Size, kind: str) -> None:
        self.size = size
        self._values, self._kind = values, kind

    def read(self, window: Window) -> np.ndarray:
        size = self._values.size
        down, rows = taps(size.height, self.size.height, window.top, window.bottom, self._kind)
        across, columns = taps(size.width, self.size.width, window.left, window.right, self._kind)
        seen = Window(
            int(down.min()), int(down.max()) + 1, int(across.min()), int(across.max()) + 1, size
        )
        values = self._values.read(seen)
        # Rows are quick to gather: first where that leaves fewer of them.
        if size.height > self.size.height:
            values = _mixed(values, down - seen.top, rows, axis=0)
            values = _mixed(values, across - seen.left, columns, axis=1)
        else:
            values = _mixed(values, across - seen.left, columns, axis=1)
            values = _mixed(values, down - seen.top, rows, axis=0)
        return values.clip(0, 1, out=values)


def _mixed(values: np.ndarray, at: np.ndarray, shares: np.ndarray, axis: int) -> np.ndarray:
    """Sums of `values` taken at `at` (n, k) times `shares` (n, k) along an axis."""
    shape = (len(values), len(at)) if axis else (len(at), values.shape[1])
    total, part = np.zeros(shape, np.float32), np.empty(shape, np.float32)
    for tap in range(at.shape[1]):
        share = shares[:, tap]
        # "clip" takes into `part` itself; no index is outside.
        np.take(values, at[:, tap], axis=axis, out=part, mode="clip")
        part *= share if axis else share[:, None]
        total += part
    return total


def taps(
    source: int, target: int, start: int, stop: int, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """Which of `source` pixels add to each of the targets [start, stop), and how much.

    Returns:
        Indices (n, k) and float32 shares (n, k), which add up to 1.
    """
    step = source / target
    wide = max(1.0, step)
    support = wide * (1 if kind == "bilinear" else 3)
    centre = (np.arange(start, stop)[:, None] + 0.5) * step - 0.5
    pixel = np.ceil(centre - support).astype(np.int64) + np.arange(math.ceil(2 * support) + 1)
    offset = (pixel - centre) / wide
    if kind == "bilinear":
        shares = np.maximum(1 - np.abs(offset), 0)
    else:
        shares = np.where(np.abs(offset) < 3, np.sinc(offset) * np.sinc(offset / 3), 0)
    shares[(pixel < 0) | (pixel >= source)] = 0
    shares /= shares.sum(axis=1, keepdims=True)
    used = shares.any(axis=0)
    return pixel.clip(0, source - 1)[:, used], shares[:, used].astype(np.float32)


class Feathered:
    """Values (h, w) in [0, 1] with soft edges, by a Gaussian of deviation `pixels` / 2.

    It is cut off three standard deviations away, and 19 parts in 20 of an edge lie within `pixels`
    to each side. Outside the picture the border's values go on, so that a foreground that the
    border cuts is not faded there.
    """

    def __init__(self, values: Any, pixels: float) -> None:
        self.size = values.size
        self._values = values
        self._weights = gaussian(pixels / 2)
        self.reach = len(self._weights) // 2

    def read(self, window: Window) -> np.ndarray:
        reach, seen = self.reach, window.grow(self.reach)
        values = self._values.read(seen)
        above, below = reach - window.top + seen.top, reach - seen.bottom + window.bottom
        values = np.pad(values, ((above, below), (0, 0)), mode="edge")
        out = np.empty((window.height, window.width), np.float32)
        down = _sliding(self._weights, window.height)
        across = _sliding(self._weights, _TILE).T
        for left, right, level in self._runs(window, values, seen.left):
            columns = slice(left - window.left, right - window.left)
            if level is not None:
                out[:, columns] = level
                continue
            near = Window(window.top, window.bottom, left, right, self.size).grow(reach)
            part = values[:, near.left - seen.left : near.right - seen.left]
            edges = (reach - left + near.left, reach - near.right + right)
            part = down @ np.pad(part, ((0, 0), edges), mode="edge")
            for start in range(0, right - left, _TILE):
                wide = min(_TILE, right - left - start)
                tile = part[:, start : start + wide + 2 * reach]
                at = columns.start + start
                out[:, at : at + wide] = tile @ across[: wide + 2 * reach, :wide]
        return out.clip(0, 1, out=out)

    def _runs(
        self, window: Window, values: np.ndarray, first: int
    ) -> Iterator[tuple[int, int, float | None]]:
        """Columns (left, right, level) side by side; level: of all they see, if it is one."""
        start: int | None = None
        for left in range(window.left, window.right, _TILE):
            right = min(left + _TILE, window.right)
            seen = values[:, max(left - self.reach - first, 0) : right + self.reach - first]
            if seen.min() != seen.max():
                start = left if start is None else start
                continue
            if start is not None:
                yield start, left, None
                start = None
            yield left, right, float(seen[0, 0])
        if start is not None:
            yield start, window.right, None


def gaussian(deviation: float) -> np.ndarray:
    """Weights (2 n + 1,) float64 of the pixels up to three deviations away; they add up to 1."""
    reach = math.floor(3 * deviation)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    return weights / weights.sum()


def _sliding(weights: np.ndarray, count: int) -> np.ndarray:
    """`weights` from each of `count` places on: (count, count + len(weights) - 1) float32."""
    matrix = np.zeros((count, count + len(weights) - 1), np.float32)
    for place in range(count):
        matrix[place, place : place + len(weights)] = weights
    return matrix
