"""Pictures made by rule, and the orientations as the TIFF specification words them."""

from __future__ import annotations

import numpy as np

# TIFF 6.0, tag 274: the visual side at which row 0 lies, and the one at which column 0 lies.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def smooth(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    """(h, w, 3): red rises to the right, green downwards, blue falls along the diagonal.

    Smooth, so that it survives JPEG, and different in all eight orientations.
    """
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / max(1, height - 1), x / max(1, width - 1)
    picture = np.stack([x, y, 1 - (0.3 * x + 0.7 * y)], axis=-1)
    return np.round(picture * np.iinfo(dtype).max).astype(dtype)


def rough(height: int, width: int, channels: int, dtype: type, seed: int = 0) -> np.ndarray:
    """(h, w, channels) random codes over the full range: no error can hide in it."""
    codes = np.random.default_rng(seed)
    return codes.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels that a camera would store for `upright`, pixel by pixel from `SIDES`."""
    height, width = upright.shape[:2]

    def along(side: str, count: np.ndarray) -> np.ndarray:
        return count if side in ("top", "left") else -1 - count

    row_side, column_side = SIDES[orientation]
    if row_side in ("top", "bottom"):
        i, j = np.mgrid[0:height, 0:width]
        return upright[along(row_side, i), along(column_side, j)]
    i, j = np.mgrid[0:width, 0:height]
    return upright[along(column_side, j), along(row_side, i)]
