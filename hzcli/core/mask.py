"""Soft masks: where they are, and how the result is laid over the source."""

from __future__ import annotations

import numpy as np

ROWS, COLUMNS = 32, 512  # that are looked at together


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of the pixels above 0 of an (h, w) mask; None if there are none.

    >>> import numpy as np
    >>> bounding_box(np.array([[0, 0, 0], [0, 1, 2]]))
    (1, 2, 1, 3)
    """
    top, bottom = _ends(mask, ROWS)
    if top == bottom:
        return None
    left, right = _ends(mask[top:bottom].T, COLUMNS)
    return top, bottom, left, right


def _ends(mask: np.ndarray, step: int) -> tuple[int, int]:
    """First and last row (exclusive) that has something; from outside inwards, and no further."""
    for start in range(0, len(mask), step):
        rows = mask[start : start + step]
        if rows.max():  # at the speed of memory, unlike any()
            some = np.flatnonzero(rows.any(axis=1))
            break
    else:
        return 0, 0
    for stop in range(len(mask), 0, -step):
        low = max(0, stop - step)
        rows = mask[low:stop]
        if rows.max():
            last = np.flatnonzero(rows.any(axis=1))
            break
    return start + int(some[0]), low + int(last[-1]) + 1
