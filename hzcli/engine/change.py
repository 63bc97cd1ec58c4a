"""How much a picture's foreground changed: mean and 99th percentile, of all its rows or of some."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BINS = 255 * 16  # of the histogram: 16 to an 8-bit level
CODES = 1 << 16
# Where the mask holds more pixels than this, one row in some tells ..
COUNTED = 1 << 18
COUNTED_ROWS = 64  # .. in so many at most, and ..
LEAST_ROWS = 64  # .. of at least so many rows.


def rows_counted(box: tuple[int, int, int, int], inside: int) -> int:
    """One row in how many tells how much changed: 1 unless the mask is large.

    Args:
        box: (top, bottom, left, right) of the mask. inside: how many pixels it holds.
    """
    return max(1, min(COUNTED_ROWS, inside // COUNTED, (box[1] - box[0]) // LEAST_ROWS))


class Change:
    """Adds up |result - source| over the pixels with mask above 0.

    Args:
        counted: one row of the picture in so many is looked at.
    """

    def __init__(self, counted: int = 1) -> None:
        self._counted = counted
        self._bins = np.zeros(BINS + 1, np.int64)
        self._codes = np.zeros(CODES, np.int64)
        self._total = 0.0
        self._looked_at = 0  # pixels with mask > 0, in the rows that are counted

    def rows(self, top: int) -> slice:
        """Those that are counted of rows that begin at row `top` of the picture."""
        return slice(-top % self._counted, None, self._counted)

    def meet(self, mask: np.ndarray) -> None:
        """Count the pixels of a mask, in rows that are counted. Outside it the change is 0, which
        may be added, or not."""
        self._looked_at += int(np.count_nonzero(mask))

    def between(self, before: np.ndarray, after: np.ndarray) -> None:
        """Add the change from codes to codes, uint16."""
        size = np.maximum(before, after)
        size -= np.minimum(before, after)
        self._total += int(size.sum(dtype=np.int64)) / (CODES - 1)
        self._codes += np.bincount(size.ravel(), minlength=CODES)

    def of(self, size: Tensor) -> None:
        """Add the size of a change in numbers, 1 for white."""
        # By numpy: the last bits of torch's sums depend on the number of its threads.
        self._total += float(size.cpu().numpy().sum(dtype=np.float32))
        counts = torch.histc(size, BINS + 1, 0, 1 + 1 / BINS)
        self._bins += counts.cpu().numpy().astype(np.int64)

    def figures(self) -> tuple[float, float]:
        """Mean and 99th percentile in 8-bit levels: exact where all rows are counted, else
        estimates."""
        values = max(1, 3 * self._looked_at)
        counts = self._bins.copy()
        np.add.at(counts, (np.arange(CODES) << 4) // 257, self._codes)
        counts[0] -= counts.sum() - values
        rank = np.searchsorted(np.cumsum(counts), 0.99 * values)
        return self._total / values * 255, float(rank) / BINS * 255
