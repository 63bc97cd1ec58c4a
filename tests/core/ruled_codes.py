"""Pictures and masks in codes, by rule, and a law of all maps from code to code."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hzcli.core.grid_codes import GridCodes
from hzcli.core.window import Size, Window

SIZE = Size(150, 203)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def picture(size: Size = SIZE) -> np.ndarray:
    """With rows of nothing but black and nothing but white, where it is high enough."""
    codes = (random(size.height, size.width, 3) * 65536).astype(np.uint16)
    codes[60:61], codes[61:62] = 0, 65535
    return codes


def mask(dtype: type, size: Size = SIZE) -> np.ndarray:
    """Nothing at the left, all at the right, every share between them; and rows of nothing."""
    shares = np.clip(np.linspace(-1, 2, size.width), 0, 1) * np.iinfo(dtype).max
    found = np.tile(shares.astype(dtype), (size.height, 1))
    found[20:50] = 0
    return found


def same_in_parts(make: Callable[[], GridCodes], cut: Callable[[], None], large: bool) -> None:
    """Windows, threads, and what `cut` does to how work is divided, change no byte."""
    codes, held = picture(), mask(np.uint8)
    wanted, got = codes.copy(), codes.copy()
    make().recolour(wanted, held, Window.whole(SIZE), large=large)
    assert not np.array_equal(wanted, codes)
    cut()
    maps = make()
    with ThreadPoolExecutor(3) as pool:
        for top, bottom, left, right in (
            (0, 71, 0, 203),
            (71, 72, 0, 203),
            (72, 150, 0, 130),
            (72, 150, 130, 203),
        ):
            part = np.s_[top:bottom, left:right]
            window = Window(top, bottom, left, right, SIZE)
            maps.recolour(got[part], held[part], window, pool, large)
    assert np.array_equal(got, wanted)
    empty = np.full_like(codes, 4711)
    maps.recolour(empty, held, Window.whole(SIZE), large=large, codes=codes)
    assert np.array_equal(empty, wanted)
