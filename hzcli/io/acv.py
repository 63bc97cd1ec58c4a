""".acv files: Photoshop's Curves, points that a natural cubic spline passes through.

Adobe Photoshop File Formats Specification, "Curves": big-endian 16-bit numbers; version 4, the
count of curves (all channels together, then red, green, blue), and for each the count of its
points, 2 to 19, and the points, output before input, 0 to 255.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from hzcli.errors import LookError
from hzcli.io import atomic

MOST_POINTS = 19
VERSION = 4
# Levels between two points. Splines overshoot between near ones, and programs differ there; so
# they are near only where a curve cannot be met otherwise.
GAPS = (8, 4)
_CLOSE = 0.25  # of a level: nearer than this, one more point is wasted, for they are whole levels


def write_acv(path: Path, curves: np.ndarray) -> float:
    """Write curves for the three channels.

    Where a curve has more than 19 points, or falls between those that Photoshop knows (whole
    8-bit levels), up to 19 are chosen whose spline comes nearest to it.

    Args:
        curves: (3, n, 2), points (input, output) of red, green and blue, [0, 1]; inputs rise,
            and the curve is linear between them.

    Returns:
        Largest distance between curve and spline, in 8-bit levels.

    Raises:
        LookError: what is given is no curve. OSError: the file cannot be written.
    """
    curves = np.asarray(curves, np.float64)
    if curves.ndim != 3 or curves.shape[0] != 3 or curves.shape[1] < 2 or curves.shape[2] != 2:
        raise LookError(f"curves are an array {curves.shape}, expected (3, n, 2)")
    if not np.isfinite(curves).all() or (np.diff(curves[..., 0]) < 0).any():
        raise LookError("a curve's inputs do not rise", "Sort its points by input.")
    parts = [struct.pack(">HH", VERSION, 4), struct.pack(">5H", 2, 0, 0, 255, 255)]
    furthest = 0.0
    for points in curves:
        chosen, distance = _choose(points)
        furthest = max(furthest, distance)
        parts.append(struct.pack(">H", len(chosen)))
        parts += [struct.pack(">HH", int(output), int(at)) for at, output in chosen]
    with atomic.beside(Path(path)) as temporary:
        temporary.write_bytes(b"".join(parts))
    return furthest


def read_acv(path: Path) -> list[np.ndarray]:
    """The curves of a file, each (n, 2) of (input, output) in [0, 1]: all, red, green, blue.

    Raises:
        LookError: unreadable.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise LookError(f"{path} cannot be opened: {error.strerror}", "Check the path.") from error
    try:
        version, count = struct.unpack_from(">HH", data, 0)
        at, curves = 4, []
        for _ in range(count):
            (points,) = struct.unpack_from(">H", data, at)
            numbers = struct.unpack_from(f">{2 * points}H", data, at + 2)
            curves.append(np.array(numbers, float).reshape(-1, 2)[:, ::-1] / 255)
            at += 2 + 4 * points
    except struct.error as error:
        raise LookError(f"{path} is cut short: {error}", "Save the curves again.") from error
    good = all(2 <= len(c) <= MOST_POINTS and 0 <= c.min() <= c.max() <= 1 for c in curves)
    if version not in (1, VERSION) or not curves or not good:
        raise LookError(f"{path} holds no curves of Photoshop's", "Save the curves again.")
    return curves


def spline(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The natural cubic spline through points (n, 2), inputs rising, held level beyond the ends.

    Its second derivatives are 0 at both ends and follow from the smoothness of the first
    inside (a tridiagonal system).
    """
    x, y = points.T
    n, h = len(x), np.diff(x)
    slope = np.diff(y) / h
    system, right = np.eye(n), np.zeros(n)
    for i in range(1, n - 1):
        system[i, i - 1 : i + 2] = h[i - 1], 2 * (h[i - 1] + h[i]), h[i]
        right[i] = 6 * (slope[i] - slope[i - 1])
    bend = np.linalg.solve(system, right)
    at = np.clip(at, x[0], x[-1])
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, n - 2)
    low, high = at - x[k], x[k + 1] - at
    cubic = (bend[k] * high**3 + bend[k + 1] * low**3) / (6 * h[k])
    linear = (y[k] / h[k] - bend[k] * h[k] / 6) * high
    return cubic + linear + (y[k + 1] / h[k] - bend[k + 1] * h[k] / 6) * low


def _choose(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Whole levels (n, 2) whose spline is near to a curve, and its largest distance in levels."""
    tries = []
    for gap in GAPS:
        tries.append(_grow(points, gap))
        if tries[-1][1] <= 1:
            break
    return min(tries, key=lambda one: one[1])


def _grow(points: np.ndarray, gap: int) -> tuple[np.ndarray, float]:
    """Begin with the ends, and add the level where the spline is furthest off, again and again."""
    levels = np.arange(256.0)
    wanted = np.clip(np.interp(levels / 255, points[:, 0], points[:, 1]) * 255, 0, 255)
    own = np.unique(np.rint(np.clip(points[:, 0], 0, 1) * 255).astype(int))
    # A curve that begins late or ends early is held level there, by the readers as by us.
    chosen = [int(own[0]), int(own[-1])] if len(own) > 1 else [0, 255]
    best, nearest = np.empty((0, 2)), np.inf
    while True:
        at = np.array(sorted(chosen))
        candidate = np.stack([at, np.rint(wanted[at])], 1)
        got = np.clip(spline(candidate, levels), 0, 255)
        distances = np.abs(got - wanted)
        if distances.max() < nearest:
            best, nearest = candidate, float(distances.max())
        near = np.abs(levels[:, None] - at).min(1) < gap
        if len(chosen) == MOST_POINTS or nearest < _CLOSE or near.all():
            return best, nearest
        chosen.append(int(np.argmax(np.where(near, -1, distances))))
