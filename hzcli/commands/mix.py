"""`hz mix`: a look between two looks."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Literal

from hzcli.errors import LookError, UsageError
from hzcli.report import Result

__all__ = ["mix"]


def mix(
    a: Path, b: Path, *, at: float, output: Path | Literal["-"], overwrite: bool = True
) -> Result:
    """Interpolate two looks, node by node: HINet's eq. 4 (arXiv 2303.01681).

    Tables of different sizes are resampled to the larger, trilinear.

    Args:
        a, b: look files of any format.
        at: 0 gives `a`, 1 gives `b`.
        output: a file, whose name says the format, or "-" for a .cube on standard output.

    Returns:
        No rows; the size, and how far apart the two looks are, in 8-bit levels.

    Raises:
        UsageError: `at` is not between 0 and 1, or the output is one of the inputs.
        LookError: a look cannot be read or written.
    """
    if not (math.isfinite(at) and 0 <= at <= 1):
        raise UsageError(
            f"--at {at:g} is not between 0 and 1", "0 is the first look, 1 the second."
        )
    target = None if str(output) == "-" else Path(output)
    for source in (a, b):
        if target is not None and target.exists() and source.exists() and target.samefile(source):
            raise UsageError(f"{target} is one of the looks to mix", "Name another file with -o.")
    if target is not None and target.exists() and not overwrite:
        raise UsageError(f"{target} exists already", "Pass --overwrite, or name another file.")

    import numpy as np

    from hzcli.io import looks

    # Before any reading: a name that says nothing should not cost a wait.
    format = "cube" if target is None else looks.format_of(target)
    one, two = looks.read(Path(a)), looks.read(Path(b))
    look = looks.mixed(one, two, at)
    if look.table is None and format == "hald":
        look = looks.as_table(look)
    try:
        looks.write(look, target or sys.stdout.buffer, format)
    except OSError as error:
        raise LookError(f"{output} cannot be written: {error.strerror or error}") from error
    apart = _distance(np, looks.mixed(one, two, 0), looks.mixed(one, two, 1))
    summary = {"size": look.size, "at": at, "format": format, "apart_mean": apart[0],
               "apart_max": apart[1]}  # fmt: skip
    return Result(
        "mix",
        output=None if target is None else target.parent,
        files=() if target is None else (target,),
        summary=summary,
    )


def _distance(np: object, a: object, b: object) -> tuple[float, float]:
    """Mean and largest difference of two looks at their nodes, in 8-bit levels."""
    x, y = (look.shaper if look.table is None else look.table for look in (a, b))  # type: ignore[attr-defined]
    size = abs(x - y) * 255
    return float(size.mean()), float(size.max())
