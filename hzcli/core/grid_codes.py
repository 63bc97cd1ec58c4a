"""From 16-bit codes to 16-bit codes by maps from a coarse grid, on a CPU, a part at a time.

What all such maps have in common: which rows and columns of the grid a part of a picture lies
between, threads, and the native kernels of large pictures (native.py).

Shapes: C numbers of a cell, T taps of an interpolation, (h, w) pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Executor

import numpy as np
import torch
from torch import Tensor

from hzcli.core import native
from hzcli.core.codes import blocks, widen
from hzcli.core.sampling import Mode, places, taps
from hzcli.core.sharing import shared
from hzcli.core.window import Window

PART = 512  # rows that a thread takes at a time
KEPT = 1024  # parts' taps along an axis that are kept


class GridCodes(ABC):
    """Maps of one picture, made ready for codes. Threads may share it; torch should take no
    further ones in them.

    Args:
        kind: of native kernel. told: numbers that it wants to know, by name.
        columns: that a thread takes at a time.
        cells: (gh, C, gw) float32, finite. mode, aligned: how pixels lie among them.
        strength: share of the new colour in a pixel that the mask holds whole.
    """

    def __init__(
        self,
        kind: native.Kind,
        cells: Tensor,
        mode: Mode,
        aligned: bool,
        strength: float,
        columns: int,
        **told: float,
    ) -> None:
        self._kind, self._told, self._columns = kind, told, columns
        self._cells = cells.contiguous().numpy()
        self._mode, self._aligned = mode, aligned
        self._strength = strength
        self._known: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def _part(self, rows: np.ndarray, mask: np.ndarray, window: Window) -> None:
        """`recolour` without a kernel, for what a thread takes at a time."""

    def recolour(
        self,
        rows: np.ndarray,
        mask: np.ndarray,
        window: Window,
        pool: Executor | None = None,
        large: bool = False,
        codes: np.ndarray | None = None,
    ) -> None:
        """Recolour rows of a picture, where the mask is above 0.

        Args:
            rows: (h, w, 3) uint16, the source, and afterwards the result. mask: (h, w) uint8 or
                uint16, full scale inside. window: which part of the picture these are.
            pool: threads to share the work; they change no byte.
            large: whether the picture is worth a native kernel.
            codes: (h, w, 3) uint8 or uint16, the source as it was read; then `rows` need not hold
                it.
        """
        parts = [
            (slice(top, min(top + PART, len(rows))), columns)
            for top in range(0, len(rows), PART)
            for _, columns in blocks(1, rows.shape[1], self._columns)
        ]

        def work(part: tuple[slice, slice]) -> None:
            if codes is not None:
                widen(codes[part], rows[part])
            if not mask[part].any():
                return
            top, left = window.top + part[0].start, window.left + part[1].start
            height, width = mask[part].shape
            here = Window(top, top + height, left, left + width, window.size)
            with torch.inference_mode():  # which holds for a thread
                if large and native.kernel(self._kind) is not None:
                    wide, index, weight = (t.numpy() for t in self._wide(here))
                    kernel = native.maps(self._kind, wide, index, weight, **self._told)
                    kernel.recolour(rows[part], mask[part], self._strength)
                else:
                    self._part(rows[part], mask[part], here)

        shared(work, parts, pool)

    def _wide(self, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        """Maps at a window's columns, on the rows of the grid that its rows lie between.

        Returns:
            (rows of the grid, C, w); which of these and in what shares, (T, h) each.
        """
        index, weight = self._taps(window.top, window.bottom, window.size.height, 0)
        first = int(index.min())
        near = self._cells[first : int(index.max()) + 1]
        columns, shares = self._taps(window.left, window.right, window.size.width, 2)
        # By numpy: torch takes ten times as long to select columns.
        parts = [torch.from_numpy(near.take(x, 2, mode="clip")) for x in columns.numpy()]
        wide = parts[0].mul_(shares[0])
        for part, share in zip(parts[1:], shares[1:], strict=True):
            wide.addcmul_(part, share)
        return wide, index - first, weight

    def _taps(self, start: int, stop: int, whole: int, axis: int) -> tuple[Tensor, Tensor]:
        """Of pixels [start, stop) of `whole` along an axis of the maps: see `sampling.taps`."""
        key = start, stop, whole, axis
        known = self._known.get(key)
        if known is None:  # parts beside and below each other ask for the same ones
            cells = self._cells.shape[axis]
            place = places(start, stop, whole, cells, align_corners=self._aligned)
            index, weight = taps(place, cells, self._mode)
            if len(self._known) > KEPT:
                self._known.clear()
            known = self._known[key] = index, weight.float()
        return known
