"""The classical baseline: the foreground gets the background's statistics in CIE L*a*b*.

Reinhard et al., "Color Transfer between Images" (IEEE CG&A 2001), in L*a*b* as harmonisation
papers quote it: per channel x -> (x - mean_f) std_b / std_f + mean_b, with the soft mask's weights
for the foreground's mean and deviation and what it leaves for the background's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hzcli.core.window import Window, bands
from hzcli.metrics import share_of
from hzcli.train.recolour import lab_to_rgb, rgb_to_lab

BAND_PIXELS = 1 << 20
LEAST_DEVIATION = 0.5  # a flat foreground would be blown up to noise


class Reinhard:
    """A reader of the composite after that transfer: 16-bit rows; two looks at each pixel.

    reader, mask: of the composite; they stay the caller's to close.
    """

    depth = 16

    def __init__(self, reader: Any, mask: Any) -> None:
        self.size = reader.size
        self._reader, self._mask = reader, mask
        self._scale, self._shift = self._statistics()

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Factor and summand a channel; those of the identity where a side is empty."""
        weight = np.zeros(2)
        sums, squares = np.zeros((2, 3)), np.zeros((2, 3))
        for window in bands(self.size, max(1, BAND_PIXELS // self.size.width)):
            lab = self._lab(window).reshape(3, -1)
            inside = share_of(self._mask.read(window)).reshape(-1)
            for side, part in enumerate((inside, 1 - inside)):
                weight[side] += part.sum(dtype=np.float64)
                sums[side] += (lab * part).sum(axis=1, dtype=np.float64)
                squares[side] += (lab * lab * part).sum(axis=1, dtype=np.float64)
        if not weight.all():
            return torch.ones(3), torch.zeros(3)
        mean = sums / weight[:, None]
        deviation = np.sqrt(np.maximum(squares / weight[:, None] - mean**2, 0))
        scale = deviation[1] / np.maximum(deviation[0], LEAST_DEVIATION)
        shift = mean[1] - mean[0] * scale
        return torch.from_numpy(scale).float(), torch.from_numpy(shift).float()

    def _rgb(self, window: Window) -> torch.Tensor:
        """(1, 3, h, w) float32, [0, 1]."""
        codes = self._reader.read(window)
        return torch.from_numpy(share_of(codes).transpose(2, 0, 1)[None].copy()).clamp(0, 1)

    def _lab(self, window: Window) -> np.ndarray:
        return rgb_to_lab(self._rgb(window))[0].numpy()

    def read(self, window: Window) -> np.ndarray:
        """(h, w, 3) uint16: the composite, with the transfer where the mask is."""
        rgb = self._rgb(window)
        mask = torch.from_numpy(share_of(self._mask.read(window)))[None, None]
        if not mask.any():
            out = rgb
        else:
            lab = rgb_to_lab(rgb) * self._scale[None, :, None, None]
            like = lab_to_rgb(lab + self._shift[None, :, None, None]).clamp(0, 1)
            out = rgb + mask * (like - rgb)
        codes = (out[0] * 65535).round().numpy().astype(np.uint16)
        return np.ascontiguousarray(codes.transpose(1, 2, 0))
