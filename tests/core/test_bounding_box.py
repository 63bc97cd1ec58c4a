"""The box of a mask against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from hzcli.core.mask import COLUMNS, ROWS, bounding_box


def defined(mask: np.ndarray) -> tuple[int, ...] | None:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if rows.size else None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
@pytest.mark.parametrize("dots", [0, 1, 2, 5])
def test_the_box_holds_all_and_nothing_more(dtype: type, dots: int) -> None:
    """Wherever a few dots lie, of pictures around the sizes that are looked at together."""
    rng = np.random.default_rng(dots)
    for _ in range(200):
        height, width = rng.integers(1, 2 * max(ROWS, COLUMNS), 2)
        mask = np.zeros((height, width), dtype)
        mask[rng.integers(0, height, dots), rng.integers(0, width, dots)] = 1
        assert bounding_box(mask) == defined(mask)
