"""From codes to codes: a Transform's answer, blended into one band of rows by the soft mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hzcli.core.mask import bounding_box
from hzcli.core.transform import Transform
from hzcli.core.window import Window
from hzcli.engine.plan import cuts
from hzcli.errors import ModelError

# Bins of the histogram of change: 16 to an 8-bit level.
BINS = 255 * 16


@dataclass(frozen=True)
class Band:
    """Rows as read: `window` is the rows to deliver, `seen` those that the Transform sees.

    codes: (seen rows, W, 3). mask: (seen rows, W), None in rows that it does not touch and
    nobody compares. truth: (rows, W, 3) or None.
    """

    window: Window
    seen: Window
    codes: np.ndarray
    mask: np.ndarray | None
    truth: np.ndarray | None

    def own(self, seen: np.ndarray) -> np.ndarray:
        """The rows to deliver of an array that holds the rows seen."""
        return seen[self.window.inside(self.seen)[0]]


def widen(codes: np.ndarray, out: np.ndarray) -> None:
    """Copy codes as 16 bits: 8-bit ones times 257, which takes 0..255 to 0..65535 exactly."""
    if codes.dtype == np.uint8:
        np.multiply(codes, np.uint16(257), out=out, dtype=np.uint16)
    else:
        np.copyto(out, codes)


class Recolour:
    """Applies a Transform inside the mask. Holds buffers that each tile uses again."""

    def __init__(
        self,
        transform: Transform,
        strength: float,
        device: torch.device,
        scales: Sequence[float],
    ) -> None:
        self._transform = transform
        self._reach = transform.reach
        self._strength = strength
        self._device = device
        self._rgb_scale, self._mask_scale = (np.float32(scale) for scale in scales)
        self._buffers: dict[str, np.ndarray] = {}
        self._histogram = np.zeros(BINS + 1, np.int64)
        self._total = 0.0

    def band(self, band: Band, rows: np.ndarray, tile_columns: int) -> None:
        """Recolour `rows` (h, W, 3), which hold the source, where the mask is above 0."""
        assert band.mask is not None
        mask = band.own(band.mask)
        box = bounding_box(mask)
        if box is None:
            return
        top, bottom, left, right = box
        for start, stop in cuts(left, right, tile_columns):
            part = bounding_box(mask[top:bottom, start:stop])
            if part is not None:
                at = band.window.top + top
                tile = Window(
                    at + part[0], at + part[1], start + part[2], start + part[3], band.window.size
                )
                self._tile(band, tile, rows)

    def _tile(self, band: Band, tile: Window, rows: np.ndarray) -> None:
        window = tile.grow(self._reach.halo, self._reach.align)
        assert band.mask is not None
        r, c = window.inside(band.seen)
        codes, mask_codes = band.codes[r, c], band.mask[r, c]
        rgb = self._buffer("rgb", (3, *mask_codes.shape))
        np.multiply(codes.transpose(2, 0, 1), self._rgb_scale, out=rgb, dtype=np.float32)
        mask = self._buffer("mask", mask_codes.shape)
        np.multiply(mask_codes, self._mask_scale, out=mask, dtype=np.float32)
        source = torch.from_numpy(rgb)[None].to(self._device)
        soft = torch.from_numpy(mask)[None, None].to(self._device)
        result = self._transform.apply(source, soft, window)
        inner = (..., *tile.inside(window))
        source, soft, result = source[inner], soft[inner], result[inner]
        change = self._change(result.shape)
        torch.clamp(result, 0, 1, out=change)
        change -= source
        change *= soft if self._strength == 1 else soft * self._strength
        self._count(change)
        change += source
        change *= 65535
        change += 0.5  # and cut off below: the one rounding, to the nearest code
        new = change[0].cpu().numpy().transpose(1, 2, 0)
        out = rows[tile.inside(band.window)]
        # Where the mask is 0 the source's code stays, whatever the Transform says there.
        inside = mask_codes[tile.inside(window)] > 0
        np.copyto(out, new, casting="unsafe", where=inside[..., None])

    def _count(self, change: Tensor) -> None:
        """Add to the histogram. Outside the mask `change` is 0; `change` subtracts that."""
        size = change.abs()
        total = float(size.sum(dtype=torch.float32))
        if not np.isfinite(total):
            raise ModelError(
                "the model's colours are not all finite numbers",
                "The weights may be damaged: install them again, or try another model",
            )
        self._total += total
        counts = torch.histc(size, BINS + 1, 0, 1 + 1 / BINS)
        self._histogram += counts.cpu().numpy().astype(np.int64)

    def change(self, inside: int) -> tuple[float, float]:
        """Mean and 99th percentile of |change| in 8-bit levels, over `inside` pixels."""
        values = 3 * inside
        counts = self._histogram.copy()
        counts[0] -= counts.sum() - values
        rank = np.searchsorted(np.cumsum(counts), 0.99 * values)
        return self._total / values * 255, float(rank) / BINS * 255

    def _buffer(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        needed = int(np.prod(shape))
        if name not in self._buffers or self._buffers[name].size < needed:
            self._buffers[name] = np.empty(needed, np.float32)
        return self._buffers[name][:needed].reshape(shape)

    def _change(self, shape: torch.Size) -> Tensor:
        if self._device.type == "cpu":
            return torch.from_numpy(self._buffer("change", tuple(shape)))
        return torch.empty(shape, device=self._device)
