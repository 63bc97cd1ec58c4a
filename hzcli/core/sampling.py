"""Small maps, resampled at the places of a picture's pixels.

A map of (gh, gw) cells covers a whole picture. Where a pixel lies on it follows from the pixel's
global row and column alone, so that any window gives what the whole picture would, bit for bit:
every value is a sum of products of its own taps, added in a fixed order.

Sources: the conventions are those of torch.nn.functional.interpolate; the cubic kernel is that
of Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981, with A = -0.75.

Letters: B batch, C channels, (gh, gw) cells, (h, w) pixels of a window, T taps.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hzcli.core.window import Window

CUBIC = -0.75  # Keys' A, as torch and OpenCV have it

Mode = Literal["bilinear", "bicubic"]


def places(start: int, stop: int, whole: int, cells: int, *, align_corners: bool) -> Tensor:
    """Where pixels [start, stop) of `whole` lie among `cells`, as fractional indices.

    Returns:
        (stop - start,), float64, on the CPU. With `align_corners` the first and the last pixel
        lie on the first and the last cell; without it, pixels and cells are areas, and places
        reach half a cell beyond the centres of the outermost cells.
    """
    pixel = torch.arange(start, stop, dtype=torch.float64)
    if align_corners:
        # A lone pixel lies on the first cell, as in F.interpolate.
        return pixel * ((cells - 1) / max(whole - 1, 1))
    return (pixel + 0.5) * (cells / whole) - 0.5


def taps(place: Tensor, cells: int, mode: Mode = "bilinear") -> tuple[Tensor, Tensor]:
    """Which cells a place reads, and with which weights; cells beyond the edge are the edge's.

    Args:
        place: (n,), fractional indices, see `places`.

    Returns:
        Indices (T, n), int64, in 0..cells-1, and weights (T, n), float64, that sum to 1.

    Raises:
        ValueError: there is no such mode.
    """
    low = place.floor()
    t = place - low
    if mode == "bilinear":
        reach, weights = [0, 1], [1 - t, t]
    elif mode == "bicubic":
        reach, weights = [-1, 0, 1, 2], [_far(1 + t), _near(t), _near(1 - t), _far(2 - t)]
    else:
        raise ValueError(f"there is no interpolation {mode!r}: bilinear or bicubic")
    index = torch.stack([low.long() + r for r in reach]).clamp_(0, cells - 1)
    return index, torch.stack(weights)


def _near(d: Tensor) -> Tensor:
    """Keys' kernel at distances 0..1."""
    return ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1


def _far(d: Tensor) -> Tensor:
    """Keys' kernel at distances 1..2."""
    return ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC


def resample(
    maps: Tensor,
    dim: Literal[-2, -1],
    span: tuple[int, int],
    whole: int,
    *,
    align_corners: bool,
    mode: Mode = "bilinear",
) -> Tensor:
    """Resample maps along one axis, for pixels [span[0], span[1]) of `whole`.

    Args:
        maps: (..., gh, gw), any floating type.
        dim: the axis, -2 (rows) or -1 (columns).

    Returns:
        `maps` with that axis replaced by the pixels'.
    """
    place = places(*span, whole, maps.shape[dim], align_corners=align_corners)
    index, weight = taps(place, maps.shape[dim], mode)
    index, weight = index.to(maps.device), weight.to(maps)
    if dim == -2:
        weight = weight.unsqueeze(-1)
    # Products and sums one by one, not a matrix product: its rounding would depend on how many
    # pixels are asked for at once.
    out = maps.index_select(dim, index[0]) * weight[0]
    for i, w in zip(index[1:], weight[1:], strict=True):
        out = out + maps.index_select(dim, i) * w
    return out


def upsample(
    maps: Tensor, window: Window, *, align_corners: bool, mode: Mode = "bilinear"
) -> Tensor:
    """Maps that cover a picture, resampled at the pixels of one of its windows.

    Args:
        maps: (B, C, gh, gw). window: which pixels; its `size` is that of the whole picture.
        align_corners, mode: as for F.interpolate; "bilinear" or "bicubic".

    Returns:
        (B, C, h, w): the window's part of F.interpolate(maps, whole size), the same bits
        whatever the window.

    >>> from hzcli.core.window import Size
    >>> whole = Window.whole(Size(1, 3))
    >>> upsample(torch.tensor([[[[0.0, 1.0]]]]), whole, align_corners=True).flatten().tolist()
    [0.0, 0.5, 1.0]
    """
    rows, columns = (window.top, window.bottom), (window.left, window.right)
    size = window.size
    # Rows first: that pass works on the narrow maps.
    out = resample(maps, -2, rows, size.height, align_corners=align_corners, mode=mode)
    return resample(out, -1, columns, size.width, align_corners=align_corners, mode=mode)
