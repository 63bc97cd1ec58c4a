"""The curve of a run as a picture, where matplotlib is installed (`pip install hz[train]`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hzcli.io.atomic import beside

# Columns of the history that are errors relative to doing nothing.
LINES = {"ratio": "all", "lut": "table alone", "retouch": "retouches", "transfer": "transfers",
         "given": "given composites"}  # fmt: skip


def curve(history: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draw validation error against steps as a PNG.

    Args:
        history: rows with `step` and some of LINES.

    Returns:
        Whether there was anything to draw, and something to draw it with.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not history:
        return False
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, label in LINES.items():
        points = [(row["step"], row[name]) for row in history if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", label=label,
                      linewidth=2.2 if name == "ratio" else 1.2)  # fmt: skip
    axes.axhline(1, color="0.6", linewidth=1, linestyle="--", label="doing nothing")
    axes.set_ylim(0, 1.1)
    axes.set_xlabel("steps")
    axes.set_ylabel("fMSE relative to doing nothing")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, ncols=2)
    with beside(path) as part:
        figure.savefig(part, format="png")
    return True
