"""Soft masks: where they are, and how the result is laid over the source."""

from __future__ import annotations

import numpy as np

ROWS = 32  # that are looked at together
SAMPLED = 64  # one row of so many tells about where the sides are ..
NEAR = 64  # .. and so many columns beside are looked at one by one


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of the pixels above 0 of an (h, w) mask; None if there are none.

    >>> import numpy as np
    >>> bounding_box(np.array([[0, 0, 0], [0, 1, 2]]))
    (1, 2, 1, 3)
    """
    top, bottom = _ends(mask)
    if top == bottom:
        return None
    part = mask[top:bottom]
    some = np.flatnonzero(part[::SAMPLED].any(axis=0))  # the first row has something
    left, right = int(some[0]), int(some[-1]) + 1
    near = max(0, left - NEAR)
    if part[:, :near].max(initial=0):
        near = 0
    beside = np.flatnonzero(part[:, near:left].any(axis=0))
    left = near + int(beside[0]) if beside.size else left
    near = right + NEAR
    if part[:, near:].max(initial=0):
        near = mask.shape[1]
    beside = np.flatnonzero(part[:, right:near].any(axis=0))
    right += int(beside[-1]) + 1 if beside.size else 0
    return top, bottom, left, right


def _ends(mask: np.ndarray) -> tuple[int, int]:
    """First and last row (exclusive) that has something; from outside inwards, and no further."""
    for start in range(0, len(mask), ROWS):
        rows = mask[start : start + ROWS]
        if rows.max():  # at the speed of memory, unlike any()
            some = np.flatnonzero(rows.any(axis=1))
            break
    else:
        return 0, 0
    for stop in range(len(mask), 0, -ROWS):
        low = max(0, stop - ROWS)
        rows = mask[low:stop]
        if rows.max():
            last = np.flatnonzero(rows.any(axis=1))
            break
    return start + int(some[0]), low + int(last[-1]) + 1
