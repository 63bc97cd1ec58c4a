"""Affine colour maps from 16-bit codes to 16-bit codes, on a CPU.

A block of pixels goes the whole way while a core's cache holds it: to float32, through the
matrices, by the mask between old and new, rounded once; of large pictures by a native kernel,
where there is one. The matrices are scaled to codes before. What is not in the mask is not looked
at, and keeps its code.

Shapes: T taps of an interpolation, (h, w) pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hzcli.core.affine import AffineMap
from hzcli.core.codes import WHITE
from hzcli.core.grid_codes import GridCodes
from hzcli.core.window import Window

BLOCK = 8, 2048  # rows and columns at once
TRIMMED = 64  # columns beside the mask that are worth being left out


class CodedMaps(GridCodes):
    """An `AffineMap` of finite numbers, made ready for codes."""

    def __init__(self, transform: AffineMap, strength: float = 1.0) -> None:
        maps = transform.maps.detach().float().clone()
        maps[:, 3::4] = maps[:, 3::4] * WHITE + 0.5  # cutting off is rounding then
        cells = maps[0].movedim(0, 1)
        aligned = transform.align_corners
        super().__init__("maps", cells, transform.mode, aligned, strength, BLOCK[1])
        self._own = threading.local()

    def _part(self, rows: np.ndarray, mask: np.ndarray, window: Window) -> None:
        top = np.iinfo(mask.dtype).max
        for block, maps, weights in self._blocks(window):
            held = mask[block]
            some = (held.max(axis=0) != 0).tobytes()  # bytes are searched fastest
            left, right = some.find(1), some.rfind(1) + 1
            if left < 0:
                continue
            if left + len(some) - right < TRIMMED:
                left, right = 0, len(some)
            held, pixels = held[:, left:right], rows[block, left:right]
            if right - left < len(some):
                maps = tuple(x[..., left:right] for x in maps)
            old, new, several = self._room(held.shape, len(weights))
            planes = old.numpy()
            for c in range(3):  # numpy is slow at pixels of three
                np.copyto(planes[c], pixels[..., c])
            torch.addcmul(maps[3], maps[0], old[0], out=several)
            torch.addcmul(several, maps[1], old[1], out=several)
            torch.addcmul(several, maps[2], old[2], out=several)
            if len(weights) == 2:
                torch.lerp(several[0], several[1], weights[1], out=new)
            else:
                torch.mul(several[0], weights[0], out=new)
                for value, weight in zip(several[1:], weights[1:], strict=True):
                    torch.addcmul(new, weight, value, out=new)
            new.clamp_(0.5, WHITE + 0.5)
            if self._strength != 1 or held.min() != top:
                soft = np.multiply(held, np.float32(self._strength / top), dtype=np.float32)
                torch.lerp(old, new.sub_(0.5), torch.from_numpy(soft), out=new).add_(0.5)
            planes = new.numpy()
            for c in range(3):
                np.copyto(pixels[..., c], planes[c], casting="unsafe")

    def _blocks(self, window: Window) -> Iterator[tuple[slice, tuple[Tensor, ...], Tensor]]:
        """A window's rows between the same rows of the grid, a block's at a time.

        Yields:
            Which rows of the window; four times what the colours and 1 are to be multiplied with,
            (T, 3, 1, w); the taps' weights (T, h, 1).
        """
        wide, index, weight = self._wide(window)
        weight = weight.unsqueeze(-1)  # (T, h, 1)
        cell = index.T.tolist()
        ends = [y for y in range(1, len(cell)) if cell[y] != cell[y - 1]]
        for top, bottom in pairwise([0, *ends, len(cell)]):
            maps = wide[cell[top]].unflatten(1, (3, 4)).unsqueeze(3).unbind(2)
            count = -(-(bottom - top) // BLOCK[0])
            step = -(-(bottom - top) // count)  # as even as can be
            for start in range(top, bottom, step):
                rows = slice(start, min(start + step, bottom))
                yield rows, maps, weight[:, rows]

    def _room(self, shape: tuple[int, ...], count: int) -> tuple[Tensor, Tensor, Tensor]:
        """For a block's colours, old and new, (3, h, w), and what each tap makes of the old,
        (T, 3, h, w)."""
        if not hasattr(self._own, "room"):
            self._own.room = torch.empty(2 + count, 3 * BLOCK[0] * BLOCK[1])
            self._own.views = {}
        views = self._own.views
        if shape not in views:
            if len(views) > 64:
                views.clear()
            flat = self._own.room.view(-1)
            pixels = 3 * shape[0] * shape[1]
            old, new = flat[: 2 * pixels].view(2, 3, *shape)
            views[shape] = old, new, flat[2 * pixels :][: count * pixels].view(count, 3, *shape)
        return views[shape]
