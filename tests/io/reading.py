"""Pictures read back, whole and in bands; files cut off and damaged, which have to be refused."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from hzcli.core.window import Window, bands
from hzcli.errors import HzError, PictureError
from hzcli.io.picture import open_picture, peek

# Bands of so many rows: neither a strip's nor a tile's height.
ROWS = 17
# Damaged heads may tell of large pictures, whose pixels need not be looked at.
MOST_PIXELS = 1 << 20


def read_whole(path: Path, opened: Callable[..., Any] = open_picture, **options: Any) -> np.ndarray:
    """All pixels; in bands they are the same."""
    with opened(path, **options) as reader:
        whole = reader.read(Window.whole(reader.size)).copy()
        for window in bands(reader.size, ROWS):
            assert np.array_equal(reader.read(window), whole[window.top : window.bottom])
        return whole


def read_alpha(path: Path) -> np.ndarray:
    with open_picture(path) as reader:
        assert reader.has_alpha
        return reader.read_alpha(Window.whole(reader.size))


def refused_when_cut(path: Path, lengths: Collection[int]) -> int:
    """How many lengths of a file are refused, with words; at all others its pixels are whole."""
    whole, data, refused = read_whole(path).copy(), path.read_bytes(), 0
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        try:
            assert np.array_equal(read_whole(path), whole), f"{length} of {len(data)} bytes"
        except PictureError as error:
            refused += 1
            assert str(path) in error.message
            assert error.hint
    return refused


def check_damaged(path: Path, trials: int, head: int) -> None:
    """Random bytes changed: right, wrong or refused, but no exception other than ours.

    Every second trial hits the first `head` bytes, where the structure is.
    """
    data, places = path.read_bytes(), np.random.default_rng(0)
    for trial in range(trials):
        broken = bytearray(data)
        end = len(data) if trial % 2 else min(len(data), head)
        for place in places.integers(0, end, 1 + trial % 4):
            broken[place] = places.integers(0, 256)
        path.write_bytes(broken)
        try:
            if peek(path).size.pixels < MOST_PIXELS:
                read_whole(path)
        except HzError as error:
            assert str(path) in error.message
