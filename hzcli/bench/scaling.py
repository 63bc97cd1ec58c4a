"""How cost grows with the picture: a line through what was measured, and its drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hzcli.core.window import Size
from hzcli.errors import UsageError

STEPS = (1, 3)  # a decade
ASPECT = 3 / 2


def sizes(megapixels: float) -> list[Size]:
    """Pictures of 3:2 from 1 megapixel on, half a decade apart, the last one as asked.

    >>> [(s.width, s.height) for s in sizes(3)]
    [(1224, 816), (2120, 1414)]
    """
    wanted: list[float] = []
    decade = 1.0
    while decade < megapixels:
        wanted += [decade * step for step in STEPS if decade * step < megapixels * 0.8]
        decade *= 10
    return [_size(value) for value in [*wanted, megapixels]]


def _size(megapixels: float) -> Size:
    width = round(math.sqrt(megapixels * 1e6 * ASPECT) / 2) * 2
    return Size(round(width / ASPECT), width)


def growth(rows: Sequence[Mapping[str, Any]], what: str) -> dict[str, float] | None:
    """The exponent by which CPU time grows with masked pixels: 1 is linear.

    Args:
        rows: lines of the report. what: "apply" or "total".

    Returns:
        exponent: slope of the line through the logarithms. seconds_by_megapixel: CPU-seconds
        for each masked megapixel of the largest picture. spread: the dearest megapixel by the
        cheapest one. None for fewer than two pictures.
    """
    points = [(row["masked_megapixels"], row["cpu"][what]) for row in rows]
    points = [(x, y) for x, y in points if x > 0 and y > 0]
    if len(points) < 2:
        return None
    logs = [(math.log(x), math.log(y)) for x, y in points]
    x0, y0 = (sum(p[i] for p in logs) / len(logs) for i in (0, 1))
    around = sum((x - x0) ** 2 for x, _ in logs)
    each = [y / x for x, y in points]
    return {
        "exponent": sum((x - x0) * (y - y0) for x, y in logs) / around,
        "seconds_by_megapixel": each[-1],
        "spread": max(each) / min(each),
    }


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw CPU-seconds by masked megapixels into a file, PNG if its name says nothing else.

    Raises:
        UsageError: matplotlib is not installed, or cannot write such a file.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "--plot needs matplotlib", "Install it: pip install matplotlib, or leave --plot out."
        ) from None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    top = 0.0
    for (model, what), line in _lines(rows).items():
        x, y = zip(*sorted(line), strict=True)
        style = {"codec-only": ":", "total": "-"}.get(what, "--")
        axes.plot(x, y, style, marker="o", markersize=4, label=f"{model}, {what}".lstrip(", "))
        top = max(top, y[-1] / x[-1])
    inside = [row["masked_megapixels"] for row in rows]
    ends = min(inside), max(inside)
    axes.plot(ends, [top * end for end in ends], color="0.8", zorder=0, label="linear")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("megapixels inside the mask")
    axes.set_ylabel("CPU-seconds")
    axes.grid(True, which="major", color="0.92")
    axes.legend(frameon=False)
    try:
        figure.savefig(path, dpi=144)
    except (OSError, ValueError) as error:
        raise UsageError(f"--plot {path} cannot be written ({error})", "Name a .png.") from error


def _lines(
    rows: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        x = row["masked_megapixels"]
        for what in ("total", "apply"):
            lines.setdefault((row["model"], what), []).append((x, row["cpu"][what]))
        lines.setdefault(("", "codec-only"), []).append((x, row["codec"]["cpu"]))
    return lines
