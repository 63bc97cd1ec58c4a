"""Soft masks: where they are, and how the result is laid over the source."""

from __future__ import annotations

import numpy as np


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of the pixels above 0 of an (h, w) mask; None if there are none.

    >>> import numpy as np
    >>> bounding_box(np.array([[0, 0, 0], [0, 1, 2]]))
    (1, 2, 1, 3)
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
