"""Pass one: the whole picture, seen once, row by row, to make what the network looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window, bands

# Rows read at once hold about this many pixels. Fixed, not planned: the sums, and with them
# the network's answer, are the same whatever the memory allowed.
READ_PIXELS = 1 << 19


class Reader(Protocol):
    """What the engine asks of a picture or a mask: rows, in the file's own depth."""

    size: Size
    depth: int

    def read(self, window: Window) -> np.ndarray: ...


@dataclass(frozen=True)
class Survey:
    """What one look at a picture and its mask gives.

    box: (top, bottom, left, right) of the pixels with mask > 0, None if there are none.
    foreground: mean of the soft mask, [0, 1]. inside: number of pixels with mask > 0.
    lowest: smallest value of the mask, [0, 1].
    """

    thumbnail: Thumbnail
    box: tuple[int, int, int, int] | None
    foreground: float
    inside: int
    lowest: float


def make(reader: Reader, mask_reader: Reader, edge: int) -> Survey:
    """Reduce a picture and its mask to squares of `edge` pixels; the aspect is squashed.

    Args:
        reader: gives (h, w, 3) uint8 or uint16. mask_reader: gives (h, w), of the same size.
        edge: height and width of the thumbnail.

    Returns:
        The thumbnail, rgb (1, 3, edge, edge) and mask (1, 1, edge, edge), float32, [0, 1], and
        where and how much foreground there is.
    """
    size = reader.size
    across = weights(size.width, edge).T  # (W, edge)
    rgb = np.zeros((edge, 3, edge), np.float32)
    mask = np.zeros((edge, 1, edge), np.float32)
    full = (1 << mask_reader.depth) - 1
    height = max(1, min(size.height, READ_PIXELS // size.width))
    buffer = np.empty(height * size.width * 3, np.float32)
    rows_hit = np.zeros(size.height, bool)
    columns_hit = np.zeros(size.width, bool)
    total = inside = 0
    lowest = full
    for window in bands(size, height):
        codes = mask_reader.read(window)
        columns_high = codes.max(axis=0)
        columns_hit |= columns_high > 0
        rows_hit[window.top : window.bottom] = codes.max(axis=1) > 0
        lowest = min(lowest, int(codes.min()))
        if columns_high.any():  # else this band adds nothing to the mask
            total += int(codes.sum(dtype=np.uint64))
            inside += int(np.count_nonzero(codes))
            _add(mask, codes[..., None], 1 / full, window, across, buffer)
        _add(rgb, reader.read(window), 1 / ((1 << reader.depth) - 1), window, across, buffer)
    thumb = Thumbnail(
        rgb=torch.from_numpy(np.ascontiguousarray(rgb.transpose(1, 0, 2)))[None],
        mask=torch.from_numpy(np.ascontiguousarray(mask.transpose(1, 0, 2)))[None],
        full=size,
    )
    box = None
    if inside:
        rows, columns = np.flatnonzero(rows_hit), np.flatnonzero(columns_hit)
        box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return Survey(thumb, box, total / full / size.pixels, inside, lowest / full)


def _add(
    out: np.ndarray,
    codes: np.ndarray,
    scale: float,
    window: Window,
    across: np.ndarray,
    buffer: np.ndarray,
) -> None:
    """Add the part of a band (h, W, c) to the thumbnail (edge, c, edge)."""
    height, width, channels = codes.shape
    values = buffer[: codes.size].reshape(codes.shape)
    np.multiply(codes, np.float32(scale), out=values, dtype=np.float32)
    down, first = _weights_of_rows(window.size.height, out.shape[0], window.top, window.bottom)
    # Rows first: that is the large reduction, and it leaves the columns contiguous.
    part = _product(down, values.reshape(height, -1)).reshape(-1, width, channels)
    out[first : first + len(down)] += _product(part.transpose(0, 2, 1), across)


def resize(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area mean where the picture shrinks, bilinear where it grows, each axis by itself.

    Args:
        array: (h, w, c), any real type; its scale is kept.

    Returns:
        (height, width, c) float32.
    """
    down, across = weights(array.shape[0], height), weights(array.shape[1], width)
    values = array.astype(np.float32)
    part = _product(down, values.reshape(len(array), -1)).reshape(height, *array.shape[1:])
    return np.ascontiguousarray(_product(part.transpose(0, 2, 1), across.T).transpose(0, 2, 1))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b by torch, whose threads sleep while they wait; those of numpy's BLAS spin."""
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


def weights(source: int, target: int) -> np.ndarray:
    """How much each of `source` pixels in a line adds to each of `target`.

    Shrinking, a target pixel is a box of source / target pixels and counts the part of each
    that it covers. Growing, the box would be narrower than a pixel and the picture a staircase:
    neighbours are mixed by the distance of the pixel centres instead, held at the border.

    Returns:
        (target, source) float32; rows add up to 1.
    """
    return _weights_of_rows(source, target, 0, source)[0]


def _weights_of_rows(source: int, target: int, start: int, stop: int) -> tuple[np.ndarray, int]:
    """The columns [start, stop) of `weights`, without the rows that are 0 above and below.

    Returns:
        (rows, stop - start) float32, and the index of the first row kept.
    """
    pixel = np.arange(start, stop)
    if source >= target:
        # Whole numbers up to the division, so that no part is lost to rounding: all borders
        # are multiples of 1 / target.
        first, last = start * target // source, -(-stop * target // source)
        cell = np.arange(first, last)[:, None]
        right = np.minimum((cell + 1) * source, (pixel + 1) * target)
        left = np.maximum(cell * source, pixel * target)
        return (np.maximum(right - left, 0) / source).astype(np.float32), first
    centre = (np.arange(target)[:, None] + 0.5) * (source / target) - 0.5
    distance = np.abs(centre.clip(0, source - 1) - pixel)
    return np.maximum(1 - distance, 0).astype(np.float32), 0
